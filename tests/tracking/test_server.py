"""A real MLflow server that goes away in the middle of a run: the run ends without it, and nothing is there twice."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import EmbedConfig
from pipelines.errors import ServiceUnavailable
from pipelines.files import Workspace
from pipelines.models import resolve_model
from pipelines.tracking import champion, open_journal, sync
from tests.index.tcp import free_port
from tests.tracking.client import client_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@contextmanager
def server(directory: Path, port: int) -> Iterator[None]:
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += [
        "--backend-store-uri",
        f"sqlite:///{directory}/mlflow.db",
        "--artifacts-destination",
        f"{directory}/files",
    ]
    with (directory / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mlflow", *words],
            cwd=directory,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=log,
            stderr=log,
        )
    try:
        give_up = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert process.poll() is None and time.monotonic() < give_up, (directory / "server.log").read_text()
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_a_server_that_stops_in_the_middle_costs_nothing(
    workspace: Workspace, tmp_path: Path, model: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client_of(tmp_path)  # the tables
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    journal = open_journal(workspace, "tuned", experiment="tuning", name="tuned")
    with server(tmp_path, port):
        journal.params({"lr": 2e-5})
        journal.metrics({"loss": 1.0, "grad_norm": float("nan")}, 0)
        (report,) = sync(workspace)
        assert (report.sent, report.finished) == (3, False)
        sent = workspace.state / "tracking" / "tuned" / "sent.json"
        before = sent.read_text()
        journal.metrics({"loss": 0.9}, 1)
        sync(workspace)
        sent.write_text(before)  # as if it had been killed before it noted that
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        sync(workspace)
    with journal:
        journal.metrics({"loss": 0.5}, 2)
        journal.text("gate.md", "# passed")
        journal.model(*model)
        journal.register("tuned", "# Card", {"snapdex.gate": "passed"})
        journal.promote("tuned", None)
        journal.finish("FINISHED")
    with server(tmp_path, port):
        (report,) = sync(workspace)
        assert (report.finished, report.versions, champion("tuned")) == (True, {"tuned": "1"}, "1")
        assert report.url and report.url.startswith(f"http://127.0.0.1:{port}/#/experiments/")
        import mlflow

        client = mlflow.MlflowClient(tracking_uri=f"http://127.0.0.1:{port}")
        (run,) = client.search_runs([client.get_experiment_by_name("tuning").experiment_id])
        assert (run.info.run_id, run.info.status) == (report.run_id, "FINISHED")
        assert [each.value for each in client.get_metric_history(report.run_id, "loss")] == [1.0, 0.9, 0.5]
        assert len(client.get_metric_history(report.run_id, "grad_norm")) == 1
        assert [each.path for each in client.list_artifacts(report.run_id)] == ["gate.md"]
        here = resolve_model(EmbedConfig(model=f"path:{model[0]}"), workspace)
        there = resolve_model(EmbedConfig(model="mlflow:tuned@champion"), workspace)
        assert (there.name, there.space) == ("mlflow:tuned@1", here.space)
        assert sync(workspace) == []
