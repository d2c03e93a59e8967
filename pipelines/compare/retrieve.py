"""What search finds for each question, as a reader who asks it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines import index
from pipelines.asking import forgetful
from pipelines.compare.questions import Question
from pipelines.config import Config
from pipelines.errors import NotFoundError
from pipelines.evaluate import Hit
from pipelines.evaluate.metrics import ranked_gains
from pipelines.files import Workspace
from pipelines.index.catalog import Version, get_index, get_version
from pipelines.progress import Progress


@dataclass(frozen=True)
class Found:
    """The hits of one question, best first."""

    hits: list[index.Hit]
    abstained: bool
    seconds: float


def active_version(config: Config, workspace: Workspace) -> Version | None:
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        try:
            return get_version(connection, get_index(connection, config.index.name), "active")
        except NotFoundError:
            return None


def retrieve(
    config: Config, workspace: Workspace, version: int, questions: Sequence[Question], progress: Progress
) -> dict[str, Found]:
    """By question, with the settings of the section `search`; each is embedded by itself, so that its time is true."""
    progress.start("search", len(questions))
    found: dict[str, Found] = {}
    with index.open_index(config.index.name, workspace=workspace.root, config=forgetful(config)) as reader:
        reader.search(questions[0].text, at=version)  # loads the model
        for question in questions:
            began = time.perf_counter()
            result = reader.search(question.text, at=version)
            found[question.id] = Found(result.hits, result.abstained, time.perf_counter() - began)
            progress.advance()
    return found


def is_relevant(hits: Sequence[index.Hit], question: Question) -> bool:
    """Whether a document with the answer, or the part of it that the golden set names, is among the hits."""
    named = [
        Hit(document, hit.text, tuple(hit.section), hit.score)
        for hit in hits
        for document in (hit.document, *hit.also_in)
    ]
    return any(ranked_gains(named, question.relevant))
