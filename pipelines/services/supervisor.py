"""Keeps services alive: starts them in order, asks after their health, starts them again when they die or go deaf.

One task of an event loop per service, one loop in one thread: the kernel ends a service when the thread that started
it ends (see tether.py), so that must be the main one.
"""

import asyncio
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pipelines.errors import SnapdexError
from pipelines.services.processes import MARK, end, marker
from pipelines.services.state import Phase, Place, State, Status

LOG_BYTES = 10 * 2**20


@dataclass(frozen=True)
class Times:
    """How patient the supervisor is, in seconds. A server on a busy small machine may be deaf for some while well."""

    start: float = 120.0
    alive: float = 0.25  # between two looks whether it lives
    probe: float = 5.0  # between two questions, and how long an answer may take
    deaf: int = 6  # so many questions in a row without an answer: it is started again
    pause: float = 1.0  # before another start; doubled each time
    longest_pause: float = 60.0
    stable: float = 60.0  # who ran for so long starts again after the first pause


class Service(Protocol):
    """Something that is kept running. `start`, `pid` and `url` return at once and are called from the main thread."""

    name: str
    after: tuple[str, ...]  # services that must run before, and without which its health says nothing

    def prepare(self) -> None:
        """What takes time before each start."""

    def start(self) -> None: ...

    def pid(self) -> int | None:
        """The number of the process, or None when it ended."""

    def url(self) -> str | None: ...

    @property
    def log(self) -> Path: ...

    def healthy(self) -> bool: ...

    def clear(self) -> None:
        """End, at once, what is left of it before another start."""

    def stop(self) -> None:
        """End it in order, within a bounded time."""


