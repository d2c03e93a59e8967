"""The program as users run it: a process with its own streams, directory and exit code.

Most calls fork from a server that has imported the program's modules already, which saves a second of start-up each;
`command` and `start` are for tests to which the interpreter's start, a signal or a killed process tree matters.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).parent / "snapdex"
SECONDS = 120

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["pipelines.cli.__main__", "pipelines.ingest", "pipelines.cli.ingest", "psycopg"])


def clean_environment() -> dict[str, str]:
    """Ours without what would point the program elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SNAPDEX_", "PREFECT_", "PG"))}
    return kept | {"PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


@dataclass(frozen=True)
class Ending:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """What follows `error:`; an error is exactly one line that says what is wrong and one that says what to do."""
        lines = self.stderr.splitlines()
        assert len(lines) == 2, self.stderr
        assert lines[0].startswith("error: "), self.stderr
        assert lines[1].startswith("hint: "), self.stderr
        return lines[0].removeprefix("error: ")

    @property
    def hint(self) -> str:
        assert self.error
        return self.stderr.splitlines()[1].removeprefix("hint: ")


@dataclass
class Snapdex:
    """A workspace, and the program in it."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: object, code: int = 0, cwd: Path | None = None) -> Ending:
        """Run a command and check its exit code; on success nothing is on stderr, on failure exactly an error."""
        ending = self.ending(*arguments, cwd=cwd)
        assert ending.code == code, ending
        if code == 0:
            assert ending.stderr == "", ending
        else:
            assert ending.error
        return ending

    def ending(self, *arguments: object, cwd: Path | None = None) -> Ending:
        with tempfile.TemporaryDirectory() as directory:
            out, err = Path(directory) / "out", Path(directory) / "err"
            words = [str(argument) for argument in arguments]
            process = _forks.Process(target=_run, args=(words, cwd or self.root, self._environment(), out, err))
            process.start()
            process.join(SECONDS)
            assert process.exitcode is not None, f"{words} did not end in {SECONDS} s"
            code = process.exitcode
            process.close()
            return Ending(code, out.read_bytes().decode("utf-8"), err.read_bytes().decode("utf-8"))

    def json(self, *arguments: object, code: int = 0) -> Any:
        """The one JSON value that a command prints."""
        return json.loads(self(*arguments, "--json", code=code).stdout)

    def start(self, *arguments: object) -> "subprocess.Popen[str]":
        """The command as the leader of a session of its own, so that its whole tree can be found and signalled."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test in the background ignores it
        )

    def command(self, *arguments: object) -> list[str]:
        return [str(PROGRAM), *map(str, arguments)]

    def edit_params(self, change: Callable[[str], str]) -> None:
        path = self.root / "params.yaml"
        path.write_text(change(path.read_text("utf-8")), "utf-8")

    def _environment(self) -> dict[str, str]:
        return clean_environment() | self.environment


def _run(arguments: list[str], directory: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    """What `snapdex ARGUMENTS` does, in a forked process."""
    from pipelines.cli.__main__ import run

    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    sys.exit(run(arguments))
