"""Deployments and automations on a Prefect server, as `params.yaml` declares them.

python -m flows.deploy [--home DIR] [--pool snapdex] [--json]
"""

import argparse
import json
import os
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from httpx import HTTPError
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from flows import evaluate, finetune, ingest, maintain, notice, rollback, usage
from flows.automations import SCHEDULED_TAG, TAG, apply_automations, remove_automations
from pipelines.config import Config, Schedule, load_config
from pipelines.errors import ConfigError, ServiceUnavailable, SnapdexError
from pipelines.files import Workspace

FLOWS: dict[str, tuple[Flow[..., Any], str]] = {
    "ingest": (ingest.ingest, "Bring the index up to date with its sources and publish the result."),
    "evaluate": (evaluate.evaluate, "Does the active version still answer its golden set?"),
    "maintain": (maintain.maintain, "Forget by the retention policy, prune, verify."),
    "finetune": (finetune.finetune, "Fine-tune a model; register it if it is better."),
    "usage": (usage.usage, "What do readers ask for, and which documents answer nobody?"),
    "rollback": (rollback.rollback, "Make an earlier version active again. Give a version and a reason."),
    "notice": (notice.notice, "What automations run where no notification is set up."),
}
HEARTBEAT_SECONDS = "30"  # the shortest that Prefect takes
PAGE = 200  # the most deployments that Prefect returns at once


@dataclass
class Deployment:
    """A deployment as it is declared; `schedules` may be none: it can be started by hand and by automations."""

    flow: str
    name: str
    index: str
    parameters: dict[str, Any]
    schedules: list[DeploymentScheduleCreate] = field(default_factory=list)

    @property
    def full_name(self) -> str:
        return f"{self.flow}/{self.name}"

    @property
    def tags(self) -> list[str]:
        return [TAG, f"index:{self.index}", *([SCHEDULED_TAG] if self.schedules else [])]


def declared(config: Config, workspace: Workspace) -> list[Deployment]:
    """For the default index and each one that has a schedule: ingest, evaluate, maintain, finetune, usage and
    rollback.

    Several schedules of one flow and index are one deployment; each brings its own parameters. Raises `ConfigError` for
    what would be refused each time it runs.
    """
    scheduled: dict[tuple[str, str], list[Schedule]] = defaultdict(list)
    for schedule in config.schedules:
        if schedule.record and (schedule.overrides or schedule.index not in ("", config.index.name)):
            raise ConfigError(
                "schedules: record goes with the parameters of params.yaml, without overrides and another index",
                hint="give that index a workspace of its own: it is what git and DVC then have",
            )
        scheduled[schedule.index or config.index.name, schedule.flow].append(schedule)
    found = []
    for name in dict.fromkeys([config.index.name, *(index for index, _ in scheduled)]):
        for flow in ("ingest", "evaluate", "maintain", "finetune", "usage", "rollback"):
            base = {"home": str(workspace.root), "index": name}
            entries = [(entry, base | _parameters(flow, entry)) for entry in scheduled[name, flow]]
            parameters = entries[0][1] if entries else base
            timed = [_schedule(entry, given) for entry, given in entries]
            found.append(Deployment(flow, f"{name}-{flow}", name, parameters, timed))
    return found


def _parameters(flow: str, schedule: Schedule) -> dict[str, Any]:
    own = {"overrides": schedule.overrides or None}
    if flow == "ingest":
        own |= {"sources": schedule.sources or None, "record": schedule.record}  # type: ignore[dict-item]
    if flow == "finetune":
        own |= {"kind": schedule.kind, "model": schedule.model or None, "reindex": schedule.reindex}  # type: ignore[dict-item]
    return {name: value for name, value in own.items() if value is not None}


