"""What people see of a run: its name, artifacts, events, and which other runs and commits it leads to."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

from prefect import Flow, get_run_logger, runtime
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.logging.loggers import flow_run_logger

from flows import chart, events
from pipelines import index, logs, operate, tracking
from pipelines.changes import Changes
from pipelines.config import Config, load_config
from pipelines.errors import ConflictError, GateFailed, ServiceUnavailable, SnapdexError
from pipelines.files import Workspace
from pipelines.index import Version
from pipelines.ingest import locked

LISTED = 200  # documents in a table of what changed
DRAWN = 20  # versions in a chart
Row = dict[str, Any]


def opened(home: str, index: str = "", overrides: Sequence[str] | None = None) -> tuple[Config, Workspace]:
    """Parameters and workspace of a run; `index`, where it is given, replaces `index.name`."""
    workspace = Workspace(Path(home).resolve())
    named = [f"index.name={index}"] if index else []
    return load_config(workspace.params, [*(overrides or []), *named]), workspace


def run_name() -> str:
    """The name of a flow run, such as `handbook-2026-11-21T13:00`: the index and when it was due (UTC)."""
    due = runtime.flow_run.scheduled_start_time
    return f"{_index_of(runtime.flow_run.parameters) or 'snapdex'}-{due.astimezone(UTC):%Y-%m-%dT%H:%M}"


def _index_of(given: dict[str, Any]) -> str | None:
    """The index that a run with these parameters is about, as far as they say."""
    try:
        config, _ = opened(given.get("home", "."), given.get("index", ""), given.get("overrides"))
    except SnapdexError:  # the run itself will say what is wrong
        return given.get("index") or None
    return config.index.name


def failed(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A hook of flows: log why the run failed, and what the command would have ended with."""
    error = state.result(raise_on_failure=False)
    known: dict[str, Any] = {"exit_code": 1, "error": type(error).__name__}
    if isinstance(error, SnapdexError):
        ids = {name: error.context.get(name) for name in ("version", "snapshot")}
        known = {**ids, "exit_code": error.exit_code, "error": str(error), "hint": error.hint}
    about = {"index": _index_of(flow_run.parameters), "prefect_run": str(flow_run.id)}
    logs.event("failed", log=flow_run_logger(flow_run, flow), level=logging.ERROR, **about, **known)


def requester() -> str | None:
    """Who or what asked for this run, where Prefect knows: a schedule, an automation, or on its cloud a person."""
    context = FlowRunContext.get()
    creator = context.flow_run.created_by if context and context.flow_run else None
    return creator.display_value if creator else None


@contextmanager
def turn(workspace: Workspace, wait_seconds: float) -> Iterator[bool]:
    """The workspace for this run alone. False, after waiting, where another run keeps it."""
    with ExitStack() as held:
        try:
            held.enter_context(locked(workspace))
        except ConflictError as error:
            if wait_seconds > 0:
                get_run_logger().info("%s: waiting up to %g seconds", error, wait_seconds)
            try:
                held.enter_context(locked(workspace, wait_seconds))
            except ConflictError:
                yield False
                return
        yield True


def skipped(why: str) -> State[Any]:
    """The end of a run that had nothing to do: not a failure, and to be told from one that worked."""
    return State(type=StateType.COMPLETED, name="Skipped", message=why)


# -- events ------------------------------------------------------------------------------------------------------------


def announce(event: str, config: Config, workspace: Workspace, **facts: Any) -> None:
    """Emit `snapdex.<event>` about the index; Prefect adds which run, deployment and tags it belongs to."""
    resource = {"prefect.resource.id": f"snapdex.index.{config.index.name}", "prefect.resource.name": config.index.name}
    payload = {"index": config.index.name, "home": str(workspace.root), **facts}
    emit_event(f"snapdex.{event}", resource=resource, payload=payload)


# -- ingest ------------------------------------------------------------------------------------------------------------


