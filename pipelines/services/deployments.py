"""The schedules of params.yaml become deployments on the Prefect server: `flows.deploy` does it, as a program."""

import importlib.util
import json
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import ConfigError, ServiceUnavailable
from pipelines.services.programs import POOL, environment, prefect_url
from pipelines.services.state import Place, State, last_line

DEPLOY_SECONDS = 120.0
POOL_SECONDS = 60.0
POLL_SECONDS = 0.2
ENDED = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]  # types of states


def deploy(root: Path, state: State, say: Callable[[str], None]) -> int:
    """Make the deployments what params.yaml says, and return how many there are."""
    api = f"{prefect_url(state)}/api"
    _wait_for_pool(api)
    if importlib.util.find_spec("flows") and importlib.util.find_spec("flows.deploy"):
        say("deploying the schedules of params.yaml")
        log = Place(root / ".snapdex").log("deploy")
        try:
            with log.open("wb") as output:
                done = subprocess.run(
                    [sys.executable, "-P", "-m", "flows.deploy", "--home", str(root)],
                    cwd=root,
                    env=environment(root, state),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=DEPLOY_SECONDS,
                    check=False,
                )
        except subprocess.TimeoutExpired:
            raise ServiceUnavailable(f"deploying took over {DEPLOY_SECONDS:.0f} s", hint=f"read {log}") from None
        if done.returncode != 0:
            kind = ConfigError if done.returncode == ConfigError.exit_code else ServiceUnavailable
            raise kind(f"the services run, but deploying failed: {_error_in(log)}", hint=f"read {log}")
    try:
        count = ask(f"{api}/deployments/count", {})
    except OSError as error:
        raise ServiceUnavailable(f"the Prefect server does not answer: {error}", hint="snapdex status") from error
    assert isinstance(count, int)
    return count


@dataclass(frozen=True)
class LastRun:
    """How the last run of a deployment ended."""

    deployment: str
    run: str
    state: str  # Completed, Skipped, Failed, Crashed, Cancelled
    ended: str
    message: str


def last_runs(state: State) -> list[LastRun]:
    """Of each deployment that has run, by name. Raises `OSError` where the Prefect server does not answer."""
    api = f"{prefect_url(state)}/api"
    found = []
    for deployment in ask(f"{api}/deployments/filter", {"sort": "NAME_ASC"}):
        ended = {
            "deployments": {"id": {"any_": [deployment["id"]]}},
            "flow_runs": {"state": {"type": {"any_": ENDED}}},
            "sort": "END_TIME_DESC",
            "limit": 1,
        }
        for run in ask(f"{api}/flow_runs/filter", ended):
            how = run["state"]
            found.append(
                LastRun(deployment["name"], run["name"], how["name"], run["end_time"] or "", how["message"] or "")
            )
    return found


def end_lost_runs(state: State) -> int:
    """Say of flow runs that began before this supervisor that they crashed; how many there were.

    It ended their processes before it started anything, or found them ended. Without this, a run that was killed
    together with the server would be shown as running for ever, because its heartbeat stopped when nobody listened.
    """
    api = f"{prefect_url(state)}/api"
    lost = {
        "flow_runs": {"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}, "start_time": {"before_": state.began}},
        "work_pools": {"name": {"any_": [POOL]}},
    }
    crashed = {"type": "CRASHED", "name": "Crashed", "message": "The services ended while it ran."}
    try:
        runs = ask(f"{api}/flow_runs/filter", lost)
        for run in runs:
            ask(f"{api}/flow_runs/{run['id']}/set_state", {"state": crashed, "force": True})
    except OSError as error:
        raise ServiceUnavailable(f"the Prefect server does not answer: {error}", hint="snapdex status") from error
    return len(runs)


def _error_in(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()
    return next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), last_line(log))


def _wait_for_pool(api: str) -> None:
    """The worker makes the pool; until it has, there is nothing to deploy to."""
    deadline = time.monotonic() + POOL_SECONDS
    while True:
        try:
            if ask(f"{api}/work_pools/{POOL}")["base_job_template"]:
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"there is no work pool: {error}", hint="snapdex status") from None
        time.sleep(POLL_SECONDS)


def ask(url: str, body: object = None) -> Any:
    """The answer of the Prefect API to a GET, or to a POST of `body`."""
    headers = {"Content-Type": "application/json"}
    if body is not None:
        client = str(uuid.uuid4())
        token = ask(f"{url.partition('/api/')[0]}/api/csrf-token?client={client}")["token"]
        headers |= {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}
    data = None if body is None else json.dumps(body).encode("utf-8")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data, headers), timeout=30) as response:
        return json.load(response)