def _schedule(schedule: Schedule, parameters: dict[str, Any]) -> DeploymentScheduleCreate:
    try:
        cron = CronSchedule(cron=schedule.cron, timezone=schedule.timezone.key)
    except ValueError as error:
        raise ConfigError(
            f"schedules: {schedule.cron!r} is not a schedule",
            hint="cron has five fields, such as 0 6 * * *",
        ) from error
    return DeploymentScheduleCreate(schedule=cron, parameters=parameters, active=True)


def deploy(workspace: Workspace, pool: str = "snapdex") -> dict[str, Any]:
    """Make the server have what is declared, and nothing else of this workspace; returns what it has then.

    Running it again changes nothing. Raises `ConfigError` for a schedule that is none, `ServiceUnavailable` where no
    server answers.
    """
    wanted = declared(load_config(workspace.params), workspace)
    if not PREFECT_API_URL.value():
        raise ConfigError("PREFECT_API_URL is not set", hint="the URL of a Prefect server: http://127.0.0.1:4200/api")
    try:
        with get_client(sync_client=True) as client:
            _ensure_pool(client, pool)
            notices = Deployment("notice", "snapdex", "any", {"subject": "notice"})
            ids = {each.full_name: _apply(client, each, pool) for each in [*wanted, notices]}
            removed = _remove_others(client, workspace, set(ids))
            evaluations = {each.index: ids[each.full_name] for each in wanted if each.flow == "evaluate"}
            automations = apply_automations(client, evaluations, ids[notices.full_name])
    except (HTTPError, RuntimeError) as error:
        raise ServiceUnavailable(
            f"the Prefect server does not answer as it should: {' '.join(str(error).split())[:200]}",
            hint="is it running at PREFECT_API_URL?",
        ) from error
    return {"pool": pool, "deployments": list(ids), "removed": removed, "automations": automations}


def _ensure_pool(client: SyncPrefectClient, name: str) -> None:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))


def _apply(client: SyncPrefectClient, deployment: Deployment, pool: str) -> Any:
    """Create or replace; the module path as entry point works in any directory where the package is installed."""
    flow, description = FLOWS[deployment.flow]
    return client.create_deployment(
        flow_id=client.create_flow_from_name(flow.name),
        name=deployment.name,
        description=description,
        entrypoint=f"{flow.fn.__module__}.{flow.fn.__name__}",
        parameters=deployment.parameters,
        parameter_openapi_schema=parameter_schema(flow).model_dump(exclude_unset=True),
        enforce_parameter_schema=True,
        schedules=deployment.schedules,
        tags=deployment.tags,
        work_pool_name=pool,
        job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": HEARTBEAT_SECONDS}},
        pull_steps=[],
    )


def _remove_others(client: SyncPrefectClient, workspace: Workspace, keep: set[str]) -> list[str]:
    """Delete deployments of this workspace that are not declared any more, with their automations."""
    mine: list[DeploymentResponse] = []
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    while page := client.read_deployments(deployment_filter=tagged, limit=PAGE, offset=len(mine)):
        mine += page
    removed = []
    for found in mine:
        name = f"{client.read_flow(found.flow_id).name}/{found.name}"
        if name not in keep and found.parameters.get("home") == str(workspace.root):
            remove_automations(client, found.id)
            client.delete_deployment(found.id)
            removed.append(name)
    return sorted(removed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.deploy", description=__doc__)
    parser.add_argument("--home", default=os.environ.get("SNAPDEX_HOME", "."), metavar="DIR", help="the workspace")
    parser.add_argument("--pool", default="snapdex", help="the work pool; made, of type process, if there is none")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    given = parser.parse_args()
    try:
        report = deploy(Workspace(Path(given.home).resolve()), given.pool)
    except SnapdexError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return error.exit_code
    if given.json:
        sys.stdout.write(json.dumps(report) + "\n")
        return 0
    for kind in ("deployments", "removed", "automations"):
        sys.stdout.write("".join(f"{kind.removesuffix('s'):<11} {name}\n" for name in report[kind]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
