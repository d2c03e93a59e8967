"""What `snapdex up` starts: which programs, with which settings, in which order.

Everything listens on the loopback interface, and nothing phones home.
"""

import importlib.metadata
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.errors import ServiceUnavailable
from pipelines.index.server import EmbeddedServer
from pipelines.services.ports import HOST, Ports
from pipelines.services.processes import MARK, marker
from pipelines.services.state import Place, State
from pipelines.services.supervisor import Program, Service
from pipelines.silence import SILENT

POOL = "snapdex"
PREFERRED_PORTS = {"prefect": 4200, "mlflow": 5000, "worker": 4280}
HEARTBEAT_SECONDS = 30  # of flow runs: how a run that was killed is noticed
POLL_SECONDS = 5  # how long a run that somebody asks for waits; scheduled ones are fetched before their time
QUIET = SILENT | {"PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false"}
KEPT = ("PREFECT_LOGGING_LEVEL",)  # of the caller's settings of Prefect and MLflow; others are about other servers


def prefect_url(state: State) -> str:
    return f"http://{HOST}:{state.ports['prefect']}"


def mlflow_url(state: State) -> str:
    return f"http://{HOST}:{state.ports['mlflow']}"


def environment(root: Path, state: State) -> dict[str, str]:
    """Of everything that talks to the servers: the worker, its flow runs, and who deploys."""
    return _without_others() | {
        "SNAPDEX_HOME": str(root),
        "PREFECT_HOME": str(root / ".snapdex" / "prefect"),
        "PREFECT_API_URL": f"{prefect_url(state)}/api",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "MLFLOW_TRACKING_URI": mlflow_url(state),
    }


def _without_others() -> dict[str, str]:
    ours = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or (not name.startswith(("PREFECT_", "MLFLOW_")) and name != MARK)
    }
    direct = {name: ",".join(filter(None, [ours.get(name), HOST, "localhost"])) for name in ("no_proxy", "NO_PROXY")}
    return ours | direct | QUIET | {"PYTHONUNBUFFERED": "1", "PREFECT_LOGGING_COLORS": "false"}


def services(root: Path, place: Place, state: State, ports: Ports) -> list[Service]:
    """In the order of their start. The embedded Postgres is left out where SNAPDEX_DATABASE_URL names another."""
    for name, preferred in PREFERRED_PORTS.items():
        ports.settle(name, preferred)

    def free_port(name: str) -> None:
        if worker.process is None or name == "worker":  # later, the worker and its runs know the address
            ports.settle(name, PREFERRED_PORTS[name])

    def prepare_mlflow() -> None:
        free_port("mlflow")
        initialise_mlflow(place, state)

    database: list[Service] = [] if os.environ.get("SNAPDEX_DATABASE_URL") else [Database(place, state)]
    prefect = Program(
        "prefect",
        place,
        state.generation,
        command=lambda: _python("prefect", "server", "start", "--host", HOST, "--port", state.ports["prefect"]),
        environment=lambda: _prefect_environment(root, state),
        directory=place.state / "prefect",
        probe=lambda: f"{prefect_url(state)}/api/health",
        shown=lambda: prefect_url(state),
        before=lambda: free_port("prefect"),
    )
    mlflow = Program(
        "mlflow",
        place,
        state.generation,
        command=lambda: _python(
            *("mlflow", "server", "--host", HOST, "--port", state.ports["mlflow"], "--workers", 1),
            *("--backend-store-uri", "sqlite:///mlflow.db"),
            *("--artifacts-destination", (place.state / "mlflow" / "artifacts").resolve().as_uri()),
        ),
        environment=_mlflow_environment,
        directory=place.state / "mlflow",
        probe=lambda: f"{mlflow_url(state)}/health",
        shown=lambda: mlflow_url(state),
        before=prepare_mlflow,
    )
    worker = Program(
        "worker",
        place,
        state.generation,
        command=lambda: _python(
            *("prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", POOL),
            *("--with-healthcheck", "--install-policy", "never"),
        ),
        environment=lambda: (
            environment(root, state)
            | {
                "PREFECT_WORKER_WEBSERVER_HOST": HOST,
                "PREFECT_WORKER_WEBSERVER_PORT": str(state.ports["worker"]),
                "PREFECT_WORKER_QUERY_SECONDS": str(POLL_SECONDS),
            }
        ),
        directory=root,
        probe=lambda: f"http://{HOST}:{state.ports['worker']}/health",
        after=tuple(each.name for each in (*database, prefect, mlflow)),  # a flow run needs them all
        before=lambda: free_port("worker"),
        spares=True,
    )
    return [*database, prefect, mlflow, worker]


def _python(*arguments: object) -> list[str]:
    """A module of the installation as a program, whatever directories of its name are in the workspace."""
    return [sys.executable, "-P", "-m", *map(str, arguments)]


def _prefect_environment(root: Path, state: State) -> dict[str, str]:
    url = prefect_url(state)
    origins = ",".join((url, f"http://localhost:{state.ports['prefect']}"))
    settings = {
        "PREFECT_UI_API_URL": f"{url}/api",  # what the browser asks
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,  # with the defaults of this and the next line, every
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",  # web page that somebody looks at could start flows
    }
    database = os.environ.get("PREFECT_SERVER_DATABASE_CONNECTION_URL")
    if database and os.environ.get("SNAPDEX_DATABASE_URL"):
        settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    return environment(root, state) | settings


def _mlflow_environment() -> dict[str, str]:
    return _without_others() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # five processes that nothing here needs


def initialise_mlflow(place: Place, state: State) -> None:
    """Bring MLflow's database up to date, once per version of MLflow. A first one is made whole, or not at all."""
    directory = place.state / "mlflow"
    installed = importlib.metadata.version("mlflow")
    database, fresh = directory / "mlflow.db", directory / "mlflow.db.new"
    if database.exists() and state.mlflow_schema == installed:
        return
    fresh.unlink(missing_ok=True)
    target = database if database.exists() else fresh
    done = subprocess.run(
        _python("mlflow", "db", "upgrade", f"sqlite:///{target.name}"),
        cwd=directory,
        env=_mlflow_environment() | {MARK: marker(place.state, state.generation, "mlflow")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        raise ServiceUnavailable(f"the database of MLflow is not ready: {last}", hint=f"look at {target}")
    target.rename(database)
    state.mlflow_schema = installed


@dataclass
class Database:
    """The embedded Postgres. Other commands may have started it, and go on to use it: it is nobody's child."""

    place: Place
    state: State
    name: str = "postgres"
    after: tuple[str, ...] = ()
    _ended: bool = False
    _busy: threading.Lock = field(default_factory=threading.Lock)

    @property
    def log(self) -> Path:
        return self.server.log

    @property
    def server(self) -> EmbeddedServer:
        return EmbeddedServer(self.place.state)

    def prepare(self) -> None:
        with self._busy:
            if not self._ended and not self.server.is_running():
                self.server.ensure_running()
                self.state.owns_postgres = True

    def start(self) -> None:
        pass

    def pid(self) -> int | None:
        try:
            pid = int((self.server.data / "postmaster.pid").read_text("utf-8").splitlines()[0])
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
            return None
        except PermissionError:  # it lives, as another user
            pass
        return pid

    def url(self) -> str | None:
        return self.server.url

    def healthy(self) -> bool:
        return self.server.is_running()

    def clear(self) -> None:
        pass

    def stop(self) -> None:
        """Only where `up` started it: otherwise it was there before, for somebody else."""
        with self._busy:
            self._ended = True
            if self.state.owns_postgres:
                self.server.stop()
                self.state.owns_postgres = False