@dataclass
class Program:
    """A service that is a program, in a session of its own, with a probe and a log.

    `spares` says that what it started goes on when it dies: the flow runs of a worker.
    """

    name: str
    place: Place
    generation: str
    command: Callable[[], Sequence[str]]  # asked before each start, because ports may have changed
    environment: Callable[[], dict[str, str]]
    directory: Path
    probe: Callable[[], str]
    shown: Callable[[], str | None] = lambda: None
    after: tuple[str, ...] = ()
    before: Callable[[], None] = lambda: None
    spares: bool = False
    grace_seconds: float = 10.0
    probe_seconds: float = Times.probe
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def marker(self) -> str:
        return marker(self.place.state, self.generation, self.name)

    def prepare(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.before()

    @property
    def log(self) -> Path:
        return self.place.log(self.name)

    def start(self) -> None:
        environment = self.environment() | {MARK: self.marker}
        self.process = spawn(self.command(), environment, self.directory, self.log)

    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.poll() is None else None

    def url(self) -> str | None:
        return self.shown()

    def healthy(self) -> bool:
        return answers(self.probe(), self.probe_seconds)

    def clear(self) -> None:
        if self.spares:
            if self.process and self.process.poll() is None:
                self.process.kill()
        else:
            end(self.marker, grace_seconds=0)
        if self.process:
            self.process.wait()

    def stop(self) -> None:
        end(self.marker, grace_seconds=self.grace_seconds, last=self.pid() if self.spares else None)
        if self.process:
            self.process.wait()


def spawn(command: Sequence[str], environment: dict[str, str], directory: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Start a program that dies with the thread that calls this; what it prints goes to the end of `log`."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
    tether = [sys.executable, "-P", "-m", "pipelines.services.tether", str(os.getpid())]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*tether, *command],
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def answers(url: str, timeout_seconds: float) -> bool:
    """Whether a GET of this URL on this machine gives 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_seconds) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@dataclass
class Supervisor:
    """Runs `services` until `end` is called; `state` is written to the file at every change."""

    place: Place
    state: State
    services: Sequence[Service]
    times: Times = Times()
    say: Callable[[str], None] = to_stderr
    ready: Callable[[], None] = lambda: None  # called once, in a thread, when all services run for the first time
    _end: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        self._end.set()

    async def run(self) -> None:
        """Keep everything running; returns when all is stopped, in the reverse order of the start."""
        for each in self.services:
            self.state.services[each.name] = Status(each.name, "starting", None, each.url(), "", 0, "", str(each.log))
            self._set(each, "starting")
        keepers = [asyncio.create_task(self._keep(each)) for each in self.services]
        keepers.append(asyncio.create_task(self._announce()))
        ending = asyncio.create_task(self._end.wait())
        try:
            done, _ = await asyncio.wait([*keepers, ending], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # by itself none of the others ends, except by a mistake of ours
        finally:
            for task in (*keepers, ending):
                task.cancel()
            await asyncio.gather(*keepers, ending, return_exceptions=True)
            await self._stop_all()

    async def _stop_all(self) -> None:
        """Who needs another service is stopped before it."""
        left = list(self.services)
        while left:
            now = [each for each in left if not any(each.name in other.after for other in left)]
            await asyncio.gather(*(asyncio.to_thread(each.stop) for each in now))
            for each in now:
                self._set(each, "stopped", pid=None)
                left.remove(each)

    async def _announce(self) -> None:
        await self._until(lambda: all(self._runs(each.name) for each in self.services))
        await asyncio.to_thread(self.ready)
        await self._end.wait()

    async def _keep(self, service: Service) -> None:
        failures = 0
        while True:
            await self._until(lambda: all(self._runs(name) for name in service.after))
            problem = await self._start(service)
            if problem is None:
                self._set(service, "running", pid=service.pid(), url=service.url())
                began = time.monotonic()
                problem = await self._watch(service)
                if time.monotonic() - began > self.times.stable:
                    failures = 0
            pause = min(self.times.longest_pause, self.times.pause * 2 ** min(failures, 10))
            failures += 1
            self._log(f"{service.name} {problem}; another start in {pause:.0f} s")
            restarts = self.state.services[service.name].restarts + 1
            self._set(service, "restarting", pid=None, restarts=restarts, problem=problem)
            await asyncio.to_thread(service.clear)
            await asyncio.sleep(pause)

    async def _start(self, service: Service) -> str | None:
        """Start it and wait until it is healthy; otherwise what went wrong."""
        try:
            await asyncio.to_thread(service.prepare)
            service.start()
        except (SnapdexError, OSError) as error:
            return f"could not be started: {error}"
        deadline = time.monotonic() + self.times.start
        while time.monotonic() < deadline:
            if service.pid() is None:
                return "ended before it was ready"
            if await asyncio.to_thread(service.healthy):
                return None
            await asyncio.sleep(self.times.alive)
        return f"was not ready in {self.times.start:.0f} s"

    async def _watch(self, service: Service) -> str:
        """Returns when the service is dead or deaf, and says which."""
        deaf, asked = 0, time.monotonic()
        while service.pid() is not None:
            if time.monotonic() - asked >= self.times.probe:
                asked = time.monotonic()
                needed = all(self._runs(name) for name in service.after)
                deaf = 0 if not needed or await asyncio.to_thread(service.healthy) else deaf + 1
                if deaf >= self.times.deaf:
                    return f"did not answer {deaf} times"
            await asyncio.sleep(self.times.alive)
        return "ended"

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _runs(self, name: str) -> bool:
        return self.state.services[name].state == "running"

    def _set(self, service: Service, phase: Phase, **changes: object) -> None:
        self._log(f"{service.name} {phase}")
        self.state.set(service.name, phase, **changes)
        self.place.write(self.state)
        self._changed.set()
        self._changed = asyncio.Event()

    def _log(self, line: str) -> None:
        self.say(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}")


@contextmanager
def guarded(place: Place, generation: str) -> Iterator[None]:
    """While this runs, a second process waits to end everything should this one be killed."""
    command = [sys.executable, "-P", "-m", "pipelines.services.sentinel", marker(place.state, generation)]
    sentinel = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        sentinel.communicate(b".")