@contextmanager
def rejections(config: Config, workspace: Workspace, built: index.BuildReport) -> Iterator[None]:
    """A version that does not pass its gate is announced and explained; the run fails all the same."""
    try:
        yield
    except GateFailed as error:
        version, tracked = lead_to(config, workspace, built.version)
        if version.prefect_run == runtime.flow_run.id:  # else an earlier run has said it already
            announce(
                "version.rejected",
                config,
                workspace,
                version=built.version,
                snapshot=built.snapshot,
                active=built.active_version,
                reason=str(error),
                outcome=error.context["gate"]["outcome"],
            )
        text = f"# {config.index.name} v{built.version} was not published\n\n{error}\n\nTo look: `{error.hint}`\n\n"
        create_markdown_artifact(text + links(version, tracked), key=key("rejected", config))
        _table(_comparison(config, workspace, version, built.active_version), "metrics", config)
        raise


def ingested(
    config: Config,
    workspace: Workspace,
    report: dict[str, Any],
    built: index.BuildReport,
    changes: Changes,
    quarantined_before: set[str],
) -> None:
    """Note the run in the version's row and in MLflow, emit events, leave artifacts."""
    version, tracked = lead_to(config, workspace, built.version)
    if report["published"]:
        announce("version.published", config, workspace, version=built.version, snapshot=built.snapshot)
    grown = [row for row in report["quarantined"] if row["document"] not in quarantined_before]
    if grown:
        announce("quarantine.grew", config, workspace, documents=grown[:LISTED], count=len(grown))
    create_markdown_artifact(summary(config, report) + links(version, tracked), key=key("ingest", config))
    _table(_changed(changes), "changes", config)
    _table(report["quarantined"], "quarantine", config)
    if report["published"]:
        _table(_comparison(config, workspace, version, built.active_version), "metrics", config)
        _chart(config, workspace)
    ids = {"version": version.number, "snapshot": version.snapshot, "mlflow_run": version.mlflow_run}
    events.run_finished(config, **ids, published=report["published"], seconds=report["seconds"]["total"])


def lead_to(config: Config, workspace: Workspace, number: int) -> tuple[Version, tracking.Tracked | None]:
    """Let the version's row, MLflow and this run lead to each other; what an earlier run noted stays."""
    version = operate.note_runs(config, workspace, number, prefect_run=runtime.flow_run.id)
    if version.mlflow_run or not version.metrics:
        return version, None
    name = f"{config.index.name} v{number}"
    tracked = track(config, version, version.metrics, run_name=name, prefect_run=version.prefect_run)
    if tracked:
        version = operate.note_runs(config, workspace, number, mlflow_run=tracked.run_id)
    return version, tracked


def track(
    config: Config,
    version: Version,
    metrics: dict[str, float],
    *,
    run_name: str,
    prefect_run: str | None,
    dataset: tracking.Dataset | None = None,
    pages: Mapping[str, str] | None = None,
) -> tracking.Tracked | None:
    """Log metrics of a version to MLflow; None where it is not configured or does not answer, which is a warning."""
    if not tracking.is_configured():
        return None
    try:
        return tracking.track(
            config.index.name,
            run_name,
            params={"mode": config.search.mode, "k": config.search.k, "golden": config.gate.golden},
            metrics=metrics,
            tags={
                "snapdex.index": config.index.name,
                "snapdex.version": version.number,
                "snapdex.snapshot": version.snapshot,
                "git_commit": version.git_commit,
                "dvc_md5": version.dvc_md5,
                "prefect_run": prefect_run,
                "model": version.model,
            },
            dataset=dataset,
            pages=pages or {},
        )
    except ServiceUnavailable as error:
        get_run_logger().warning("%s; %s", error, error.hint)
        return None


# -- artifacts ---------------------------------------------------------------------------------------------------------


def key(kind: str, config: Config) -> str:
    """The key of an artifact: one history of versions for each kind and index."""
    return f"{kind}-{re.sub('[^a-z0-9]', '-', config.index.name)}"


