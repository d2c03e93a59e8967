"""Retrieval only where the model alone is not confident: which questions those are, and what that is worth.

The model answers alone first; the mean log probability of its answer is its confidence; one that says that it does not
know has none. Below a threshold, search runs and the model answers again. Half of the questions choose the threshold,
the other half say what it is worth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

import numpy as np

from pipelines.compare.answers import Answered, System
from pipelines.examples.checks import is_refusal
from pipelines.model import digest

NAME = "speculative"
LEAST = 4  # questions; fewer cannot be halved
SHARES = 10  # steps of the curve
UNSURE = -100.0  # the confidence of an answer that says it is none; no mean of log probabilities is as low


@dataclass(frozen=True)
class Point:
    """`retrievals`: the share of the questions that were searched for."""

    threshold: float
    retrievals: float
    quality: float


@dataclass(frozen=True)
class Pair:
    """One question answered alone, and with sources."""

    alone: Answered
    with_sources: Answered

    @property
    def confidence(self) -> float:
        assert self.alone.confidence is not None
        return UNSURE if is_refusal(self.alone.text) else self.alone.confidence

    def quality(self, threshold: float) -> float:
        return (self.with_sources if self.confidence < threshold else self.alone).worth.quality


def halves(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Always the same two for the same questions."""
    ranked = sorted(pairs, key=lambda pair: digest("speculative", pair.alone.question.id))
    return ranked[::2], ranked[1::2]


def best_threshold(pairs: Sequence[Pair]) -> float:
    """Of the best mean quality; of equal ones that with the fewest searches."""
    thresholds = [-math.inf, *sorted({pair.confidence for pair in pairs}), math.inf]
    return max(thresholds, key=lambda each: (mean(pair.quality(each) for pair in pairs), -each))


def curve(learned: Sequence[Pair], judged: Sequence[Pair]) -> list[Point]:
    """Quality against the share of searches on `judged`, with thresholds at the quantiles of `learned`."""
    confidences = [pair.confidence for pair in learned]
    inner = np.quantile(confidences, np.arange(1, SHARES) / SHARES).tolist()
    points = [point(judged, threshold) for threshold in [-math.inf, *inner, math.inf]]
    return list({each.retrievals: each for each in points}.values())


def point(pairs: Sequence[Pair], threshold: float) -> Point:
    searched = mean(pair.confidence < threshold for pair in pairs)
    return Point(threshold, searched, mean(pair.quality(threshold) for pair in pairs))


def speculate(alone: System, with_sources: System) -> tuple[System, float, list[Point]]:
    """The system as it answers the judged half, its threshold, and the curve. Both systems answered the same."""
    pairs = [Pair(*both) for both in zip(alone.answers, with_sources.answers, strict=True)]
    learned, judged = halves(pairs)
    threshold = best_threshold(learned)
    answers = [_answered(pair, threshold) for pair in judged]
    return System(NAME, alone.model, answers), threshold, curve(learned, judged)


def _answered(pair: Pair, threshold: float) -> Answered:
    """Where search ran, the time and the tokens of both answers were spent."""
    first, second = pair.alone, pair.with_sources
    if pair.confidence >= threshold:
        return first
    timed = first.seconds is not None and second.seconds is not None
    return replace(
        second,
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        seconds=(first.seconds or 0.0) + (second.seconds or 0.0) if timed else None,
        confidence=first.confidence,
    )
