"""What a system said to a question, and what all that it said is worth, takes and costs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.compare.questions import QUALITY, Question, Worth
from pipelines.config import GenerateConfig
from pipelines.evaluate_behaviour.compare import Difference, paired
from pipelines.generate import cost


@dataclass(frozen=True)
class Retrieved:
    """`found`: whether a hit is relevant; `shown`: whether one is that the model saw; `documents`: of the hits."""

    found: bool
    shown: bool
    abstained: bool
    documents: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Answered:
    """`seconds`: from the question to the answer, search included; None where it was not timed alone. `confidence`: the
    mean log probability of the answer's tokens; None where the model does not tell."""

    question: Question
    text: str
    worth: Worth
    prompt_tokens: int
    completion_tokens: int
    seconds: float | None
    retrieved: Retrieved | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class System:
    """A way to answer, and its answers in the order of the questions."""

    name: str
    model: str
    answers: list[Answered]

    def values(self, metric: str) -> dict[str, float]:
        """By question, of those to which the metric applies."""
        if metric == QUALITY:
            return {each.question.id: each.worth.quality for each in self.answers}
        return {each.question.id: each.worth.metrics[metric] for each in self.answers if metric in each.worth.metrics}

    def seconds(self) -> list[float]:
        return [each.seconds for each in self.answers if each.seconds is not None]


@dataclass(frozen=True)
class Expense:
    """Tokens are means of a question; costs are in the currency of the prices, 0 where none is set."""

    latency_p50_seconds: float
    latency_p95_seconds: float
    prompt_tokens: float
    completion_tokens: float
    cost_per_thousand: float
    cost_per_month: float


def expense(system: System, config: GenerateConfig, volume: int) -> Expense:
    """`volume`: questions a month."""
    count = len(system.answers)
    prompt, completion = (
        sum(each.prompt_tokens for each in system.answers),
        sum(each.completion_tokens for each in system.answers),
    )
    one = cost(config, prompt, completion) / count
    p50, p95 = (float(each) for each in np.percentile(system.seconds() or [0.0], [50, 95]))
    return Expense(p50, p95, prompt / count, completion / count, 1000 * one, volume * one)


def difference(before: System, after: System, metric: str = QUALITY) -> Difference | None:
    """Paired, over the questions that both have and the metric applies to; None where there is none."""
    old, new = before.values(metric), after.values(metric)
    return paired([(old[id], new[id]) for id in old if id in new])


def spread(items: Sequence[Question], most: int) -> set[str]:
    """The ids of so many of them at most, evenly spread."""
    return {each.id for each in items[:: max(1, -(-len(items) // most))]}
