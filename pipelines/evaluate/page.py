"""An evaluation as one HTML page that stands alone: no script, nothing loaded, text from documents escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from pipelines.evaluate.compare import Comparison
from pipelines.evaluate.results import Evaluation

WORST = 20  # queries shown with what was returned instead
BINS = 10  # of the distribution, 0.1 wide
OF_A_RANKING = (
    "ndcg@10",
    "mrr@10",
    "recall@5",
    "recall@10",
    "recall@100",
    "precision@1",
    "precision@5",
    "precision@10",
)


@dataclass(frozen=True)
class Subject:
    """What was measured, how and when."""

    index: str
    version: int
    snapshot: str
    created_at: datetime
    documents: int
    chunks: int
    model: str
    golden: str
    golden_sha256: str
    mode: str
    k: int
    measured_at: datetime


@dataclass(frozen=True)
class Answers:
    """What answers are worth. A metric is None where it applies to no question; `wrong`: by kind (question, answer,
    what was expected)."""

    model: str
    judge: str
    metrics: Mapping[str, float | None]
    confidence: Mapping[str, tuple[float, float]]
    wrong: Mapping[str, Sequence[tuple[str, str, str]]]


def page(
    subject: Subject,
    found: Evaluation,
    metric: str,
    *,
    missing: Sequence[str] = (),
    against: int | None = None,
    compared: Comparison | None = None,
    answers: Answers | None = None,
) -> str:
    """The page. `missing`: documents that the golden set names and the version lacks; `compared`: with `against`."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("pipelines.evaluate") / "page.html").read_text("utf-8"))
    unanswerable = [each for each in found.asked if not each.answerable]
    return template.render(
        subject=subject,
        found=found,
        metric=metric,
        rows=[name for name in OF_A_RANKING if name in found.confidence],
        bins=histogram([each.metrics[metric] for each in found.asked if each.answerable]),
        answerable=len(found.asked) - len(unanswerable),
        unanswerable=len(unanswerable),
        refused=sum(each.abstained for each in unanswerable),
        refused_wrongly=sum(each.abstained for each in found.asked if each.answerable),
        answered=[each for each in unanswerable if not each.abstained][:WORST],
        failed=found.failed(metric),
        worst=WORST,
        missing=missing,
        against=against,
        compared=compared,
        answers=answers,
    )


def histogram(values: Sequence[float]) -> list[int]:
    """How many values are in each tenth of 0..1; 1 itself is in the last."""
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int(value * BINS + 1e-9))] += 1
    return counts
