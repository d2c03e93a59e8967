"""What the operator of one index asks for, each in one call: versions, forgetting, rolling back, runs, usage."""

from dataclasses import asdict, dataclass
from typing import Any

from pipelines import index
from pipelines.changes import Changes
from pipelines.config import Config
from pipelines.files import Workspace
from pipelines.index import quarantine, retention, retrievals
from pipelines.index.catalog import Version, set_runs, versions
from pipelines.index.history import diff
from pipelines.index.publish import rollback_target


def version_of(config: Config, workspace: Workspace, name: str | int = "active") -> Version:
    """The version that `name` means. Raises `NotFoundError` where there is none."""
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        return index.get_version(connection, index.get_index(connection, config.index.name), name)


def quarantined(config: Config, workspace: Workspace) -> set[str]:
    """The documents that the last build left in quarantine; none where nothing was built yet."""
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        found = index.find_index(connection, config.index.name)
        return {row["document"] for row in quarantine.listed(connection, found)} if found else set()


def note_runs(
    config: Config, workspace: Workspace, number: int, *, prefect_run: str | None = None, mlflow_run: str | None = None
) -> Version:
    """Fill in which runs made and measured a version, where its row does not say yet; returns the row as it is then."""
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        found = index.get_index(connection, config.index.name)
        set_runs(connection, found, number, prefect_run=prefect_run, mlflow_run=mlflow_run)
        return index.get_version(connection, found, number)


def forget(config: Config, workspace: Workspace, *, dry_run: bool = False) -> dict[str, Any]:
    """Drop the versions that the section `retention` does not keep; `keep` says why each of the others stays."""
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        found = index.get_index(connection, config.index.name)
        return asdict(retention.forget(connection, found, config.retention, dry_run=dry_run))


def measured(config: Config, workspace: Workspace, metric: str, *, last: int) -> list[tuple[int, float]]:
    """(version, value) of the last so many versions that were measured by this metric, oldest first."""
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        found = versions(connection, index.get_index(connection, config.index.name))
    values = [(version.number, (version.metrics or {}).get(metric)) for version in found]
    return [(number, value) for number, value in values if value is not None][:last][::-1]


def usage(config: Config, workspace: Workspace, *, weeks: int) -> retrievals.Usage:
    """What readers asked for in the last so many weeks. Raises `NotFoundError` where no version is active."""
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        return retrievals.usage(connection, index.get_index(connection, config.index.name), weeks)


@dataclass(frozen=True)
class Rollback:
    """Where a rollback leads, and what that changes for readers; `epoch` makes sure that it is what then happens."""

    index: str
    previous: int
    version: int
    epoch: int
    changes: Changes
    chunks_added: int
    chunks_removed: int


def plan_rollback(config: Config, workspace: Workspace, version: str = "") -> Rollback:
    """What rolling back to `version` would do; empty: to the one that was active before. Changes nothing.

    Raises `NotFoundError` for an unknown version or where there is none before, `ConflictError` for the active one.
    """
    with index.connect(index.database_url(workspace)) as connection, index.translated_errors():
        index.migrate(connection)
        found = index.get_index(connection, config.index.name)
        target = rollback_target(connection, found, version or None)
        assert found.active_version is not None  # else there would be no target
        changes, added, removed = diff(connection, found, found.active_version, target)
        return Rollback(found.name, found.active_version, target, found.epoch, changes, added, removed)


def roll_back(workspace: Workspace, plan: Rollback, *, reason: str | None = None, by: str | None = None) -> index.Move:
    """Do what was planned. Raises `ConflictError` when somebody has moved the pointer since."""
    url = index.database_url(workspace)
    return index.publish(
        lambda: index.connect(url), plan.index, plan.version, epoch=plan.epoch, kind="rollback", reason=reason, by=by
    )
