"""`snapdex up` as a user has it: real servers, killed with -9 in every way, and nothing lost."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import small

from pipelines.index.server import EmbeddedServer
from pipelines.services.deployments import ask
from pipelines.services.processes import end, marked, marker
from pipelines.services.state import Place

PROGRAM = Path(sys.executable).parent / "snapdex"
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("SNAPDEX_", "PREFECT_", "MLFLOW_"))
}
NAMES = ["postgres", "prefect", "mlflow", "worker"]
SLEEPER = """
import os, pathlib, subprocess, sys, time
from prefect import flow

@flow
def sleeper():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path("pids.new").write_text(f"{os.getpid()} {child.pid}")
    pathlib.Path("pids.new").rename("pids")
    time.sleep(600)

if __name__ == "__main__":
    from prefect.deployments import run_deployment
    there = sleeper.from_source(source=os.getcwd(), entrypoint="sleeper.py:sleeper")
    run_deployment(there.deploy(name="long", work_pool_name="snapdex", print_next_steps=False), timeout=0)
"""
OF_SLEEPER = {"flows": {"name": {"any_": ["sleeper"]}}}


class Home:
    """The workspace that all tests of this module share."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.place = Place(root / ".snapdex")
        self.mark = marker(self.place.state)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [PROGRAM, *arguments],
            cwd=self.root,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        out, self.stderr = process.communicate(timeout=240)
        assert process.returncode == code, (out, self.stderr)
        return out

    def status(self, code: int = 0) -> dict[str, dict]:
        answer = json.loads(self("status", "--json", code=code))
        assert answer["running"] == (code == 0)
        return {each["name"]: each for each in answer["services"]}

    def ask(self, path: str, body: object = None) -> object:
        return ask(self.up["prefect"] + path, body)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("services") / "handbook")
    subprocess.run([PROGRAM, "init", home.root], env=ENVIRONMENT, check=True, capture_output=True)
    assert {each["state"] for each in home.status(code=75).values()} == {"stopped"}
    try:
        home.up = json.loads(home("up", "--json"))
        yield home
    finally:
        if (holder := home.place.holder()) is not None:
            os.kill(holder, signal.SIGKILL)
        end(home.mark, grace_seconds=0)
        EmbeddedServer(home.place.state).stop()


def test_everything_runs_and_says_where(home):
    assert home.up["started"]
    assert home.stderr.splitlines()[:4] == [f"{name:<9} starting" for name in NAMES]
    found = home.status()
    assert list(found) == NAMES
    for name, service in found.items():
        assert service["state"] == "running" and service["restarts"] == 0
        assert small.lives(service["pid"])
        assert Path(service["log"]).exists()
        assert name == "worker" or service["url"]
    assert home.ask("/api/health") is True
    assert home.ask("/api/work_pools/snapdex")["type"] == "process"
    assert home.ask("/api/deployments/count", {}) == home.up["deployments"]
    assert home.ask("/ui-settings")["api_url"] == f"{home.up['prefect']}/api"  # what the page in a browser asks
    with urllib.request.urlopen(home.up["mlflow"], timeout=30) as response:
        assert b"MLflow" in response.read()
    assert home("db", "url").strip() == found["postgres"]["url"]  # other commands use the same server


def test_status_says_how_the_last_run_ended(home):
    """A workspace without sources: each scheduled run fails, and nobody looks at logs."""
    deployment = home.ask("/api/deployments/name/ingest/handbook-ingest")["id"]
    home.ask(f"/api/deployments/{deployment}/create_flow_run", {})
    (run,) = small.wait_until(lambda: json.loads(home("status", "--json"))["runs"])
    assert (run["deployment"], run["state"]) == ("handbook-ingest", "Failed")
    assert "there is no source" in run["message"]
    assert home("status").splitlines()[-1].endswith("ConfigError: there is no source")


