"""Worker processes around `parse_bytes`: a document that hangs, explodes or crashes takes only itself down."""

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipelines.config import ParseConfig
from pipelines.errors import ServiceUnavailable
from pipelines.model import Reason
from pipelines.parse.failure import ParseFailure, failure
from pipelines.parse.language import QUIET
from pipelines.parse.worker import receive, send

START_SECONDS = 120.0  # to start an interpreter and import the libraries of one format, also from a cold disk
CLOCK_FACTOR = 4  # a worker ends itself at its limit of processor time; by the clock it has this many times as long
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")
_SOURCE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Job:
    """One document to parse; `key` is what the result is stored under."""

    key: bytes
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: the JSON of a `Parsed`, or the failure."""

    key: bytes
    result: bytes | ParseFailure


class WorkerPool:
    """Worker processes, started when first needed, replaced when they die, all gone when the `with` block is left."""

    def __init__(self, config: ParseConfig, scratch: Path) -> None:
        self.config = config
        self.size = config.workers or os.cpu_count() or 1
        self._scratch = scratch / f"{os.getpid()}"
        self._parent_scratch = scratch
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(self.size, thread_name_prefix="parse")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            workers = list(self._all)
        for worker in workers:  # first, so that threads that wait for an answer come back at once
            worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        with suppress(OSError):  # another run may have its own directory beside
            self._parent_scratch.rmdir()

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """The outcome of each job, in the order of completion; takes no more than two jobs per worker at a time."""
        waiting: set[Future[Outcome]] = set()
        for job in jobs:
            waiting.add(self._threads.submit(self._parse, job))
            if len(waiting) >= 2 * self.size:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)

    def _parse(self, job: Job) -> Outcome:
        worker = self._take()
        try:
            try:
                head, data = worker.parse(job)
            except _NotStarted:  # not the fault of the document: once more, with a fresh process
                worker = self._replace(worker)
                head, data = worker.parse(job)
        except _NotStarted:
            self._discard(worker)
            raise ServiceUnavailable(
                "a parse worker does not start", hint="is there enough memory? try parse.workers=1"
            ) from None
        except ParseFailure as error:
            self._discard(worker)
            return Outcome(job.key, error)
        if head.get("retire"):
            self._discard(worker)
        else:
            self._idle.put(worker)
        if "reason" in head:
            return Outcome(job.key, failure(Reason(head["reason"]), head["detail"]))
        return Outcome(job.key, data)

    def _take(self) -> "_Worker":
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._start()

    def _start(self) -> "_Worker":
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool is closed")
            if not self._all:
                _remove_leftovers(self._parent_scratch)
            worker = _Worker(self.config, self._scratch)
            self._all.add(worker)
            return worker

    def _replace(self, worker: "_Worker") -> "_Worker":
        self._discard(worker)
        return self._start()

    def _discard(self, worker: "_Worker") -> None:
        worker.close()
        with self._lock:
            self._all.discard(worker)


class _NotStarted(Exception):
    """The process ended or hung before it began with the document."""


class _Worker:
    """One child process. Used by one thread at a time, except for `kill`."""

    def __init__(self, config: ParseConfig, scratch: Path) -> None:
        self.config = config
        scratch.mkdir(parents=True, exist_ok=True)
        self._directory = scratch / f"{threading.get_ident():x}-{id(self):x}"
        self._directory.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.parse.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._directory,
            env=_environment(self._directory),
            start_new_session=True,  # Ctrl-C goes to the parent alone, which then ends the children
        )
        self._timed_out = False

    def parse(self, job: Job) -> tuple[dict[str, Any], bytes]:
        """The answer. Raises `ParseFailure` when the process dies or is too slow, `_NotStarted` if before that."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        config = self.config.model_dump()
        with self._deadline(START_SECONDS):
            try:
                send(stdin, {"media_type": job.media_type, "config": config}, job.data)
                started = receive(stdout)
            except OSError:
                started = None
        if started is None:
            raise _NotStarted
        with self._deadline(CLOCK_FACTOR * self.config.timeout_seconds):
            answer = receive(stdout)
        if answer is None:
            raise self._death()
        return answer

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(OSError):  # a full pipe to a dead process
                    stream.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _deadline(self, seconds: float) -> "_Deadline":
        return _Deadline(self, seconds)

    def expire(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _death(self) -> ParseFailure:
        code = self._process.wait()
        if self._timed_out or code == -signal.SIGPROF:
            return failure(Reason.TIMEOUT, f"not done after {self.config.timeout_seconds:g} seconds")
        if code == -signal.SIGKILL:  # not by us: the system ran out of memory
            return failure(Reason.OUT_OF_MEMORY, "the system ended the parser process")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return failure(Reason.CRASHED, f"the parser process died: {name}")


class _Deadline:
    """Kills the worker when the `with` block takes longer than `seconds`: its pipes end, and the block with them."""

    def __init__(self, worker: _Worker, seconds: float) -> None:
        self._timer = threading.Timer(seconds, worker.expire)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()


def _environment(directory: Path) -> dict[str, str]:
    """Only what the interpreter needs: no password and no token of the parent reaches a worker."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    home = str(directory)
    return (
        passed
        | QUIET
        | {
            "HOME": home,
            "TMPDIR": home,
            "PYTHONPATH": str(_SOURCE),
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
    )


def _remove_leftovers(scratch: Path) -> None:
    """Directories of runs that were killed. One that belongs to a living process is left alone."""
    for path in scratch.glob("*"):
        if path.name.isdigit() and not Path(f"/proc/{path.name}").exists():
            shutil.rmtree(path, ignore_errors=True)
