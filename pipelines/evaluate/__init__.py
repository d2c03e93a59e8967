"""evaluate: retrieval quality of a version on a golden set, and the gate that compares two versions.

The caller passes the search: this package knows queries, rankings and numbers, and no database. `outputs.py` writes
what `dvc metrics` and `dvc plots` show.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from pipelines.config import GateConfig
from pipelines.evaluate.golden import Query, golden_queries, read_golden, training_queries
from pipelines.evaluate.metrics import Hit, query_metrics
from pipelines.progress import Progress, Silent

__all__ = ["Evaluation", "Query", "evaluate", "gate", "golden_queries", "read_golden", "training_queries"]

DEPTH = 200  # chunks asked for: enough for 100 distinct documents in most corpora
RESAMPLES = 2000
SEED = 20261121

Search = Callable[[str, int], Sequence[Hit]]  # query and k to (document, text), best first


@dataclass(frozen=True)
class Evaluation:
    """Metrics over the queries, their 95 % bootstrap intervals, and the values of each answerable query by id."""

    queries: int
    metrics: dict[str, float]
    confidence: dict[str, tuple[float, float]]
    per_query: dict[str, dict[str, float]]


def evaluate(queries: Sequence[Query], search: Search, progress: Progress | None = None) -> Evaluation:
    """Ask every query and score the rankings. A query is abstained from when the search returns nothing."""
    progress = progress or Silent()
    progress.start("evaluate", len(queries))
    per_query: dict[str, dict[str, float]] = {}
    latencies: list[float] = []
    abstained: list[bool] = []
    for query in queries:
        began = time.perf_counter()
        hits = search(query.text, DEPTH)
        latencies.append((time.perf_counter() - began) * 1000)
        abstained.append(not hits)
        if query.answerable:
            per_query[query.id] = query_metrics(hits, query.relevant)
        progress.advance()
    names = list(next(iter(per_query.values()), {}))
    metrics = {name: mean(values[name] for values in per_query.values()) for name in names}
    confidence = {name: _interval([values[name] for values in per_query.values()]) for name in names}
    refused = [query.answerable for query, silent in zip(queries, abstained, strict=True) if silent]
    unanswerable = sum(not query.answerable for query in queries)
    metrics["abstain_precision"] = refused.count(False) / len(refused) if refused else 0.0
    metrics["abstain_recall"] = refused.count(False) / unanswerable if unanswerable else 0.0
    metrics["latency_p50_ms"], metrics["latency_p95_ms"] = (float(x) for x in np.percentile(latencies, [50, 95]))
    return Evaluation(len(queries), metrics, confidence, per_query)


def gate(candidate: Evaluation, active: Evaluation, config: GateConfig) -> dict[str, object]:
    """Whether the candidate may be published: its metric is at most `gate.tolerance` below that of the active one.

    Returns what decided: metric, both values, difference with its paired 95 % interval, and `passed`.
    """
    shared = sorted(candidate.per_query.keys() & active.per_query.keys())
    differences = [candidate.per_query[q][config.metric] - active.per_query[q][config.metric] for q in shared]
    difference = mean(differences) if differences else 0.0
    return {
        "metric": config.metric,
        "candidate": candidate.metrics.get(config.metric, 0.0),
        "active": active.metrics.get(config.metric, 0.0),
        "difference": difference,
        "confidence": _interval(differences),
        "tolerance": config.tolerance,
        "queries": len(shared),
        "passed": difference >= -config.tolerance,
    }


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean (Efron 1979), with a fixed seed."""
    if not values:
        return 0.0, 0.0
    sample = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.asarray(values)[sample].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
