"""The ingest flow on a real Prefect server: the same result as the command, and another try where it can help."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import InputError, ServiceUnavailable

PROGRAM = Path(sys.executable).parent / "snapdex"


def snapdex(workspace, *words):
    done = subprocess.run([PROGRAM, *words, "--json"], cwd=workspace.root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


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


def test_it_publishes_what_the_command_would(flow, workspace):
    report = flow(str(workspace.root))
    assert (report["version"], report["published"], report["documents"]["added"]) == (1, True, 3)
    assert snapdex(workspace, "search", "refund")["snapshot"] == report["snapshot"]
    by_hand = snapdex(workspace, "run", "--index", "by-hand")
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


def test_another_run_in_the_workspace_is_refused(flow, workspace):
    from pipelines.errors import ConflictError
    from pipelines.ingest import locked

    with locked(workspace), pytest.raises(ConflictError):
        flow(str(workspace.root))
