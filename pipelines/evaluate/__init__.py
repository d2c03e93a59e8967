"""evaluate: retrieval quality of a version on a golden set, and the gate that compares two versions.

The caller passes the search: this package knows queries, rankings and numbers, and no database.

    golden.py    queries with what answers them      compare.py   two evaluations side by side, and the gate
    metrics.py   rankings to numbers                 page.py      an evaluation as an HTML page
    results.py   what an evaluation finds            outputs.py   what `dvc metrics` and `dvc plots` show
    check.py     what is wrong with a golden set     draft.py     questions for a person to judge
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from textwrap import shorten

import numpy as np

from pipelines.evaluate.compare import Comparison, compare, gate
from pipelines.evaluate.golden import Query, golden_queries, missing_documents, read_golden, training_queries
from pipelines.evaluate.metrics import Hit, abstentions, interval, query_metrics
from pipelines.evaluate.results import Asked, Evaluation, Returned
from pipelines.progress import Progress, Silent

__all__ = [
    "Answer",
    "Asked",
    "Comparison",
    "Evaluation",
    "Hit",
    "Query",
    "Returned",
    "compare",
    "evaluate",
    "gate",
    "golden_queries",
    "missing_documents",
    "read_golden",
    "training_queries",
]

DEPTH = 200  # chunks asked for: enough for 100 distinct documents in most corpora
TIMED = 50  # queries of which latency is measured
SHOWN = 5  # documents that are kept of an answer
WORDS = 160  # characters of a chunk that are kept with them


@dataclass(frozen=True)
class Answer:
    """What a search returned, best first, and whether it would rather not have answered."""

    hits: Sequence[Hit]
    abstained: bool


Search = Callable[[str, int], Answer]  # of a query, so many chunks


def evaluate(
    queries: Sequence[Query],
    search: Search,
    *,
    as_reader: Callable[[str], object] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask every query and score the rankings.

    `as_reader`: one search as readers make it, timed on up to 50 queries spread over the set; without it there is no
    latency among the metrics.
    """
    progress = progress or Silent()
    progress.start("evaluate", len(queries))
    latencies = _milliseconds(queries, as_reader) if as_reader else []
    asked = []
    for query in queries:
        asked.append(_asked(query, search(query.text, DEPTH)))
        progress.advance()
    answerable = [each.metrics for each in asked if each.answerable]
    values = {name: [each[name] for each in answerable] for name in (answerable[0] if answerable else ())}
    metrics = {name: mean(each) for name, each in values.items()}
    metrics |= abstentions([(each.answerable, each.abstained) for each in asked])
    if latencies:
        metrics["latency_p50_ms"], metrics["latency_p95_ms"] = (float(x) for x in np.percentile(latencies, [50, 95]))
    return Evaluation(metrics, {name: interval(each) for name, each in values.items()}, asked)


def _asked(query: Query, answer: Answer) -> Asked:
    best: dict[str, Hit] = {}
    for hit in answer.hits:
        best.setdefault(hit.document, hit)
    return Asked(
        query.id,
        query.text,
        query.answerable,
        answer.abstained,
        query_metrics(answer.hits, query.relevant) if query.answerable else {},
        sorted(query.relevant),
        [
            Returned(hit.document, hit.section, shorten(hit.text, WORDS, placeholder=" …"), hit.score)
            for hit in list(best.values())[:SHOWN]
        ],
    )


def _milliseconds(queries: Sequence[Query], as_reader: Callable[[str], object]) -> list[float]:
    latencies = []
    for query in queries[:: -(-len(queries) // TIMED)]:
        began = time.perf_counter()
        as_reader(query.text)
        latencies.append((time.perf_counter() - began) * 1000)
    return latencies
