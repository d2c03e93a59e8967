"""What an evaluation finds: numbers over all queries, and what became of each."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Returned:
    """A document that search returned: its best chunk's section, first words and score."""

    document: str
    section: Sequence[str]
    text: str
    score: float


@dataclass(frozen=True)
class Asked:
    """A query of the golden set and its answer. `metrics`: none where it is unanswerable; `returned`: best first."""

    id: str
    question: str
    answerable: bool
    abstained: bool
    metrics: dict[str, float]
    expected: list[str]
    returned: list[Returned]


@dataclass(frozen=True)
class Evaluation:
    """Metrics over the queries, their 95 % bootstrap intervals, and each query in the order of the golden set."""

    metrics: dict[str, float]
    confidence: dict[str, tuple[float, float]]
    asked: list[Asked]

    @property
    def queries(self) -> int:
        return len(self.asked)

    @property
    def per_query(self) -> dict[str, dict[str, float]]:
        """The values of each answerable query by id."""
        return {each.id: each.metrics for each in self.asked if each.answerable}

    def worst_first(self, metric: str) -> list[Asked]:
        """Answerable queries by this metric, then the others, those that were not refused first."""
        return sorted(
            self.asked,
            key=lambda each: (
                not each.answerable,
                each.metrics[metric] if each.answerable else each.abstained,
                each.id,
            ),
        )

    def failed(self, metric: str) -> list[Asked]:
        """The answerable queries that are not answered perfectly, worst first."""
        return [each for each in self.worst_first(metric) if each.answerable and each.metrics[metric] < 1.0]
