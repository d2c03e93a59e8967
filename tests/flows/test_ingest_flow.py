"""The ingest flow on a real Prefect server: the same result as the command, and another try where it can help."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.errors import GateFailed, InputError, ServiceUnavailable


@pytest.fixture
def flow(monkeypatch):
    """The ingest flow with pauses between tries that a test can wait for."""
    from flows import ingest

    for task in (ingest.collect_documents, ingest.build_version):
        monkeypatch.setattr(task, "retry_delay_seconds", [0, 0, 0, 0])
    return ingest.ingest


def fails(times, error, real):
    """A stage that raises `error` the first `times` times, and a list with an entry for each call."""
    calls = []

    def stage(*arguments, **options):
        calls.append(arguments)
        if len(calls) <= times:
            raise error
        return real(*arguments, **options)

    return stage, calls


def test_it_publishes_what_the_command_would(flow, workspace, snapdex):
    report = flow(str(workspace.root))
    assert (report["version"], report["published"], report["documents"]["added"]) == (1, True, 3)
    assert snapdex("search", "refund")["snapshot"] == report["snapshot"]
    by_hand = snapdex("run", "--index", "by-hand")
    assert by_hand["snapshot"] == report["snapshot"]
    assert by_hand.keys() == report.keys()
    again = flow(str(workspace.root))
    assert (again["version"], again["published"], again["parsed"], again["embedded"]) == (1, False, 0, 0)
    unpublished = flow(str(workspace.root), overrides=["chunk.context=none"], publish=False)
    assert (unpublished["version"], unpublished["published"]) == (2, False)


def test_a_service_that_does_not_answer_is_asked_again(flow, workspace, monkeypatch):
    from flows import ingest

    stage, calls = fails(2, ServiceUnavailable("no answer", hint="try again"), ingest.build_version.fn)
    monkeypatch.setattr(ingest.build_version, "fn", stage)
    assert flow(str(workspace.root))["published"]
    assert len(calls) == 3


def test_wrong_input_is_not_tried_again(flow, workspace, monkeypatch):
    from flows import ingest

    stage, calls = fails(9, InputError("no such directory", hint="check it"), ingest.collect_documents.fn)
    monkeypatch.setattr(ingest.collect_documents, "fn", stage)
    with pytest.raises(InputError, match="no such directory"):
        flow(str(workspace.root))
    assert len(calls) == 1


def test_of_two_runs_at_once_one_works_and_the_other_finds_nothing_to_do(flow, workspace):
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(flow, [str(workspace.root)] * 2))
    assert sorted(report["published"] for report in reports) == [False, True]
    assert {report["version"] for report in reports} == {1}


def test_a_run_that_waited_long_enough_is_skipped(flow, workspace):
    from pipelines.ingest import locked

    with locked(workspace):
        state = flow(str(workspace.root), wait_seconds=0.1, return_state=True)
    assert (state.is_completed(), state.name) == (True, "Skipped")
    assert str(workspace.root) in state.message


def test_its_name_artifacts_and_events_say_what_happened(flow, workspace, api):
    (workspace.root / "docs" / "broken.docx").write_bytes(b"PK\x03\x04 cut off")
    state = flow(str(workspace.root), return_state=True)
    report = state.result()
    run = api.client.read_flow_run(state.state_details.flow_run_id)
    assert run.name.startswith("handbook-20") and len(run.name) == len("handbook-2026-11-21T13:00")
    assert "# handbook v1" in api.artifacts("ingest-handbook")[0]
    changed, quarantined = api.artifacts("changes-handbook")[0], api.artifacts("quarantine-handbook")[0]
    assert "guides/refunds.md" in changed and '"added"' in changed
    assert "broken.docx" in quarantined
    (published,) = api.events("snapdex.version.published")
    assert published["resource"]["prefect.resource.id"] == "snapdex.index.handbook"
    assert published["payload"] == {
        "index": "handbook",
        "home": str(workspace.root),
        "version": 1,
        "snapshot": report["snapshot"],
    }
    (grew,) = api.events("snapdex.quarantine.grew")
    assert [each["document"] for each in grew["payload"]["documents"]] == ["broken.docx"]
    flow(str(workspace.root))
    assert len(api.artifacts("changes-handbook")) == 1
    assert len(api.events("snapdex.quarantine.grew")) == 1


def test_a_version_that_does_not_pass_its_gate_is_sealed_and_not_published(flow, workspace, snapdex, golden, api):
    flow(str(workspace.root))
    docs = workspace.root / "docs"
    (docs / "notes" / "glossary.txt").write_text((docs / "guides" / "refunds.md").read_text("utf-8"), "utf-8")
    (docs / "guides" / "refunds.md").write_text("# Weather\n\nIt rains.\n", "utf-8")
    with pytest.raises(GateFailed):
        flow(str(workspace.root))
    newest, before = snapdex("log")
    assert (newest["version"], newest["active"], before["active"]) == (2, False, True)
    (event,) = api.events("snapdex.version.rejected")
    assert (event["payload"]["version"], event["payload"]["active"]) == (2, 1)
    assert "version 2 has ndcg@10" in event["payload"]["reason"]
    assert event["payload"]["outcome"] == "undecided"  # of two queries
    assert event["payload"]["reason"] in api.artifacts("rejected-handbook")[0]
    assert "ndcg@10" in api.artifacts("metrics-handbook")[0]
    with pytest.raises(GateFailed):
        flow(str(workspace.root))
    assert len(api.artifacts("rejected-handbook")) == 2
    assert len(api.events("snapdex.version.rejected")) == 1


def test_version_prefect_run_and_mlflow_run_lead_to_each_other(
    flow, workspace, snapdex, golden, api, mlflow_runs, mlflow_uri, monkeypatch, caplog
):
    """Also where MLflow does not answer at first: the run succeeds, and the next one makes it good."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    state = flow(str(workspace.root), return_state=True)
    assert state.result()["published"]
    (version,) = snapdex("log")
    assert (version["prefect_run"], version["mlflow_run"]) == (str(state.state_details.flow_run_id), None)
    assert "secret" not in caplog.text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    flow(str(workspace.root))
    flow(str(workspace.root))
    (version,) = snapdex("log")
    (tracked,) = mlflow_runs()
    assert version["mlflow_run"] == tracked.info.run_id
    assert tracked.data.tags["prefect_run"] == version["prefect_run"] == str(state.state_details.flow_run_id)
    assert tracked.data.tags["snapdex.snapshot"] == version["snapshot"]
    assert tracked.data.metrics["ndcg_at_10"] == version["metrics"]["ndcg@10"]
    assert version["mlflow_run"] in api.artifacts("ingest-handbook")[0]


def test_a_run_that_is_cancelled_leaves_no_process_behind(workspace):
    from prefect.settings import PREFECT_API_URL

    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()}
    arguments = [sys.executable, "-m", "flows.ingest", "--home", workspace.root]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        give_up = time.monotonic() + 60
        while not (workers := workers_of(run.pid)) and time.monotonic() < give_up:
            time.sleep(0.05)
        assert workers
        run.send_signal(signal.SIGTERM)
        run.wait(30)
    assert not workers_of(run.pid)


def workers_of(parent):
    """The processes that parse for this one, whoever their parent is now."""
    command = b"\0".join([b"-m", b"pipelines.parse.worker", str(parent).encode()])
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if command in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found
