"""Whether there is something to serve: the database answers, and a version is active."""

import time
from asyncio import Lock
from collections.abc import Callable
from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread

from pipelines.errors import SnapdexError
from pipelines.index.catalog import Version, get_index, get_version
from pipelines.readers import Readers

FRESH_SECONDS = 1.0  # a look so old is not repeated


@dataclass(frozen=True)
class State:
    """What a look found. `problem`: why there is no version; `database`: whether Postgres answered."""

    database: bool
    version: Version | None = None
    problem: SnapdexError | None = None


class Pulse:
    """Looks at the database with a connection of its own, so that busy searches do not make the service look ill."""

    def __init__(self, readers: Readers, clock: Callable[[], float] = time.monotonic) -> None:
        self._readers = readers
        self._clock = clock
        self._lock = Lock()
        self._limiter = CapacityLimiter(1)
        self._state: State | None = None
        self._at = 0.0

    async def state(self) -> State:
        """The state now, or a moment ago."""
        async with self._lock:
            if self._state is None or self._clock() - self._at > FRESH_SECONDS:
                self._state = await to_thread.run_sync(self.look, limiter=self._limiter)
                self._at = self._clock()
            return self._state

    def look(self) -> State:
        reached = False
        try:
            with self._readers.reader() as reader:
                reached = True
                return State(True, get_version(reader.connection, get_index(reader.connection, reader.name), "active"))
        except SnapdexError as error:
            return State(reached and not error.retryable, problem=error)
