"""Retrieval metrics over ranked documents (trec_eval: Voorhees and Harman 2005), and intervals of their means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2

import numpy as np

RESAMPLES = 2000
SEED = 20261121
ABSTENTIONS = ("abstain_precision", "abstain_recall")


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that search returned, under the URI of a document that holds it."""

    document: str
    text: str
    section: tuple[str, ...] = ()
    score: float = 0.0


def ranked_gains(hits: Sequence[Hit], relevant: Mapping[str, int]) -> list[int]:
    """The grade at each rank of distinct documents, best chunk first; an item counts once."""
    gains: list[int] = []
    rank: dict[str, int] = {}
    left = dict(relevant)
    for hit in hits:
        if hit.document not in rank:
            rank[hit.document] = len(gains)
            gains.append(left.pop(hit.document, 0))
        start = f"{hit.document}#"
        for item in [item for item in left if item.startswith(start) and item[len(start) :] in hit.text]:
            gains[rank[hit.document]] = max(gains[rank[hit.document]], left.pop(item))
    return gains


def query_metrics(hits: Sequence[Hit], relevant: Mapping[str, int]) -> dict[str, float]:
    """The metrics of one answerable query."""
    gains = ranked_gains(hits, relevant)
    found = [rank for rank, gain in enumerate(gains) if gain > 0]
    return {
        "ndcg@10": _dcg(gains[:10]) / _dcg(sorted(relevant.values(), reverse=True)[:10]),
        **{f"recall@{k}": sum(rank < k for rank in found) / len(relevant) for k in (5, 10, 100)},
        **{f"precision@{k}": sum(rank < k for rank in found) / k for k in (1, 5, 10)},
        "mrr@10": 1 / (found[0] + 1) if found and found[0] < 10 else 0.0,
    }


def abstentions(queries: Sequence[tuple[bool, bool]]) -> dict[str, float]:
    """Of (answerable, refused) of each query; a metric that applies to none is not there."""
    refused = [answerable for answerable, is_refused in queries if is_refused]
    unanswerable = sum(not answerable for answerable, _ in queries)
    right = refused.count(False)
    precision = {"abstain_precision": right / len(refused)} if refused else {}
    return precision | ({"abstain_recall": right / unanswerable} if unanswerable else {})


def shown_metrics(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The metrics, with None for those of abstentions that apply to no query."""
    return {**metrics, **{name: metrics.get(name) for name in ABSTENTIONS}}


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean (Efron 1979), with a fixed seed."""
    if not values:
        return 0.0, 0.0
    sample = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    outside = 50 * (1 - confidence)
    low, high = np.percentile(np.asarray(values)[sample].mean(axis=1), [outside, 100 - outside])
    return float(low), float(high)


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / log2(rank + 2) for rank, gain in enumerate(gains))
