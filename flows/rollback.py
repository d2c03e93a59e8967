"""The rollback flow: the pointer back to an earlier version, with what that changes shown first."""

from dataclasses import asdict
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows import events, reporting
from flows.retries import stage
from pipelines import operate
from pipelines.operate import Rollback

plan_rollback = stage("plan-rollback", operate.plan_rollback)
move_pointer = stage("rollback", operate.roll_back)


@flow(name="rollback", flow_run_name=reporting.run_name, on_failure=[reporting.failed])
def rollback(home: str = ".", index: str = "", version: str = "", reason: str = "", actor: str = "") -> dict[str, Any]:
    """Make an earlier version the active one again; readers see it from their next query on.

    Args:
        home: Directory of the workspace, the one with params.yaml.
        index: Name of the index; empty for index.name of params.yaml.
        version: Where to go: v3, 3, a tag or the beginning of a snapshot id; empty for the version before.
        reason: Why; kept in the log for ever.
        actor: Who asks for it; empty for whoever Prefect knows to have started this run, else the user of the worker.
    """
    config, workspace = reporting.opened(home, index)
    plan = plan_rollback(config, workspace, version)
    create_markdown_artifact(page(plan, reason), key=reporting.key("rollback", config))
    move = move_pointer(workspace, plan, reason=reason or None, by=actor or reporting.requester())
    get_run_logger().info("%s: v%s -> v%s by %s: %s", plan.index, plan.previous, plan.version, move.actor, reason)
    reporting.announce(
        "version.rolled_back",
        config,
        workspace,
        version=move.version,
        previous=plan.previous,
        actor=move.actor,
        reason=reason,
    )
    events.run_finished(config, version=move.version, previous=plan.previous)
    return {"index": config.index.name, **asdict(move)}


def page(plan: Rollback, reason: str) -> str:
    """What the rollback changes for readers, as Markdown."""
    changes = plan.changes
    lines = [f"+ {uri}" for uri in changes.added] + [f"~ {uri}" for uri in changes.modified]
    lines += [f"- {uri}" for uri in changes.removed] + [f"> {old} -> {new}" for old, new in changes.renamed]
    more = f"\n... and {len(lines) - reporting.LISTED:,} more" if len(lines) > reporting.LISTED else ""
    listed = "\n".join(lines[: reporting.LISTED])
    return (
        f"# {plan.index}: v{plan.previous} back to v{plan.version}\n\n"
        f"{reason or 'No reason was given.'}\n\n"
        f"{len(changes.added):,} documents added, {len(changes.modified):,} modified, {len(changes.removed):,} removed,"
        f" {len(changes.renamed):,} renamed; chunks +{plan.chunks_added:,} -{plan.chunks_removed:,}\n\n"
        + (f"```diff\n{listed}{more}\n```\n" if lines else "")
    )
