"""One real Prefect server for all tests of flows: it takes some ten seconds to start, and it is never idle."""

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.files import Workspace

PROGRAM = Path(sys.executable).parent / "snapdex"
PAGES = {
    "guides/refunds.md": "# Refunds\n\nA support agent may refund up to 250 euros.\n",
    "guides/failover.md": "# Failover\n\nRun `pg_ctl promote` on the replica.\n",
    "notes/glossary.txt": "Drayage: the short haul between port and warehouse.\n",
}


@pytest.fixture(scope="package", autouse=True)
def prefect_server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as environment:  # set before the first import of prefect
        environment.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        environment.setenv("PREFECT_LOGGING_LEVEL", "ERROR")
        environment.setenv("DO_NOT_TRACK", "1")
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=180):
            yield


@pytest.fixture
def workspace(tmp_path, template, database):
    """A workspace with three documents in `docs/`."""
    root = tmp_path / "handbook"
    shutil.copytree(template, root)
    params = root / "params.yaml"
    changed = params.read_text("utf-8").replace("minilm", "hash:384").replace("sources: []", "sources: [docs]")
    params.write_text(changed, "utf-8")
    for name, text in PAGES.items():
        path = root / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return Workspace(root)


@pytest.fixture
def snapdex(workspace):
    """Runs a command in the workspace and returns what it prints as JSON."""

    def run(*words):
        done = subprocess.run(
            [PROGRAM, *words, "--json"], cwd=workspace.root, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    return run


@pytest.fixture
def golden(workspace):
    """A golden set with a question that is answered and one that cannot be, and parameters that name it."""
    rows = [
        {"_id": "refund", "question": "how much may support refund?", "documents": ["guides/refunds.md"]},
        {"_id": "wrong", "question": "what is drayage?", "documents": ["guides/nowhere.md"]},
    ]
    (workspace.root / "golden.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory):
    """An MLflow store in SQLite; its tables are made once."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own code, on import
        import mlflow

        uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
        mlflow.MlflowClient(tracking_uri=uri).search_experiments()
    return uri


@pytest.fixture
def mlflow_runs(mlflow_uri, monkeypatch, workspace):
    """MLflow is where `MLFLOW_TRACKING_URI` says; returns a function: the runs of an experiment, newest first."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    monkeypatch.chdir(workspace.root)  # where MLflow keeps artifacts without a server
    client = mlflow.MlflowClient(tracking_uri=mlflow_uri)

    def runs(name="handbook"):
        found = client.get_experiment_by_name(name)
        return client.search_runs([found.experiment_id]) if found else []

    yield runs
    if found := client.get_experiment_by_name("handbook"):
        client.rename_experiment(found.experiment_id, f"handbook-{found.experiment_id}-done")


class Api:
    """What the Prefect server knows, asked over its API."""

    def __init__(self, client):
        self.client = client
        self.began = datetime.now(UTC)

    def post(self, path, **body):
        return self.client.request("POST", path, json=body).json()

    def artifacts(self, key):
        """The data of the artifacts of this test under a key, newest first."""
        found = self.post("/artifacts/filter", artifacts={"key": {"any_": [key]}}, sort="CREATED_DESC")
        return [each["data"] for each in found if datetime.fromisoformat(each["created"]) >= self.began]

    def events(self, name, *, wait_seconds=15):
        """Events of this test with that name, once there is one."""
        since = {"since": self.began.isoformat(), "until": (self.began + timedelta(hours=1)).isoformat()}
        give_up = time.monotonic() + wait_seconds
        while True:
            found = self.post("/events/filter", filter={"event": {"name": [name]}, "occurred": since})["events"]
            if found or time.monotonic() > give_up:
                return found
            time.sleep(0.2)


@pytest.fixture
def api(prefect_server):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield Api(client)
