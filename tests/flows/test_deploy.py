"""Deployments and automations: as params.yaml declares them, and really run by a worker."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.errors import ConfigError

BIN = Path(sys.executable).parent
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def deployments(workspace, api):
    """The deployments of this workspace on the server, by name; they and their automations go when the test ends."""

    def read():
        found = api.client.read_deployments(limit=200)
        return {each.name: each for each in found if each.parameters.get("home") == str(workspace.root)}

    yield read
    for each in read().values():
        api.client.delete_deployment(each.id)
    for each in api.client.read_automations():
        api.client.delete_automation(each.id)


def schedule(workspace, *entries):
    plain = workspace.params.read_text("utf-8").partition("schedules:")[0]
    listed = "".join(f"  - {{{entry}}}\n" for entry in entries)
    workspace.params.write_text(f"{plain}schedules:\n{listed}" if listed else plain, "utf-8")


def environment(**more):
    from prefect.settings import PREFECT_API_URL

    return {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), **more}


def test_what_is_declared_is_there_and_what_is_not_goes(workspace, deployments):
    from flows.deploy import deploy

    six = {f"handbook-{flow}" for flow in ("ingest", "evaluate", "maintain", "finetune", "usage", "rollback")}
    first = deploy(workspace)
    assert (set(deployments()), first["removed"]) == (six, [])
    assert deploy(workspace) == first

    schedule(
        workspace,
        'cron: "0 6 * * 1-5", timezone: Europe/Berlin, record: true',
        'cron: "0 12 * * 6", overrides: [chunk.max_tokens=200]',
        'index: legal, cron: "30 6 * * *", sources: [docs/guides]',
        'flow: usage, cron: "0 7 * * 1"',
    )
    deploy(workspace)
    found = deployments()
    assert set(found) == six | {name.replace("handbook", "legal") for name in six}
    by_cron = {each.schedule.cron: each for each in found["handbook-ingest"].schedules}
    weekdays, saturdays = by_cron["0 6 * * 1-5"], by_cron["0 12 * * 6"]
    assert (weekdays.schedule.timezone, weekdays.parameters["record"]) == ("Europe/Berlin", True)
    assert saturdays.parameters["overrides"] == ["chunk.max_tokens=200"]
    assert found["handbook-usage"].schedules[0].schedule.cron == "0 7 * * 1"
    legal = found["legal-ingest"]
    assert (legal.parameters["index"], legal.parameters["sources"]) == ("legal", ["docs/guides"])
    assert {"snapdex", "snapdex-scheduled", "index:legal"} <= set(legal.tags)
    assert found["legal-rollback"].schedules == []
    form = found["handbook-rollback"].parameter_openapi_schema["properties"]
    assert form["reason"]["description"].startswith("Why")
    assert form["version"]["type"] == "string"

    schedule(workspace)
    third = deploy(workspace)
    assert set(deployments()) == six
    assert third["removed"] == [
        f"{flow}/legal-{flow}" for flow in ("evaluate", "finetune", "ingest", "maintain", "rollback", "usage")
    ]
    assert deployments()["handbook-ingest"].schedules == []


def test_automations_are_made_once_and_keep_what_people_chose(workspace, deployments, api):
    from prefect.automations import AutomationCore
    from prefect.events.actions import DoNothing

    from flows.deploy import deploy

    names = deploy(workspace)["automations"]
    mine = {each.name: each for each in api.client.read_automations()}
    assert set(mine) == set(names)
    rejected = mine["snapdex: notice of a rejected version"]
    chosen = rejected.model_dump(exclude={"id", "owner_resource"}) | {
        "actions": [{"type": "do-nothing"}],
        "enabled": False,
    }
    api.client.update_automation(rejected.id, AutomationCore.model_validate(chosen))
    deploy(workspace)
    after = {each.name: each for each in api.client.read_automations()}
    mine.pop(rejected.name)
    kept = after.pop(rejected.name)
    assert after == mine
    assert (kept.id, kept.actions, kept.enabled) == (rejected.id, [DoNothing()], False)


def test_a_schedule_that_is_none_is_refused(workspace, deployments):
    from flows.deploy import deploy

    schedule(workspace, 'cron: "every day at ten o_clock"')
    with pytest.raises(ConfigError, match="every day at ten"):
        deploy(workspace)
    schedule(workspace, 'cron: "0 6 * * *", record: true, index: legal')
    with pytest.raises(ConfigError, match="record"):
        deploy(workspace)
    schedule(workspace, 'cron: "0 6 * * *", timezone: Middle/Earth')
    with pytest.raises(ConfigError, match="Middle/Earth"):
        deploy(workspace)


def test_a_worker_in_any_directory_runs_what_is_due(workspace, deployments, api, snapdex, tmp_path):
    """And the event of what it published makes the next run."""
    from flows.deploy import deploy

    deploy(workspace)
    found = deployments()
    run = api.client.create_flow_run_from_deployment(found["handbook-ingest"].id)
    worker = [BIN / "prefect", "worker", "start", "--pool", "snapdex", "--run-once"]
    done = subprocess.run(worker, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    run = api.client.read_flow_run(run.id)
    assert run.state_name == "Completed", done.stdout
    (version,) = snapdex("log")
    assert (version["active"], version["prefect_run"]) == (True, str(run.id))

    give_up = time.monotonic() + 30
    while True:
        every = api.client.read_flow_runs(limit=200)
        mine = [each for each in every if each.deployment_id == found["handbook-evaluate"].id]
        if mine or time.monotonic() > give_up:
            break
        time.sleep(0.2)
    assert [each.created_by.display_value for each in mine] == ["snapdex: evaluate handbook after publish"]
    assert mine[0].parameters == {"home": str(workspace.root), "index": "handbook"}


def test_the_prefect_file_declares_the_same(workspace, deployments, api):
    from flows.deploy import deploy

    deploy(workspace)
    ours = deployments()
    for each in ours.values():
        api.client.delete_deployment(each.id)
    command = [BIN / "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "infra/prefect.yaml"]
    variables = environment(SNAPDEX_HOME=str(workspace.root))
    done = subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = deployments()
    assert set(theirs) == set(ours)
    for name, mine in ours.items():
        other = theirs[name]
        assert (other.entrypoint, other.parameters, other.pull_steps or []) == (mine.entrypoint, mine.parameters, [])
        assert set(other.tags) >= {"snapdex", "index:handbook"}
        assert other.job_variables == mine.job_variables
