"""evaluate_model: is a fine-tuned model better than the one in use, and what did it forget?

    data/models/NAME + golden set + off-domain sets  -->  data/metrics/models/NAME.json, NAME.md

Both models answer the same questions over the same passages, every distance computed; no database is asked. Three
models can take part: the candidate, the one that serves (`embed.model`) and the one that training began with.

- `corpora.py`: passages and questions, of the index and of other domains
- `ranking.py`: from texts to rankings
- `decide.py`: whether the candidate is promoted
- `card.py`: the model's page, for people
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config import Config
from pipelines.errors import InputError
from pipelines.evaluate import Evaluation, golden_queries
from pipelines.evaluate.compare import Comparison, compare
from pipelines.evaluate_model.card import page
from pipelines.evaluate_model.corpora import Corpus, in_domain, off_domain
from pipelines.evaluate_model.decide import METRIC, Decision, decide
from pipelines.evaluate_model.ranking import evaluated
from pipelines.files import Workspace, atomic_write, file_sha256
from pipelines.finetune import base_of, model_folder, read_facts
from pipelines.model import canonical_json, digest
from pipelines.models import EmbeddingModel, resolve_model
from pipelines.pairs import HELD_OUT, TRAIN, pairs_folder
from pipelines.progress import Progress, Silent

__all__ = ["Decision", "ModelReport", "Result", "card_file", "conditions", "known_report", "metrics_file", "run"]


@dataclass(frozen=True)
class Result:
    """One corpus: the candidate beside another model.

    `unseen`: over the questions about documents that training had not.
    """

    corpus: str
    in_domain: bool
    passages: int
    against: str
    before: Evaluation
    after: Evaluation
    comparison: Comparison
    unseen: Comparison | None

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "queries": self.comparison.queries,
            "passages": self.passages,
            "against": self.against,
            "before": self.before.metrics.get(METRIC, 0.0),
            "after": self.after.metrics.get(METRIC, 0.0),
            **_difference(self.comparison),
            "wins": self.comparison.wins,
            "losses": self.comparison.losses,
        }
        if self.unseen is not None and self.unseen.queries:
            found["unseen"] = {"queries": self.unseen.queries, **_difference(self.unseen)}
        return found


def _difference(comparison: Comparison) -> dict[str, float]:
    """The mean, and the ends of its interval; zeros where nothing was compared."""
    low, high = comparison.confidence.get(METRIC, (0.0, 0.0))
    return {"difference": comparison.difference.get(METRIC, 0.0), "low": low, "high": high}


@dataclass(frozen=True)
class ModelReport:
    """What `data/metrics/models/NAME.json` says. `measured`: False where it said so before, of the same things."""

    found: dict[str, Any]
    measured: bool
    seconds: float

    @property
    def passed(self) -> bool:
        return bool(self.found["passed"])

    @property
    def against(self) -> str:
        """The name of the model that was in use: what was compared on the first corpus, which is that of the index."""
        first = next(iter(self.found["corpora"].values()))
        return str(first["against"])

    def metrics(self) -> dict[str, float]:
        """The numbers, named CORPUS/before, CORPUS/after, CORPUS/difference."""
        return {
            f"{corpus}/{name}": float(values[name])
            for corpus, values in self.found["corpora"].items()
            for name in ("before", "after", "difference", "low", "high")
        }

    def to_json(self) -> dict[str, Any]:
        return {**self.found, "measured": self.measured, "seconds": round(self.seconds, 1)}


def metrics_file(workspace: Workspace, name: str) -> Path:
    return workspace.root / "data" / "metrics" / "models" / f"{name}.json"


def card_file(workspace: Workspace, name: str) -> Path:
    """The model's page."""
    return metrics_file(workspace, name).with_suffix(".md")


def conditions(config: Config, workspace: Workspace, name: str) -> str:
    """64 hex digits over what a measurement depends on beside the model: questions, passages, the other models."""
    parts = [resolve_model(config.embed, workspace).space, base_of(config, workspace).space]
    golden = golden_queries(config.gate, workspace.root)
    parts += [canonical_json([query.text, query.relevant]) for query in golden]
    parts += [file_sha256(pairs_folder(workspace, name) / file) for file in (TRAIN, HELD_OUT)]
    parts.append(file_sha256(workspace.manifest(config.index.name, "chunks")))
    for place in config.evaluate_model.off_domain:
        parts += [file_sha256(path) for path in sorted((workspace.root / place).rglob("*")) if path.is_file()]
    parts.append(canonical_json([config.evaluate_model.model_dump(), config.gate.min_queries]))
    return digest("evaluate_model 1", *parts).hex()


def run(config: Config, workspace: Workspace, name: str, *, progress: Progress | None = None) -> ModelReport:
    """Measure `data/models/NAME` and write what was found; whether it is promoted is decided here and nowhere else.

    Nothing to do where the same was measured before. Raises `InputError` where there is no such model.
    """
    began = time.perf_counter()
    progress = progress or Silent()
    facts = read_facts(model_folder(workspace, name))
    if facts is None:
        raise InputError(f"there is no model {name}", hint=f"train it: python -m pipelines.finetune --model {name}")
    of = {"fingerprint": facts.fingerprint, "conditions": conditions(config, workspace, name)}
    known = known_report(workspace, name)
    if known.items() >= of.items():
        return ModelReport(known, False, time.perf_counter() - began)
    candidate = resolve_model(config.embed.with_model(f"path:{model_folder(workspace, name)}"), workspace)
    serving, base = resolve_model(config.embed, workspace), base_of(config, workspace)
    home = in_domain(config, workspace, name)
    others = [off_domain(workspace.root / place) for place in config.evaluate_model.off_domain]
    progress.start("evaluate_model", 2 * sum(len(corpus.passages) for corpus in (home, *others)))
    results = [_compared(config, workspace, home, candidate, serving, progress)]
    results += [_compared(config, workspace, other, candidate, base, progress) for other in others]
    decision = decide(results, config)
    found: dict[str, Any] = {
        "model": name,
        **of,
        "passed": decision.passed,
        "outcome": decision.outcome,
        "reason": decision.reason,
        "forgetting": decision.forgetting,
        "corpora": {result.corpus: result.to_json() for result in results},
    }
    atomic_write(card_file(workspace, name), page(name, results, decision, facts, config))
    atomic_write(metrics_file(workspace, name), json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return ModelReport(found, True, time.perf_counter() - began)


def known_report(workspace: Workspace, name: str) -> dict[str, Any]:
    """What was written of the model at its last measurement; nothing where its page or its metrics are not there."""
    try:
        found = json.loads(metrics_file(workspace, name).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) and card_file(workspace, name).exists() else {}


def _compared(
    config: Config,
    workspace: Workspace,
    corpus: Corpus,
    candidate: EmbeddingModel,
    other: EmbeddingModel,
    progress: Progress,
) -> Result:
    before, after = (evaluated(config.embed, workspace, corpus, model, progress) for model in (other, candidate))
    unseen = None
    if corpus.seen:
        unseen = compare(_without(before, corpus.seen), _without(after, corpus.seen), METRIC)
    return Result(
        corpus.name,
        corpus.home,
        len(corpus.passages),
        other.name,
        before,
        after,
        compare(before, after, METRIC),
        unseen,
    )


def _without(evaluation: Evaluation, seen: frozenset[str]) -> Evaluation:
    return Evaluation({}, {}, [each for each in evaluation.asked if each.id not in seen])
