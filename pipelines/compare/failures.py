"""Why a system failed at a question: what it lacked decides which remedy helps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.compare.answers import Answered
from pipelines.compare.questions import RIGHT, has_content

Kind = Literal["missing knowledge", "retrieval miss", "wrong behaviour"]
KINDS: tuple[Kind, ...] = ("missing knowledge", "retrieval miss", "wrong behaviour")


@dataclass(frozen=True)
class Failure:
    """`why`: in words."""

    kind: Kind
    why: str
    answered: Answered


def failure_of(answered: Answered) -> Failure | None:
    """None where the answer is right.

    missing knowledge: the document with the answer was not in what the model saw, and alone it does not know.
    retrieval miss: search ran, and the document is not among its hits. wrong behaviour: all the rest, where the content
    was there or none was needed: a wrong format, a broken constraint, an answer or a refusal where the other was due.
    """
    question, seen = answered.question, answered.retrieved
    if answered.worth.quality >= RIGHT:
        return None
    said = answered.worth.detail or answered.worth.problem
    if not question.answers or not question.relevant or has_content(question, answered.text):
        return Failure("wrong behaviour", said, answered)
    if seen is None:
        return Failure("missing knowledge", "no source was shown, and alone it does not know", answered)
    if not seen.found:
        return Failure("retrieval miss", "no hit is of a document with the answer", answered)
    if seen.abstained:
        return Failure("retrieval miss", "search abstained, although a hit is of a document with the answer", answered)
    if not seen.shown:
        return Failure("missing knowledge", "the document with the answer did not fit into the context", answered)
    return Failure("wrong behaviour", f"the source was shown: {said}", answered)


def failures_of(answers: Sequence[Answered]) -> list[Failure]:
    return [found for each in answers if (found := failure_of(each))]
