"""The questions that all systems are asked, and what an answer to one is worth."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from pipelines.evaluate import Query
from pipelines.evaluate_behaviour.score import FIELD, NOT_REFUSED, score
from pipelines.examples.checks import is_refusal
from pipelines.model import digest

ABSTENTION = "abstention"
FIELDS = "fields"
QUALITY = "quality"
METRICS = (QUALITY, "exact_match", FIELDS, "f1", "rouge_l", "format", "constraints", ABSTENTION)
RIGHT = 0.5  # of the quality: an answer below it has failed
TOLD = 0.5  # of the words of the expected answer, from which an answer has its content


@dataclass(frozen=True)
class Question:
    """`answers`: each as good as the others; none: the right answer is to give none. `relevant`: as in a golden set."""

    id: str
    text: str
    answers: tuple[str, ...]
    relevant: Mapping[str, int]
    checks: Mapping[str, Any]


@dataclass(frozen=True)
class Worth:
    """What an answer is worth: `quality` is one number for any question, `metrics` those that apply to it."""

    quality: float
    metrics: dict[str, float]
    problem: str
    detail: str


def questions_of(
    queries: Sequence[Query], checks: Mapping[str, Any], limit: int | None = None
) -> tuple[list[Question], int]:
    """Those with an answer and those that are unanswerable, `limit` of them at most; and how many have a document but
    no answer, which cannot be judged. `checks`: for questions that declare none."""
    judged = [query for query in queries if query.answers or not query.answerable]
    kept = set(sorted(range(len(judged)), key=lambda place: digest("compare", judged[place].id))[:limit])
    found = [
        Question(query.id, query.text, query.answers, query.relevant, query.checks or (checks if query.answers else {}))
        for place, query in enumerate(judged)
        if place in kept
    ]
    return found, len(queries) - len(judged)


def worth(question: Question, text: str, metric: str, *, cut_off: bool = False) -> Worth:
    """Compare with the expected answer that is nearest.

    The quality is `metric`, of an expected JSON object the share of its fields that are right (the words of its keys
    would be half an answer); 0 where a declared format or constraint is broken; of an unanswerable question 1 for
    saying so.
    """
    if not question.answers:
        refuses = float(is_refusal(text))
        problem, detail = ("", "") if refuses else (NOT_REFUSED, "answers, and there is none")
        return Worth(refuses, {ABSTENTION: refuses}, problem, detail)
    scores = [score(text, answer, question.checks, cut_off=cut_off) for answer in question.answers]
    best = max(scores, key=lambda each: (each.metrics["exact_match"], each.metrics[metric]))
    metrics = best.metrics
    if of_fields := [value for name, value in metrics.items() if name.startswith(FIELD)]:
        metrics = metrics | {FIELDS: mean(of_fields)}
    said = metrics["exact_match"] if metric == "exact_match" else metrics.get(FIELDS, metrics[metric])
    quality = said * metrics.get("format", 1.0) * metrics.get("constraints", 1.0)
    return Worth(quality, metrics, best.problem, best.detail)


def has_content(question: Question, text: str) -> bool:
    """Whether an answer says what is expected, in whatever form: half the words of it, of JSON those of its values."""
    said = set(_words(text))
    wanted = [set(_words(_values(answer))) for answer in question.answers]
    return any(not each or len(each & said) >= TOLD * len(each) for each in wanted)


def _values(answer: str) -> str:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return answer
    todo, found = [value], []
    while todo:
        each = todo.pop()
        if isinstance(each, dict | list):
            todo += each.values() if isinstance(each, dict) else each
        else:
            found.append(str(each))
    return " ".join(found)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
