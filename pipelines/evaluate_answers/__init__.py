"""evaluate_answers: what the answers of `ask` are worth on a golden set.

    golden set --ask--> answers  -->  metrics with intervals, and every answer with what is wrong with it

What can be counted is counted; what only a reader can tell is asked of a second model, if one is named.

- `score.py`: what one answer is worth        - `judge.py`: the second model
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np

from pipelines.ask import Answer, Answerer
from pipelines.config import Config
from pipelines.evaluate import Query
from pipelines.evaluate.metrics import abstentions, interval
from pipelines.evaluate_answers.judge import Judge
from pipelines.evaluate_answers.score import WRONG, scores, wrong
from pipelines.files import Workspace
from pipelines.index import open_index
from pipelines.progress import Progress, Silent

__all__ = ["AnswersReport", "Scored", "run"]


@dataclass(frozen=True)
class Scored:
    """One question, its answer, the metrics that apply, and the first thing that is wrong with it, if any."""

    query: Query
    answer: Answer
    metrics: dict[str, float]
    problem: str

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.query.id,
            "question": self.query.text,
            "documents": sorted(self.query.relevant),
            "expected": list(self.query.answers),
            "answer": self.answer.answer,
            "cited": list(dict.fromkeys(each.document for each in self.answer.citations)),
            "metrics": self.metrics,
            "problem": self.problem,
        }


@dataclass(frozen=True)
class AnswersReport:
    """`metrics`: means over the questions to which each applies; latency in milliseconds, tokens and cost of a
    question. `confidence`: the ends of the 95 % interval of a mean."""

    version: int
    model: str
    judge: str
    metrics: dict[str, float]
    confidence: dict[str, tuple[float, float]]
    scored: list[Scored]

    @property
    def problems(self) -> dict[str, int]:
        """How often what is wrong."""
        return {kind: count for kind in WRONG if (count := sum(each.problem == kind for each in self.scored))}


def run(
    config: Config,
    workspace: Workspace,
    queries: Sequence[Query],
    version: int,
    *,
    judge: str = "",
    progress: Progress | None = None,
) -> AnswersReport:
    """Ask each question and score the answer. judge: a name as in `generate.model`, or none.

    Raises what `Answerer.ask` raises; nothing is kept of an evaluation that was cut off.
    """
    progress = progress or Silent()
    settings = config.model_copy(update={"generate": config.generate.greedy()})
    scored: list[Scored] = []
    with (
        open_index(config.index.name, workspace=workspace.root, config=settings, log=False) as reader,
        Answerer(settings, workspace) as answerer,
        Judge(settings, workspace, judge) as judging,
    ):
        reader.search(queries[0].text, at=version)  # loads the model, whose time is no answer's
        progress.start("ask", len(queries))
        for query in queries:
            answer = answerer.ask(reader, query.text, at=version)
            metrics = scores(query, answer) | judging.judged(query, answer)
            scored.append(Scored(query, answer, metrics, wrong(query, answer, metrics)))
            progress.advance()
    values: dict[str, list[float]] = {}
    for each in scored:
        for name, value in each.metrics.items():
            values.setdefault(name, []).append(value)
    metrics = {name: mean(each) for name, each in values.items()} | _spent(scored)
    confidence = {name: interval(each) for name, each in values.items()}
    return AnswersReport(version, scored[0].answer.model, judge, metrics, confidence, scored)


def _spent(scored: Sequence[Scored]) -> dict[str, float]:
    """Abstentions as for search, time, tokens and cost."""
    p50, p95 = (float(each) for each in np.percentile([1000 * each.answer.seconds for each in scored], [50, 95]))
    return {
        **abstentions([(each.query.answerable, each.answer.abstained) for each in scored]),
        "latency_p50_ms": p50,
        "latency_p95_ms": p95,
        "tokens": mean(each.answer.tokens for each in scored),
        "cost": mean(each.answer.cost for each in scored),
    }
