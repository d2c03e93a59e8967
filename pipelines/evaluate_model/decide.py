"""Whether a candidate takes the place of the model in use."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Literal

from pipelines.config import Config

if TYPE_CHECKING:
    from pipelines.evaluate_model import Result

METRIC = "ndcg@10"


@dataclass(frozen=True)
class Decision:
    """`forgetting`: mean loss on other domains, below zero where the candidate is better there; None without any."""

    outcome: Literal["pass", "fail", "undecided"]
    reason: str
    forgetting: float | None

    @property
    def passed(self) -> bool:
        return self.outcome == "pass"


def decide(results: Sequence["Result"], config: Config) -> Decision:
    """`pass`: better, the whole interval of the paired difference is above zero, and within the forgetting budget.

    A new model costs embedding everything anew, so one that is only not worse is `undecided`, and not promoted.
    """
    home = next(result for result in results if result.in_domain)
    losses = [-result.comparison.difference.get(METRIC, 0.0) for result in results if not result.in_domain]
    lost = mean(losses) if losses else None
    gain = home.comparison.difference.get(METRIC, 0.0)
    low, high = home.comparison.confidence.get(METRIC, (0.0, 0.0))
    found = f"{METRIC} {gain:+.3f} [{low:+.3f}, {high:+.3f}] over {home.comparison.queries} queries"
    budget = config.evaluate_model.forgetting
    if lost is not None and lost > budget:
        return Decision("fail", f"{found}, but {lost:.3f} lost on other domains, and {budget:g} is allowed", lost)
    if high < 0 or (gain <= 0 and low < 0):
        return Decision("fail", f"{found}: not better", lost)
    if home.comparison.queries < config.gate.min_queries:
        return Decision(
            "undecided", f"{found}: fewer than gate.min_queries, {config.gate.min_queries}, cannot tell", lost
        )
    if low <= 0:
        return Decision("undecided", f"{found}: the interval has room for no gain", lost)
    forgot = "" if lost is None else f", {lost:+.3f} lost on other domains"
    return Decision("pass", f"{found}: better{forgot}", lost)
