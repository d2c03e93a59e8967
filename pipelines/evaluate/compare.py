"""Two versions on one golden set: query by query, and the gate that decides whether one may follow the other."""

from dataclasses import dataclass
from statistics import mean
from typing import Any, Literal

from pipelines.config import GateConfig
from pipelines.evaluate.metrics import interval
from pipelines.evaluate.results import Asked, Evaluation

SAME = 1e-9  # differences below are of arithmetic
Outcome = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True)
class Change:
    """One query in both evaluations; `difference` is of the metric that the comparison is about."""

    before: Asked
    after: Asked
    difference: float


@dataclass(frozen=True)
class Comparison:
    """`after` minus `before` over the answerable queries that both have: means, their intervals, and the queries that
    differ, the largest difference first."""

    metric: str
    queries: int
    difference: dict[str, float]
    confidence: dict[str, tuple[float, float]]
    wins: int
    losses: int
    ties: int
    changed: list[Change]


def compare(before: Evaluation, after: Evaluation, metric: str) -> Comparison:
    """Every metric paired; `wins` are queries that are better after."""
    pairs = _pairs(before, after)
    names = list(pairs[0][1].metrics) if pairs else []
    differences = {name: [new.metrics[name] - old.metrics[name] for old, new in pairs] for name in names}
    changes = [Change(old, new, new.metrics[metric] - old.metrics[metric]) for old, new in pairs]
    changed = sorted(
        (each for each in changes if abs(each.difference) > SAME),
        key=lambda each: (-abs(each.difference), each.difference, each.after.id),
    )
    wins = sum(each.difference > 0 for each in changed)
    return Comparison(
        metric,
        len(pairs),
        {name: mean(values) for name, values in differences.items()},
        {name: interval(values) for name, values in differences.items()},
        wins,
        len(changed) - wins,
        len(pairs) - len(changed),
        changed,
    )


def gate(candidate: Evaluation, active: Evaluation, config: GateConfig) -> dict[str, Any]:
    """Whether the candidate may be published, from the paired differences of `gate.metric`.

    `pass`: at `gate.confidence` it is not worse by more than `gate.tolerance`, the lower end of the interval says so.
    `fail`: it is worse by more than that, and the whole interval is below zero. `undecided`: anything else, or fewer
    queries than `gate.min_queries`; then `gate.undecided` says what `passed` is. Returns what decided, and `reason` in
    words.
    """
    metric, tolerance = config.metric, config.tolerance
    differences = [new.metrics[metric] - old.metrics[metric] for old, new in _pairs(active, candidate)]
    difference = mean(differences) if differences else 0.0
    low, high = interval(differences, config.confidence)
    outcome, reason = _outcome(differences, difference, (low, high), config)
    passed = outcome == "pass"
    if outcome == "undecided":
        passed = config.undecided == "publish" or (config.undecided == "difference" and difference >= -tolerance - SAME)
        by = (
            "the plain difference decides"
            if config.undecided == "difference"
            else f"gate.undecided is {config.undecided}"
        )
        reason += f"; {by}"
    return {
        "metric": metric,
        "candidate": candidate.metrics.get(metric, 0.0),
        "active": active.metrics.get(metric, 0.0),
        "difference": difference,
        "confidence": (low, high),
        "tolerance": tolerance,
        "queries": len(differences),
        "passed": passed,
        "outcome": outcome,
        "reason": reason,
    }


def _outcome(
    differences: list[float], difference: float, confidence: tuple[float, float], config: GateConfig
) -> tuple[Outcome, str]:
    low, high = confidence
    count = len(differences)
    if count < config.min_queries:
        queries = "query" if count == 1 else "queries"
        return "undecided", f"{count} {queries} cannot tell, gate.min_queries is {config.min_queries}"
    found = f"{difference:+.3f} [{low:+.3f}, {high:+.3f}] over {count} queries"
    if low >= -config.tolerance - SAME:
        return "pass", f"{found}: not worse by more than {config.tolerance:g}"
    if difference < -config.tolerance - SAME and high < 0:
        return "fail", f"{found}: worse by more than {config.tolerance:g}"
    return (
        "undecided",
        f"{found}: the interval has room for a difference of more than {config.tolerance:g} and for none",
    )


def _pairs(before: Evaluation, after: Evaluation) -> list[tuple[Asked, Asked]]:
    """The answerable queries that both were asked, by id."""
    old = {each.id: each for each in before.asked if each.answerable}
    new = {each.id: each for each in after.asked if each.answerable}
    return [(old[id], new[id]) for id in sorted(old.keys() & new.keys())]
