"""What a flow logs: the events of the command line, kept by Prefect."""

import json
import os
import subprocess
import sys
import time


def run(workspace, *arguments):
    """`python -m flows.ingest` as users start it; returns its exit code."""
    from prefect.settings import PREFECT_API_URL

    variables = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "PREFECT_LOGGING_LEVEL": "INFO"}
    command = [sys.executable, "-m", "flows.ingest", "--home", workspace.root, *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False).returncode


def events(api, flow_run, last):
    """The events in the log of a run, once the one that is named `last` is there."""
    give_up = time.monotonic() + 15
    while True:
        asked = {"flow_run_id": {"any_": [flow_run]}}
        logged = api.post("/logs/filter", logs=asked, sort="TIMESTAMP_ASC", limit=200)
        found = [json.loads(each["message"]) for each in logged if each["message"].startswith("{")]
        if any(each["event"] == last for each in found) or time.monotonic() > give_up:
            return found
        time.sleep(0.2)


def test_stages_and_the_run_are_logged_with_ids_that_lead_to_the_version(workspace, snapdex, api):
    assert run(workspace) == 0
    (version,) = snapdex("log")
    *stages, finished = events(api, version["prefect_run"], "run.finished")
    done = {each["stage"]: each for each in stages}
    assert {"collect", "parse", "chunk", "forecast", "embed", "build", "publish"} == done.keys()
    ids = {name: version[name] for name in ("version", "snapshot", "prefect_run", "mlflow_run")}
    for each in (done["build"], done["publish"], finished):
        assert {name: each[name] for name in ids} == ids and each["index"] == "handbook"
    assert (done["parse"]["prefect_run"], done["parse"]["version"]) == (version["prefect_run"], None)
    assert finished["event"] == "run.finished" and finished["published"] and finished["seconds"] > 0


def test_a_run_that_fails_logs_its_exit_code(workspace, api):
    before = {each.id for each in api.client.read_flow_runs(limit=200)}
    assert run(workspace, "nowhere") == 3
    (failing,) = [each for each in api.client.read_flow_runs(limit=200) if each.id not in before]
    *_, failed = events(api, str(failing.id), "failed")
    assert (failed["index"], failed["exit_code"], failed["prefect_run"]) == ("handbook", 3, str(failing.id))
    assert "nowhere" in failed["error"] and failed["hint"]