def test_the_api_is_not_for_other_web_pages(home):
    request = urllib.request.Request(
        f"{home.up['prefect']}/api/health", headers={"Origin": "https://elsewhere.example"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert "access-control-allow-origin" not in response.headers
    blind = urllib.request.Request(f"{home.up['prefect']}/api/flow_runs/filter", b"{}", {"Content-Type": "text/plain"})
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        urllib.request.urlopen(blind, timeout=30)
    refused.value.close()


def test_whatever_is_killed_comes_back_and_a_second_up_changes_nothing(home):
    (home.root / "sleeper.py").write_text(SLEEPER)
    addresses = {"PREFECT_API_URL": f"{home.up['prefect']}/api", "PREFECT_HOME": str(home.place.state / "prefect")}
    subprocess.run(
        [sys.executable, "sleeper.py"], cwd=home.root, env=ENVIRONMENT | addresses | {"DO_NOT_TRACK": "1"}, check=True
    )
    before = home.status()
    again = json.loads(home("up", "--json"))
    assert not again["started"]
    assert (again["prefect"], again["mlflow"]) == (home.up["prefect"], home.up["mlflow"])
    assert home.status() == before

    pids = small.wait_until((home.root / "pids").exists) and (home.root / "pids").read_text()
    flow_run, its_child = map(int, pids.split())
    for service in before.values():
        os.kill(service["pid"], signal.SIGKILL)
    small.wait_until(
        lambda: all(each.restarts == 1 and each.state == "running" for each in home.place.read().services.values()), 120
    )
    after = home.status()
    assert {name: each["url"] for name, each in after.items()} == {name: each["url"] for name, each in before.items()}
    assert not {each["pid"] for each in after.values()} & {each["pid"] for each in before.values()}
    assert home.ask("/api/deployments/count", {}) == again["deployments"]
    assert [run["state"]["type"] for run in home.ask("/api/flow_runs/filter", OF_SLEEPER)] == ["RUNNING"]
    assert small.lives(flow_run) and small.lives(its_child)  # a run in progress goes on
    assert home("db", "url").strip() == after["postgres"]["url"]


def test_a_killed_supervisor_leaves_nothing_and_up_brings_all_back(home):
    flow_run, its_child = map(int, (home.root / "pids").read_text().split())
    deployments = home.ask("/api/deployments/count", {})
    before = home.status()
    os.kill(home.place.holder(), signal.SIGKILL)
    small.wait_until(lambda: not marked(home.mark), 10)
    assert not small.lives(flow_run) and not small.lives(its_child)
    left = home.status(code=75)
    assert {name: each["state"] for name, each in left.items() if name != "postgres"} == dict.fromkeys(
        NAMES[1:], "stopped"
    )
    assert left["postgres"]["state"] == "running"  # it is shared with other commands, and safe

    two = [home.start("up", "--json") for _ in range(2)]  # at the same time
    answers = [json.loads(process.communicate(timeout=240)[0]) for process in two]
    assert sorted(answer["started"] for answer in answers) == [False, True]
    assert {answer["prefect"] for answer in answers} == {home.up["prefect"]}
    assert home.ask("/api/deployments/count", {}) == deployments
    assert [run["state"]["type"] for run in home.ask("/api/flow_runs/filter", OF_SLEEPER)] == ["CRASHED"]
    assert home.status()["postgres"]["pid"] == before["postgres"]["pid"]


def test_down_stops_all_of_it(home):
    assert home("down").strip() == "stopped: postgres, prefect, mlflow, worker"
    assert marked(home.mark) == []
    assert {each["state"] for each in home.status(code=75).values()} == {"stopped"}
    assert not EmbeddedServer(home.place.state).is_running()
    assert home("down").strip() == "nothing was running"


def test_a_service_that_cannot_start_is_an_error_that_says_why(home):
    home.place.state.joinpath("postgres").rename(home.root / "elsewhere")
    home.place.state.joinpath("postgres").mkdir()
    home("up", "-q", code=75)
    error, hint = home.stderr.splitlines()
    assert error.startswith("error: postgres could not be started: ") and "is not a Postgres data directory" in error
    assert hint == f"hint: read {home.place.state / 'postgres.log'}"
    assert marked(home.mark) == []
