"""Whether a fine-tuned language model takes the place of the one that it was compared with."""

import math
from dataclasses import dataclass
from statistics import mean
from typing import Literal

from pipelines.config import BehaviourConfig
from pipelines.evaluate_behaviour.compare import Behaviour, Difference

LEAST = 20  # examples; fewer cannot tell


@dataclass(frozen=True)
class Sides:
    before: float
    after: float


@dataclass(frozen=True)
class Regression:
    """What became worse elsewhere, before and after: `growth` of the perplexity of the general texts, as a share;
    `lost`: of the words (f1) of the answers to the general chats. None where it was not measured."""

    perplexity: Sides | None
    growth: float | None
    chats: Sides | None
    lost: float | None


@dataclass(frozen=True)
class Decision:
    outcome: Literal["pass", "fail", "undecided"]
    reason: str

    @property
    def passed(self) -> bool:
        return self.outcome == "pass"


def regression(before: Behaviour, after: Behaviour) -> Regression:
    """What the model can still do that its behaviour is not about."""
    perplexity, growth, chats, lost = None, None, None, None
    if before.perplexity and after.perplexity:
        perplexity = Sides(before.perplexity, after.perplexity)
        growth = after.perplexity / before.perplexity - 1
    if before.chats and after.chats:
        old, new = (mean(each.score.metrics["f1"] for each in side.chats) for side in (before, after))
        chats, lost = Sides(old, new), old - new
    return Regression(perplexity, growth, chats, lost)


def decide(found: Difference | None, elsewhere: Regression, settings: BehaviourConfig) -> Decision:
    """`pass`: better, the whole interval of the paired difference is above zero, and nothing forgotten over budget."""
    metric, budget = settings.metric, settings.forgetting
    if found is None:
        return Decision("undecided", f"no held-out example is one that {metric} applies to")
    said = (
        f"{metric} {found.before:.3f} to {found.after:.3f}, {found.difference:+.3f}"
        f" [{found.low:+.3f}, {found.high:+.3f}] over {found.queries} examples"
    )
    if elsewhere.growth is not None and (elsewhere.growth > budget or math.isnan(elsewhere.growth)):
        assert elsewhere.perplexity is not None
        old, new = elsewhere.perplexity.before, elsewhere.perplexity.after
        return Decision(
            "fail",
            f"{said}, but the perplexity of general texts grew from {old:.1f} to {new:.1f}, by {elsewhere.growth:.0%},"
            f" and {budget:.0%} is allowed",
        )
    if elsewhere.lost is not None and elsewhere.lost > budget:
        return Decision(
            "fail", f"{said}, but answers to general chats lost {elsewhere.lost:.3f} of f1, and {budget:g} is allowed"
        )
    if found.high < 0 or (found.difference <= 0 and found.low < 0):
        return Decision("fail", f"{said}: not better")
    if found.queries < LEAST:
        return Decision("undecided", f"{said}: fewer than {LEAST} cannot tell")
    if found.low <= 0:
        return Decision("undecided", f"{said}: the interval has room for no gain")
    return Decision("pass", f"{said}: better")
