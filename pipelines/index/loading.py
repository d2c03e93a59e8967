"""Content on its way into the database in a process of its own, beside the work that goes on here.

Revisions and term weights need no vector, so they go in while the encoder works. The child is this module: it reads
one job from its standard input and answers with a line of JSON per step. Killing it at any time is safe: what it loaded
is there, the rest is not, and no version holds either before it is sealed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipelines import errors
from pipelines.config import Config
from pipelines.files import Workspace
from pipelines.index.catalog import Index, ensure_index
from pipelines.index.db import Connection, connect, database_url, translated_errors
from pipelines.index.load import analyze, chunks_without, load_revisions, missing_revisions
from pipelines.index.migrate import migrate
from pipelines.index.weights import load_lexical
from pipelines.manifests import ChunksRow, read_chunks

WORTH_A_PROCESS = 200  # documents that are new or changed: with fewer, starting one takes longer than it saves
_SOURCE = Path(__file__).resolve().parents[2]


class Loading:
    """Loads what the database lacks of the present manifest `chunks`; leaving the `with` block ends it."""

    def __init__(self, config: Config, workspace: Workspace) -> None:
        self._job = {"config": config.model_dump(), "root": str(workspace.root)}
        self._url = database_url(workspace)
        self._process: subprocess.Popen[str] | None = None
        self._begun = False
        self._counts: dict[str, int] = {}

    def start(self) -> None:
        """Bring the process up, so that it need not be waited for when there is something to load."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.index.loading"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(_SOURCE), "SNAPDEX_DATABASE_URL": self._url},
                start_new_session=True,  # Ctrl-C goes to the parent alone, which then ends the child
            )

    @property
    def started(self) -> bool:
        return self._process is not None

    def begin(self) -> None:
        """Load: the manifest has to stay as it is until `weights` is known. Once begun, this does nothing."""
        if self._begun:
            return
        self.start()
        assert self._process and self._process.stdin
        with suppress(BrokenPipeError):  # it died: the reason comes with the first answer
            self._process.stdin.write(json.dumps(self._job))
            self._process.stdin.close()
        self._begun = True

    def revisions(self) -> int:
        """Waits until all revisions are there; how many chunk occurrences were sent."""
        return self._answer("revisions")

    def weights(self) -> int:
        """Waits until all term weights are there; of how many chunks they were sent."""
        return self._answer("weights")

    def _answer(self, step: str) -> int:
        self.begin()
        assert self._process and self._process.stdout and self._process.stderr
        while step not in self._counts:
            line = self._process.stdout.readline()
            if not line:
                if self._process.wait() < 0:
                    raise errors.ServiceUnavailable(
                        f"the loading process was killed by signal {-self._process.returncode}",
                        hint="run again: finished work is kept; if it happens again, look for a lack of memory",
                    )
                raise RuntimeError(f"the loading process died: {self._process.stderr.read()[-2000:]}")
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                raise getattr(errors, answer["error"])(answer["message"], hint=answer["hint"])
            self._counts |= answer
        return self._counts[step]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        if not self._begun or error is not None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream:
                with suppress(OSError):
                    stream.close()


def load_missing_revisions(
    connection: Connection, index: Index, rows: Sequence[ChunksRow], workspace: Workspace
) -> int:
    """Load the revisions that the index lacks; how many chunk occurrences were sent."""
    wanted = {row.revision_key: row for row in rows}
    missing = [wanted[key] for key in missing_revisions(connection, index, sorted(wanted))]
    loaded = load_revisions(connection, index, missing, workspace.store("chunks"))
    if loaded:
        analyze(connection, index, "revision", "occurrence", "chunk")
    return loaded


def load_missing_weights(connection: Connection, index: Index, rows: Sequence[ChunksRow]) -> int:
    """Load the term weights that chunks of these revisions lack; of how many chunks they were sent."""
    keys = sorted({row.revision_key for row in rows})
    weighed = load_lexical(connection, index, chunks_without(connection, index, "lexical", keys))
    if weighed:
        analyze(connection, index, "lexical")
    return weighed


def _steps() -> Iterator[tuple[str, int]]:
    with connect(os.environ["SNAPDEX_DATABASE_URL"]) as connection, translated_errors():
        migrate(connection)  # while the parent still parses and chunks
        job = json.loads(sys.stdin.read() or "null")
        if job is None:  # the parent had nothing to load after all
            return
        config, workspace = Config.model_validate(job["config"]), Workspace(Path(job["root"]))
        _, rows = read_chunks(workspace, config.index.name)
        index = ensure_index(connection, config.index)
        yield "revisions", load_missing_revisions(connection, index, rows, workspace)
        yield "weights", load_missing_weights(connection, index, rows)


def main() -> int:
    try:
        for step, count in _steps():
            sys.stdout.write(json.dumps({step: count}) + "\n")
            sys.stdout.flush()
    except errors.SnapdexError as error:
        sys.stdout.write(json.dumps({"error": type(error).__name__, "message": str(error), "hint": error.hint}) + "\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
