"""The program's commands in a process that may be killed: forked from a server that has imported everything already."""

import importlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import failpoints
from pipelines.config import RetentionConfig, load_config
from pipelines.errors import ConflictError, ServiceUnavailable, SnapdexError
from pipelines.index import retention
from pipelines.index.catalog import get_index, get_version, set_tag
from pipelines.index.db import translated_errors
from pipelines.prune import prune
from pipelines.restore import restore
from tests.faults.model import Documents, Model, next_step, passes
from tests.index.state import State

SECONDS = 120
MODULES = (  # pandas: pyarrow imports it at the first conversion
    *("pandas", "pipelines.ingest", "pipelines.prune", "pipelines.restore", "pipelines.parse.formats.markdown"),
    "tests.faults.driver",
)

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([*MODULES])


def open_state(root: Path, url: str) -> State:
    return State(root, url, load_config(root / "params.yaml"))


# -- operations: what a command of the same name does ------------------------------------------------------------------


def publish(state: State, version: str | int) -> None:
    with translated_errors():
        target, epoch = state.version(version), state.index().epoch
    if target.active:
        raise ConflictError(f"v{target.number} is active already", hint="snapdex log")
    state.publish(target.number, epoch=epoch)


def forget(state: State, keep_last: int = 0, keep_tagged: bool = False) -> retention.ForgetPlan:
    policy = RetentionConfig(keep_last=keep_last, keep_daily=0, keep_tagged=keep_tagged)
    with state.connect() as connection, translated_errors():
        return retention.forget(connection, get_index(connection, state.name), policy)


def tag(state: State, name: str, version: int) -> None:
    with state.connect() as connection, translated_errors():
        set_tag(connection, get_index(connection, state.name), name, version)


def pin(state: State, version: int) -> None:
    with state.connect() as connection, translated_errors():
        index = get_index(connection, state.name)
        retention.pin(connection, index, get_version(connection, index, version).number)


def unpin(state: State, version: int) -> None:
    with state.connect() as connection, translated_errors():
        retention.unpin(connection, get_index(connection, state.name), version)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "run": lambda state, publish=True: state.run(publish=publish),
    "publish": publish,
    "rollback": lambda state, version=None: state.rollback(version),
    "forget": forget,
    "prune": lambda state: prune(state.config, state.workspace),
    "restore": lambda state, target=None: restore(state.config, state.workspace, target),
    "tag": tag,
    "pin": pin,
    "unpin": unpin,
}


# -- fail points of this process ---------------------------------------------------------------------------------------


def replace_failpoints(instead: Callable[[str], None]) -> Callable[[], None]:
    """Let every fail point call `instead`; returns what takes that back."""
    real = failpoints.failpoint
    modules = [module for module in list(sys.modules.values()) if getattr(module, "failpoint", None) is real]

    def put(function: Callable[[str], None]) -> None:
        for module in modules:
            module.failpoint = function  # type: ignore[attr-defined]

    put(instead)
    return lambda: put(real)


# -- processes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ending:
    code: int
    output: str
    reached: Counter[str]  # fail points, where they were counted


def perform(
    state: State,
    operation: str,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    count: bool = False,
    before: Callable[[], None] | None = None,
) -> Ending:
    """Do it in a process of its own, with these variables set; `before` is called there first."""
    with tempfile.TemporaryDirectory() as directory:
        output, trace = Path(directory) / "output", Path(directory) / "trace"
        variables = {**os.environ, "SNAPDEX_DATABASE_URL": state.url, **(environment or {})}
        job = (state.root, state.url, operation, arguments, variables, output, trace if count else None, before)
        process = _forks.Process(target=_child, args=job)
        process.start()
        process.join(SECONDS)
        assert process.exitcode is not None, f"{operation} did not end in {SECONDS} s"
        code = process.exitcode
        process.close()
        reached = Counter(trace.read_text("utf-8").split()) if trace.exists() else Counter[str]()
        return Ending(code, output.read_text("utf-8", "replace"), reached)


def _child(
    root: Path,
    url: str,
    operation: str,
    arguments: tuple[object, ...],
    environment: Mapping[str, str],
    output: Path,
    trace: Path | None,
    before: Callable[[], None] | None,
) -> None:
    _settle(environment, output)
    if trace:
        names = trace.open("w", encoding="utf-8", buffering=1)
        replace_failpoints(lambda name: print(name, file=names))
    if before:
        before()
    sys.exit(exit_code(lambda: do(open_state(root, url), operation, *arguments)))


def _settle(environment: Mapping[str, str], output: Path) -> None:
    """Let a forked process have these variables, and its streams in a file."""
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)


def said_so(ending: Ending) -> bool:
    """Whether a command that lost its connection ended as it should: with an error on purpose, worth another try."""
    return ending.code == ServiceUnavailable.exit_code


def exit_code(job: Callable[[], object]) -> int:
    """0, or that of the error on purpose; any other one ends the process with its traceback, as in the program."""
    try:
        job()
    except SnapdexError as error:
        sys.stderr.write(f"error: {type(error).__name__}: {error}\nhint: {error.hint}\n")
        return error.exit_code
    return 0


def import_everything() -> None:
    """So that `replace_failpoints` finds each module that has one."""
    for name in MODULES:
        importlib.import_module(name)


# -- one that works until it is killed ---------------------------------------------------------------------------------


class Worker:
    """A process that does one random operation after the other, and writes into `journal` before and after each."""

    def __init__(self, state: State, seed: int, journal: Path, model: Model, documents: Documents) -> None:
        self._journal = journal
        self._output = journal.with_name("output")
        variables = dict(os.environ)
        job = (state.root, state.url, variables, seed, journal, self._output, model, documents)
        self._process = _forks.Process(target=_work, args=job)
        self._process.start()

    def wait_until_it_works(self) -> None:
        deadline = time.monotonic() + SECONDS
        while self.works() and not self._journal.stat().st_size:
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def works(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> Ending:
        """Waits until it has ended."""
        self._process.join(SECONDS)
        code = self._process.exitcode
        assert code is not None
        self._process.close()
        return Ending(code, self._output.read_text("utf-8", "replace"), Counter())


def _work(
    root: Path,
    url: str,
    environment: Mapping[str, str],
    seed: int,
    journal: Path,
    output: Path,
    model: Model,
    documents: Documents,
) -> None:
    _settle(environment, output)
    state = open_state(root, url)
    choose = random.Random(seed)
    log = os.open(journal, os.O_WRONLY | os.O_APPEND)

    def work() -> None:
        now, there = model, documents
        while True:
            (operation, arguments), there = next_step(choose, now, there)
            state.become(there)
            entry = {"operation": operation, "arguments": arguments, "documents": there}
            os.write(log, (json.dumps(entry) + "\n").encode())
            do(state, operation, *arguments)
            os.write(log, b"{}\n")
            now = passes(now, (operation, arguments), there)[-1]

    sys.exit(exit_code(work))


def do(state: State, operation: str, *arguments: object) -> Any:
    if operation == "rollback" and arguments:
        arguments = (f"v{str(arguments[0]).removeprefix('v')}",)
    return OPERATIONS[operation](state, *arguments)
