"""up, down and status: what a command, which is not the supervisor, does with it."""

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines.errors import ServiceUnavailable
from pipelines.index.server import EmbeddedServer
from pipelines.services.deployments import LastRun, deploy, end_lost_runs, last_runs
from pipelines.services.ports import Ports
from pipelines.services.processes import end, marker
from pipelines.services.programs import mlflow_url, prefect_url, services
from pipelines.services.state import Place, State, Status, last_line
from pipelines.services.supervisor import Supervisor, guarded

UP_SECONDS = 120.0
GIVE_UP_RESTARTS = 3  # of a service that never became healthy: waiting longer does not help
DOWN_SECONDS = 60.0
POLL_SECONDS = 0.2
NAMES = ("postgres", "prefect", "mlflow", "worker")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Up:
    """What runs, and where people find it."""

    workspace: str
    started: bool  # False: it ran before
    prefect: str
    mlflow: str
    deployments: int
    logs: str
    seconds: float


def supervise(root: Path, say: Say | None = None, ready: Callable[[], None] = lambda: None) -> bool:
    """Be the supervisor of this workspace until SIGTERM, SIGINT or SIGHUP; False where another one is."""
    place = Place(root / ".snapdex")
    with place.held() as alone:
        if not alone:
            return False
        end(marker(place.state), grace_seconds=0)  # what a killed supervisor could not end
        before = place.read()
        state = dataclasses.replace(
            before,
            supervisor=os.getpid(),
            generation=uuid.uuid4().hex[:12],
            began=datetime.now(UTC).isoformat(),
            services={},
        )
        asyncio.run(_supervise(root, place, state, say, ready))
    return True


async def _supervise(root: Path, place: Place, state: State, say: Say | None, ready: Callable[[], None]) -> None:
    with guarded(place, state.generation), Ports(state.ports) as ports:
        supervisor = Supervisor(place, state, services(root, place, state, ports), ready=ready)
        if say is not None:
            supervisor.say = say
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, supervisor.end)
        await supervisor.run()
        state.supervisor = None
        place.write(state)


def up(root: Path, say: Say) -> Up:
    """Have everything run, and deploy the schedules. Returns when all services are healthy.

    Raises `ServiceUnavailable`, with the last line of its log, for a service that does not become healthy; what this
    call started is stopped again then.
    """
    began = time.monotonic()
    place = Place(root / ".snapdex")
    child = None if place.holder() else start_supervisor(root, place)
    try:
        state = wait_until_healthy(place, child, say, began + UP_SECONDS)
    except BaseException:
        if child is not None and place.holder() in (child.pid, None):
            child.terminate()
            down(root)
        raise
    deployments = deploy(root, state, say)
    if lost := end_lost_runs(state):
        say(f"{lost} flow runs were in progress when the services ended: they are crashed")
    return Up(
        str(root),
        child is not None and child.pid == state.supervisor,
        prefect_url(state),
        mlflow_url(state),
        deployments,
        str(place.logs),
        round(time.monotonic() - began, 1),
    )


def start_supervisor(root: Path, place: Place) -> "subprocess.Popen[bytes]":
    """The supervisor as a process that outlives this one."""
    place.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    with place.log("supervisor").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "pipelines.services", "--home", str(root)],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until_healthy(place: Place, child: "subprocess.Popen[bytes] | None", say: Say, deadline: float) -> State:
    said: dict[str, str] = {}
    while True:
        holder, state = place.holder(), place.read()
        if holder is None and (child is None or child.poll() is not None):
            raise ServiceUnavailable(
                f"the supervisor ended: {last_line(place.log('supervisor'))}", hint=f"read {place.log('supervisor')}"
            )
        if holder == state.supervisor:
            for each in state.services.values():
                if said.get(each.name) != each.state:
                    where = each.url if each.state == "running" and each.url else ""
                    say(f"{each.name:<9} {each.state:<10} {where}".rstrip())
                    said[each.name] = each.state
            waiting = [each for each in state.services.values() if each.state != "running"]
            if state.services and not waiting:
                return state
            hopeless = [each for each in waiting if each.restarts >= GIVE_UP_RESTARTS]
            if hopeless or time.monotonic() > deadline:
                raise _not_healthy((hopeless or waiting)[0])
        time.sleep(POLL_SECONDS)


def _not_healthy(service: Status) -> ServiceUnavailable:
    problem = service.problem or "is not ready yet"
    said = "" if ":" in problem else f": {last_line(Path(service.log))}"  # after a colon it says so itself
    return ServiceUnavailable(f"{service.name} {problem}{said}", hint=f"read {service.log}")


# -- down and status ---------------------------------------------------------------------------------------------------


def down(root: Path) -> list[str]:
    """Stop everything that `up` started, also after its supervisor was killed; the names of what ran."""
    place = Place(root / ".snapdex")
    names = [each.name for each in status(root) if each.state != "stopped"]
    if (holder := place.holder()) is not None:
        os.kill(holder, signal.SIGTERM)
        deadline = time.monotonic() + DOWN_SECONDS
        while place.holder() == holder and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 2)
        if place.holder() == holder:
            os.kill(holder, signal.SIGKILL)
            while place.holder() == holder:
                time.sleep(POLL_SECONDS / 2)
    with place.held() as alone:
        if alone:  # otherwise somebody calls `up` at this moment
            end(marker(place.state), grace_seconds=0)
            state = place.read()
            if state.owns_postgres:
                EmbeddedServer(place.state).stop()
            for name, each in state.services.items():
                if each.state != "stopped":
                    state.set(name, "stopped", pid=None)
            state.supervisor, state.owns_postgres = None, False
            if place.file.exists():
                place.write(state)
    return [name for name in names if name != "postgres" or not EmbeddedServer(place.state).is_running()]


def runs(root: Path) -> list[LastRun]:
    """How the last run of each deployment ended; none where the Prefect server does not answer."""
    place = Place(root / ".snapdex")
    if place.holder() is None:
        return []
    try:
        return last_runs(place.read())
    except (OSError, KeyError):  # it is only starting, perhaps on a port that is not chosen yet
        return []


def status(root: Path) -> list[Status]:
    """Each service as it is. Without a supervisor only the embedded Postgres can run, for other commands."""
    place = Place(root / ".snapdex")
    state = place.read()
    if place.holder() is not None and place.holder() == state.supervisor:
        return list(state.services.values())
    found = []
    for name in NAMES:
        if name == "postgres" and os.environ.get("SNAPDEX_DATABASE_URL"):
            continue
        each = state.services.get(name) or Status(name, "stopped", None, None, "", 0, "", str(place.log(name)))
        each.state, each.pid = "stopped", None
        found.append(each)
        if name == "postgres":
            server = EmbeddedServer(place.state)
            each.log = str(server.log)
            if server.is_running():
                each.state, each.url = "running", server.url
    return found
