"""What MLflow gets of a comparison: a run with the page, and a child for each system."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import compare
from pipelines.errors import ServiceUnavailable
from tests.compare import world
from tests.http_server import Server
from tests.index.state import State
from tests.tracking.client import client_of


@pytest.fixture
def chat() -> Iterator[Server]:
    with Server(world.speak) as running:
        yield running


@pytest.fixture
def report(state: State, chat: Server) -> tuple[State, dict[str, Any]]:
    state.write(world.documents()).run()
    state = state.with_settings("generate.model=openai:terse", f"generate.endpoint={chat.url}", "embed.threads=1")
    return state, world.run_compare(state, world.knowledge()[:6])


def test_a_run_has_a_child_for_each_system(
    report: tuple[State, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, found = report
    client = client_of(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    tracked = compare.track(state.config, found)
    assert tracked
    whole = client.get_run(tracked.run_id)
    assert whole.info.run_name == "compare golden.jsonl"
    assert whole.data.tags["snapdex.remedy"] == found["recommendation"]["remedy"]
    assert whole.data.tags["snapdex.snapshot"] == found["snapshot"]
    assert [each.path for each in client.list_artifacts(tracked.run_id)] == ["compare.md"]
    runs = client.search_runs([whole.info.experiment_id], f"tags.mlflow.parentRunId = '{tracked.run_id}'")
    by_name = {run.data.params["system"]: run.data.metrics for run in runs}
    assert set(by_name) == {"prompt only", "RAG"}
    assert by_name["RAG"]["quality"] == found["systems"]["RAG"]["metrics"]["quality"]["mean"]
    assert by_name["prompt only"]["failures/missing_knowledge"] == 6
    assert by_name["RAG"]["latency_p95_seconds"] > 0


def test_nothing_is_told_where_nobody_listens(
    report: tuple[State, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, found = report
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert compare.track(state.config, found) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ServiceUnavailable):
        compare.track(state.config, found)
