"""Answers that are kept: what a model wrote once, it is not asked again.

A file of SQLite in `.snapdex/cache`, because an answer has to be safe as soon as it was paid for, and is looked up one
by one. What versions are made of does not depend on it: the text of chunks, contexts included, is in the stores.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from pipelines.files import Workspace
from pipelines.model import batched

LOOKED_UP = 500  # keys of one statement; SQLite takes 999 at least


class KeptAnswers:
    """32-byte keys to answers; any number of processes may have one."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = _path(workspace)

    def find(self, keys: Iterable[bytes]) -> dict[bytes, str]:
        """The answers that there are. Nothing is written, so a dry run may ask."""
        found: dict[bytes, str] = {}
        if self._path.exists():
            with closing(sqlite3.connect(self._path, timeout=60)) as file:
                for batch in batched(keys, LOOKED_UP):
                    marks = ",".join("?" * len(batch))
                    found |= dict(file.execute(f"SELECT key, text FROM answer WHERE key IN ({marks})", batch))
        return found

    def keep(self, answers: Iterable[tuple[bytes, str]]) -> Iterator[tuple[bytes, str]]:
        """Each of them, once it is safe; of a key that somebody else was faster with, what that one kept."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, isolation_level=None, timeout=60)) as file:
            file.execute("PRAGMA journal_mode = wal")  # no wait for the disk at each answer
            file.execute("CREATE TABLE IF NOT EXISTS answer (key BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID")
            for key, text in answers:
                file.execute("INSERT INTO answer VALUES (?, ?) ON CONFLICT DO NOTHING", (key, text))
                (kept,) = file.execute("SELECT text FROM answer WHERE key = ?", (key,)).fetchone()
                yield key, kept


def forget_answers(workspace: Workspace) -> None:
    """Remove all of them: an erased document may stand in any."""
    path = _path(workspace)
    for each in path.parent.glob(f"{path.name}*"):  # with its journal
        each.unlink(missing_ok=True)


def _path(workspace: Workspace) -> Path:
    return workspace.state / "cache" / "answers.sqlite"