def summary(config: Config, report: dict[str, Any]) -> str:
    """The report as a page that people read in the Prefect UI."""
    documents = " · ".join(f"{count:,} {name}" for name, count in report["documents"].items() if count)
    chunks = report["chunks"]
    gate = report.get("gate")
    decided = (
        f"**gate** {gate['outcome']}: {gate['metric']} {gate['candidate']:.3f}, the active version had"
        f" {gate['active']:.3f}; {gate['reason']}\n\n"
        if gate
        else ""
    )
    stages = " · ".join(f"{name} {value:g}" for name, value in report["seconds"].items() if name != "total")
    return (
        f"# {report['index']} v{report['version']}\n\n"
        f"snapshot `{report['snapshot']}`, {'published' if report['published'] else 'not published'}\n\n"
        + (f"{report['note']}\n\n" if report.get("note") else "")
        + f"**documents** {documents}\n\n"
        f"**chunks** {chunks['total']:,} (+{chunks['added']:,} -{chunks['removed']:,})\n\n"
        f"**embedded** {report['embedded']:,} with {config.embed.model}\n\n"
        f"{decided}**seconds** {report['seconds']['total']:g}: {stages}\n\n"
    )


def links(version: Version, tracked: tracking.Tracked | None) -> str:
    """Where the version leads: its git commit, DVC hash and MLflow run, as far as it has them."""
    page = f"[{version.mlflow_run}]({tracked.url})" if tracked and tracked.url else f"`{version.mlflow_run}`"
    rows = {
        "git commit": version.git_commit and f"`{version.git_commit}`",
        "DVC": version.dvc_md5 and f"`{version.dvc_md5}`",
        "MLflow run": version.mlflow_run and page,
        "Prefect run": version.prefect_run and f"`{version.prefect_run}`",
    }
    known = "".join(f"| {name} | {value} |\n" for name, value in rows.items() if value)
    return f"| lineage | |\n|---|---|\n{known}" if known else ""


def compared(now: dict[str, float], then: dict[str, float]) -> list[Row]:
    """Metrics side by side, those that both have with their difference."""
    return [
        {
            "metric": name,
            "now": round(now[name], 4),
            "before": round(then[name], 4) if name in then else None,
            "difference": round(now[name] - then[name], 4) if name in then else None,
        }
        for name in sorted(now)
    ]


def _comparison(config: Config, workspace: Workspace, version: Version, active: int | None) -> list[Row]:
    before = operate.version_of(config, workspace, active).metrics if active is not None else None
    return compared(version.metrics or {}, before or {})


def _changed(changes: Changes) -> list[Row]:
    rows = [{"change": "added", "document": uri, "from": None} for uri in changes.added]
    rows += [{"change": "modified", "document": uri, "from": None} for uri in changes.modified]
    rows += [{"change": "removed", "document": uri, "from": None} for uri in changes.removed]
    return rows + [{"change": "renamed", "document": after, "from": before} for before, after in changes.renamed]


def _chart(config: Config, workspace: Workspace) -> None:
    """The gate's metric over the last versions that were measured, where there are two."""
    metric = config.gate.metric
    points = operate.measured(config, workspace, metric, last=DRAWN)
    if len(points) > 1:
        title = f"{metric} of {config.index.name}"
        image = chart.data_uri(chart.svg(points, title))
        create_image_artifact(
            image, key=key("quality", config), description=f"{title}, the last {len(points)} versions"
        )


def _table(rows: list[Row], kind: str, config: Config) -> None:
    """A table as an artifact, unless it is empty; a long one is cut, and its description says so."""
    if rows:
        more = f", the first {LISTED} of {len(rows):,}" if len(rows) > LISTED else ""
        create_table_artifact(rows[:LISTED], key=key(kind, config), description=f"{kind} of {config.index.name}{more}")
