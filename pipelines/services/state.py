"""What the supervisor tells others: a file with the state of each service, and a lock that says that it lives."""

import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from pipelines.files import atomic_write

Phase = Literal["starting", "running", "restarting", "stopped"]
POLL_SECONDS = 0.05


@dataclass
class Status:
    """One service, as people see it. `since` is when it came to this state."""

    name: str
    state: Phase
    pid: int | None
    url: str | None
    since: str
    restarts: int
    problem: str  # why it was last started again, or could not be; empty: never
    log: str


@dataclass
class State:
    """The content of `services.json`. It stays when everything is stopped: the ports are kept for the next time."""

    supervisor: int | None = None
    generation: str = ""
    began: str = ""  # when this supervisor had ended all processes of earlier ones
    ports: dict[str, int] = field(default_factory=dict)
    owns_postgres: bool = False  # whether `up` started it, so that `down` stops it
    mlflow_schema: str = ""  # the version of MLflow that last brought its database up to date
    services: dict[str, Status] = field(default_factory=dict)

    def set(self, name: str, state: Phase, **changes: Any) -> None:
        """A service comes to another state."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.services[name] = dataclasses.replace(self.services[name], state=state, since=now, **changes)


@dataclass(frozen=True)
class Place:
    """Where the files of the services of one workspace are: `state` is its directory `.snapdex`."""

    state: Path

    @property
    def file(self) -> Path:
        return self.state / "services.json"

    @property
    def lock(self) -> Path:
        return self.state / "services.lock"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def read(self) -> State:
        """What the file says; an empty state where there is none, or none that this version wrote."""
        try:
            raw = json.loads(self.file.read_text("utf-8"))
            services = {name: Status(**each) for name, each in raw.pop("services").items()}
            return State(**raw, services=services)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return State()

    def write(self, state: State) -> None:
        atomic_write(self.file, json.dumps(dataclasses.asdict(state), indent=1) + "\n")

    def holder(self) -> int | None:
        """The process number of the supervisor that runs, or None."""
        while self.lock.exists():
            with self.lock.open("r", encoding="ascii") as file:
                if _locked(file, fcntl.LOCK_SH):
                    return None
                if number := file.read():
                    return int(number)
            time.sleep(POLL_SECONDS)  # it has the lock, and writes its number next
        return None

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the lock while the supervisor lives; False where another one has it."""
        self.state.mkdir(parents=True, exist_ok=True)
        with self.lock.open("a+", encoding="ascii") as file:
            deadline = time.monotonic() + 1.0  # `holder` takes the lock too, for an instant
            while not _locked(file, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(POLL_SECONDS)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield True


def last_line(log: Path) -> str:
    """The end of a log, for an error's message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return "no output"
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


def _locked(file: TextIO, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
