"""Retrieval metrics over ranked documents (definitions as in trec_eval: Voorhees and Harman 2005)."""

from collections.abc import Mapping, Sequence
from math import log2

Hit = tuple[str, str]  # document URI, text of the chunk


def ranked_gains(hits: Sequence[Hit], relevant: Mapping[str, int]) -> list[int]:
    """The grade at each rank of distinct documents, best chunk first; an item counts once."""
    gains: list[int] = []
    rank: dict[str, int] = {}
    left = dict(relevant)
    for document, text in hits:
        if document not in rank:
            rank[document] = len(gains)
            gains.append(left.pop(document, 0))
        for item in [item for item in left if item.startswith(f"{document}#") and item[len(document) + 1 :] in text]:
            gains[rank[document]] = max(gains[rank[document]], left.pop(item))
    return gains


def query_metrics(hits: Sequence[Hit], relevant: Mapping[str, int]) -> dict[str, float]:
    """The metrics of one answerable query."""
    gains = ranked_gains(hits, relevant)
    found = [rank for rank, gain in enumerate(gains) if gain > 0]
    return {
        "ndcg@10": _dcg(gains[:10]) / _dcg(sorted(relevant.values(), reverse=True)[:10]),
        **{f"recall@{k}": sum(rank < k for rank in found) / len(relevant) for k in (5, 10, 100)},
        "precision@5": sum(rank < 5 for rank in found) / 5,
        "mrr@10": 1 / (found[0] + 1) if found and found[0] < 10 else 0.0,
    }


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / log2(rank + 2) for rank, gain in enumerate(gains))
