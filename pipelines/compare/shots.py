"""Which examples stand in the prompt of which question."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.compare.questions import Question
from pipelines.config import Config
from pipelines.embed import encode_queries
from pipelines.errors import InputError
from pipelines.evaluate.check import normalised
from pipelines.examples import Chat, read_examples
from pipelines.files import Workspace


def read_chats(path: Path) -> list[Chat]:
    """Raises `InputError` for a file that has something else."""
    found = list(read_examples(path))
    chats = [each for each in found if isinstance(each, Chat)]
    if len(chats) < len(found) or not chats:
        raise InputError(f"{path} has {'preferences' if found else 'no row'}", hint="name a JSONL file of chats")
    return chats


def choose_shots(
    config: Config, workspace: Workspace, chats: Sequence[Chat], questions: Sequence[Question]
) -> dict[str, list[Chat]]:
    """By question, `compare.shots` of them: the nearest, the best last, or always the first. None asks the question
    itself: that would be the answer."""
    said = [normalised(_asked(chat)) for chat in chats]
    ranked = _nearest(config, workspace, chats, questions) if config.compare.nearest else None
    found = {}
    for place, question in enumerate(questions):
        order = ranked[place] if ranked is not None else range(len(chats))
        others = [chats[each] for each in order if said[each] != normalised(question.text)]
        shots = others[: config.compare.shots]
        found[question.id] = shots[::-1] if ranked is not None else shots
    return found


def _nearest(
    config: Config, workspace: Workspace, chats: Sequence[Chat], questions: Sequence[Question]
) -> list[list[int]]:
    theirs = encode_queries(config, workspace, [_asked(chat) for chat in chats])
    ours = encode_queries(config, workspace, [question.text for question in questions])
    ranked: list[list[int]] = np.argsort(-(ours @ theirs.T), axis=1, kind="stable").tolist()
    return ranked


def _asked(chat: Chat) -> str:
    """What the user said last."""
    return next(each.content for each in reversed(chat.prompt) if each.role == "user")
