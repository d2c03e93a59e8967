"""Small services: a real process with an HTTP server, told by files in its directory how to misbehave.

As a program, `small.py DIRECTORY PORT`: a supervisor of one such service, for tests that kill it.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.services.processes import MARK
from pipelines.services.state import Place, State
from pipelines.services.supervisor import Program, Supervisor, Times, guarded

GENERATION = "g1"
TIMES = Times(start=10.0, alive=0.02, probe=0.1, deaf=3, pause=0.1, longest_pause=0.4, stable=60.0)
SERVICE = """
import http.server, os, pathlib, signal, subprocess, sys, time
port, here = int(sys.argv[1]), pathlib.Path(sys.argv[2])
def note(line):
    with (here / "notes").open("a") as file: file.write(f"{here.name} {line}\\n")
note("start")
print("a line in the log", flush=True)
if (here / "broken").exists(): sys.exit("this cannot work")
if (here / "stubborn").exists(): signal.signal(signal.SIGTERM, signal.SIG_IGN)
else: signal.signal(signal.SIGTERM, lambda *_: (note("told"), os._exit(0)))
if (here / "has-runs").exists():  # in a session of its own, as a Prefect worker starts its flow runs
    run = subprocess.Popen([sys.executable, "-c", sys.argv[3], here / "notes"], start_new_session=True)
    while not (here / "notes").read_text().endswith("run starts\\n"): time.sleep(0.01)
    (here / "run").write_text(str(run.pid))
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if (here / "deaf").exists(): time.sleep(600)
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""
RUN = """
import signal, sys, time
def note(line):
    with open(sys.argv[1], "a") as file: file.write(line + "\\n")
signal.signal(signal.SIGTERM, lambda *_: (note("run told"), sys.exit()))
note("run starts")
time.sleep(600)
"""


def program(directory: Path, name: str, port: int, **changes: Any) -> Program:
    """A service with its own directory below that of the workspace's state."""
    (directory / name).mkdir(exist_ok=True)
    return Program(
        **{
            "name": name,
            "place": Place(directory),
            "generation": GENERATION,
            "command": lambda: [sys.executable, "-c", SERVICE, str(port), str(directory / name), RUN],
            "environment": lambda: {each: value for each, value in os.environ.items() if each != MARK},
            "directory": directory / name,
            "probe": lambda: f"http://127.0.0.1:{port}/",
            "probe_seconds": 0.3,
            "grace_seconds": 2.0,
            **changes,
        }
    )


def supervisor(directory: Path, *programs: Program) -> Supervisor:
    return Supervisor(Place(directory), State(os.getpid(), GENERATION), programs, times=TIMES)


def run(supervisor: Supervisor, story: Callable[[Supervisor], Any], seconds: float = 30.0) -> None:
    """Let the supervisor work while the story is told, then end it in order."""

    async def both() -> None:
        working = asyncio.create_task(supervisor.run())
        try:
            await asyncio.wait_for(story(supervisor), seconds)
        finally:
            supervisor.end()
            await working

    asyncio.run(both())


async def until(condition: Callable[[], Any]) -> Any:
    while not (value := condition()):
        await asyncio.sleep(0.02)
    return value


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def _main(directory: Path, port: int) -> None:
    with guarded(Place(directory), GENERATION):
        await supervisor(directory, program(directory, "one", port)).run()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
