"""Open readers for a program that stays up: a bounded number of connections, each used by one thread at a time.

with Readers(config, workspace, size=4) as readers:
    with readers.reader() as reader:
        reader.search("how do I roll back?")
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines.config import Config
from pipelines.errors import ServiceUnavailable
from pipelines.files import Workspace
from pipelines.index.db import Connection, translated_errors
from pipelines.index.reader import QueryEncoder, Reader, open_index, parameters_in, workspace_at


class Readers:
    """Readers of the index that the parameters name; nothing is opened before the first is asked for.

    A connection that broke, also unnoticed between two calls, is replaced by the next call. So Postgres may be
    restarted: calls raise `ServiceUnavailable` while it is away, and answer again when it is back.
    """

    def __init__(
        self,
        config: Config,
        workspace: Workspace,
        *,
        size: int = 4,
        wait_seconds: float = 30.0,
        encode: QueryEncoder | None = None,
        connect: Callable[[], Connection] | None = None,
    ) -> None:
        """`size`: connections at most. `encode`, `connect`: as for `open_index`; called from several threads."""
        self._config = config
        self._workspace = workspace
        self._size = size
        self._wait_seconds = wait_seconds
        self._encode = encode
        self._connect = connect
        self._free = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()  # over the next two
        self._idle: list[tuple[Reader, ExitStack]] = []  # the last one used comes first: it remembers most answers
        self._closed = False

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """A reader for the block, whose connection works as it begins; what Postgres says inside becomes our errors.

        Raises `ServiceUnavailable` where Postgres does not answer, or all readers are in use for `wait_seconds`.
        """
        if not self._free.acquire(timeout=self._wait_seconds):
            raise ServiceUnavailable(
                f"all {self._size} connections of this program were busy for {self._wait_seconds:g} s",
                hint="try again, or let it open more",
            )
        try:
            reader, stack = self._take()
            try:
                with translated_errors():
                    yield reader
            finally:
                self._give_back(reader, stack)
        finally:
            self._free.release()

    def close(self) -> None:
        """Close the connections; those in use are closed when their block ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for reader, stack in idle:
            _discard(reader, stack)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _take(self) -> tuple[Reader, ExitStack]:
        while True:
            with self._lock:
                if self._closed:
                    raise ServiceUnavailable("this program is ending", hint="ask again when it was started again")
                if not self._idle:
                    break
                reader, stack = self._idle.pop()
            if reader.is_alive():
                return reader, stack
            _discard(reader, stack)
        with ExitStack() as opening:
            reader = opening.enter_context(
                open_index(
                    workspace=self._workspace.root,
                    config=self._config,
                    encode=self._encode,
                    log=True,
                    connect=self._connect,
                )
            )
            return reader, opening.pop_all()

    def _give_back(self, reader: Reader, stack: ExitStack) -> None:
        with self._lock:
            if not self._closed and not reader.connection.closed:
                self._idle.append((reader, stack))
                return
        _discard(reader, stack)


def open_readers(index: str | None = None, *, workspace: Path | str | None = None) -> Readers:
    """Readers of the index and the workspace that `open_index` would take."""
    home = workspace_at(workspace)
    config = parameters_in(home)
    return Readers(config if index is None else config.with_index(index), home)


def _discard(reader: Reader, stack: ExitStack) -> None:
    reader.connection.close()  # first: a connection that is left as it should be would finish its transaction
    stack.close()
