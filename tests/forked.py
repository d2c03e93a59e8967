"""Many runs of a program that may be killed, each a process of its own, whose libraries were imported once for all.

python -m tests.forked: reads from stdin lines of JSON, `[module, arguments, environment, directory, files of stdout and
stderr]`, and for each prints the exit code of `python -m module arguments`. PyTorch and its friends take seconds to
import, a small training takes one.
"""

import json
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


@dataclass(frozen=True)
class Ended:
    code: int
    stdout: str
    stderr: str


class Forks:
    """What runs the programs, and keeps what they write below `place`."""

    def __init__(self, process: "subprocess.Popen[str]", place: Path) -> None:
        self._process, self._place = process, place

    def run(self, module: str, *arguments: str, cwd: Path | None = None, **environment: str) -> Ended:
        """What became of `python -m module arguments`."""
        sent, answered = self._process.stdin, self._process.stdout
        assert sent is not None and answered is not None
        files = [self._place / name for name in ("stdout", "stderr")]
        told = [module, arguments, {**os.environ, **environment}, str(cwd or self._place), *map(str, files)]
        sent.write(json.dumps(told) + "\n")
        sent.flush()
        code = int(answered.readline())
        return Ended(code, *(path.read_text("utf-8") for path in files))


@contextmanager
def forks(preload: Sequence[str], place: Path) -> Iterator[Forks]:
    command = [sys.executable, "-m", "tests.forked", *preload]
    root = Path(__file__).resolve().parents[1]
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
        yield Forks(process, place)
        assert process.stdin is not None
        process.stdin.close()


def _answer(asked: IO[str], answers: IO[str]) -> None:
    for line in asked:
        told = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(*told)
        _, status = os.waitpid(child, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


def _become(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], cwd: str, stdout: str, stderr: str
) -> None:
    """Run the module as the main program and end."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [module, *arguments]
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        __import__(name)
    _answer(sys.stdin, sys.stdout)
