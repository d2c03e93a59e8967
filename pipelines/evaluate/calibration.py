"""What is learned on a golden set before a version is published: how to fuse its two legs, and when to abstain.

Both rules are small on purpose. The weight is one of eleven, and the threshold is an order statistic, which keeps its
promise with few questions and without unanswerable ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import NamedTuple

from pipelines.evaluate.golden import Query
from pipelines.evaluate.metrics import Hit, query_metrics

WEIGHTS = tuple(step / 10 for step in range(11))
FEWEST_FOR_WEIGHT = 50  # answerable questions: with fewer, the best of eleven weights is a matter of luck
METRIC = "ndcg@10"
LEAST_SPREAD = 0.01  # where all questions have the same evidence
DIGITS = 6


class Scored(NamedTuple):
    """A chunk that a leg returned, with the documents that hold it."""

    chunk: str
    documents: Sequence[str]
    text: str
    score: float


@dataclass(frozen=True)
class Legs:
    """What dense and lexical search return for a question, each as deep as fusion reads it, best first."""

    question: Query
    dense: Sequence[Scored]
    lexical: Sequence[Scored]


@dataclass(frozen=True)
class Evidence:
    """How near the nearest chunk is (cosine), and the share of the question's weight in words that one chunk has."""

    similarity: float
    coverage: float


def learn_weight(legs: Sequence[Legs]) -> float | None:
    """The share of the dense score in hybrid search that ranks these questions best; None for too few of them.

    0 or 1, which turns fusion off, where the gain over the better leg alone is within one standard error of nothing
    (the rule of Breiman et al. 1984 for the simpler of two models).
    """
    if len(legs) < FEWEST_FOR_WEIGHT:
        return None
    scores = {weight: [_quality(each, weight) for each in legs] for weight in WEIGHTS}
    best = max(WEIGHTS, key=lambda weight: (mean(scores[weight]), -abs(weight - 0.5)))
    leg = max((0.0, 1.0), key=lambda weight: mean(scores[weight]))
    gains = [fused - alone for fused, alone in zip(scores[best], scores[leg], strict=True)]
    return best if mean(gains) > stdev(gains) / math.sqrt(len(gains)) else leg


def fused(legs: Legs, weight: float) -> list[Scored]:
    """The ranking of hybrid search, as `snapdex._hybrid` makes it."""
    total: dict[str, float] = {}
    found: dict[str, Scored] = {}
    for leg, share in ((legs.dense, weight), (legs.lexical, 1 - weight)):
        low, high = (pick((hit.score for hit in leg), default=0.0) for pick in (min, max))
        for hit in leg:
            scaled = (hit.score - low) / (high - low) if high > low else 1.0
            total[hit.chunk] = total.get(hit.chunk, 0.0) + share * scaled
            found[hit.chunk] = hit
    order = sorted(total, key=lambda chunk: (-total[chunk], chunk))
    return [found[chunk]._replace(score=total[chunk]) for chunk in order]


def _quality(legs: Legs, weight: float) -> float:
    ranking = {1.0: legs.dense, 0.0: legs.lexical}.get(weight) or fused(legs, weight)
    hits = [Hit(document, hit.text) for hit in ranking for document in hit.documents]
    return query_metrics(hits, legs.question.relevant)[METRIC]


def learn_threshold(evidence: Sequence[Evidence], false_refusals: float) -> dict[str, float] | None:
    """When to abstain: of answerable questions like these, at most a share `false_refusals` is refused.

    Similarity and coverage are added in units of their spread over answerable questions; below the k-th smallest sum,
    k = (n + 1) * false_refusals, a question is refused. For questions that come from where these came from that share
    holds whatever the distribution is (split conformal prediction: Vovk, Gammerman and Shafer 2005). None where there
    are too few questions to promise it, or nothing is to be refused.
    """
    rank = math.floor((len(evidence) + 1) * false_refusals)
    if rank < 1 or len(evidence) < 2:
        return None
    similarity = _spread([each.similarity for each in evidence])
    coverage = _spread([each.coverage for each in evidence])
    sums = sorted(each.similarity / similarity + each.coverage / coverage for each in evidence)
    threshold = math.floor(sums[rank - 1] * 10**DIGITS) / 10**DIGITS  # the k-th itself is answered
    return {"similarity_spread": similarity, "coverage_spread": coverage, "threshold": threshold}


def _spread(values: Sequence[float]) -> float:
    return round(max(stdev(values), LEAST_SPREAD), DIGITS)


def some(queries: Sequence[Query], most: int) -> list[Query]:
    """At most `most` of the answerable questions: the same ones each time, from all over the set."""
    answerable = sorted((query for query in queries if query.answerable), key=lambda query: query.id)
    return answerable[:: max(1, math.ceil(len(answerable) / most))]
