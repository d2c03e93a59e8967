"""Retention: which versions are kept by policy, and dropping the others from history.

Forgetting takes rows of `snapdex.version` away and nothing else; `prune` then reclaims what no version needs any more.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.types.json import Jsonb

from pipelines.config import RetentionConfig
from pipelines.errors import ConflictError
from pipelines.failpoints import failpoint
from pipelines.index.catalog import Index, Version, versions
from pipelines.index.db import Connection
from pipelines.index.migrate import schema_of
from pipelines.index.publish import actor


@dataclass(frozen=True)
class ForgetPlan:
    """Every version is in exactly one of the two; `keep` says why."""

    keep: dict[int, list[str]]
    forget: list[int]


def plan_forget(versions: Sequence[Version], pinned: Collection[int], policy: RetentionConfig) -> ForgetPlan:
    """What the policy keeps of these versions (newest first), by days of UTC.

    Whatever the policy, the active version, the newest and the pinned ones are kept.
    """
    reasons: dict[int, list[str]] = {version.number: [] for version in versions}
    for version in versions:
        if version.active:
            reasons[version.number].append("active")
        if version.number in pinned:
            reasons[version.number].append("pinned")
        if policy.keep_tagged:
            reasons[version.number] += [f"tag {name}" for name in version.tags]
    for version in versions[:1]:
        reasons[version.number].append("newest")
    for version in versions[: policy.keep_last]:
        reasons[version.number].append("last")
    days: dict[str, int] = {}
    for version in versions:
        days.setdefault(f"{version.created_at:%Y-%m-%d}", version.number)
    for day, number in list(days.items())[: policy.keep_daily]:
        reasons[number].append(f"day {day}")
    return ForgetPlan(
        {number: why for number, why in reasons.items() if why},
        sorted(number for number, why in reasons.items() if not why),
    )


def forget(connection: Connection, index: Index, policy: RetentionConfig, *, dry_run: bool = False) -> ForgetPlan:
    """Drop the versions that the policy does not keep, all or none; their tags go with them.

    Planned and done under the index row's lock, so that nobody can publish, pin or tag one of them in between.
    """
    with connection.transaction():
        lock(connection, index)
        found = versions(connection, index)
        plan = plan_forget(found, pins(connection, index), policy)
        if dry_run or not plan.forget:
            return plan
        connection.execute(
            "DELETE FROM snapdex.version WHERE index_id = %s AND number = ANY(%s)", [index.id, plan.forget]
        )
        snapshots = {str(version.number): version.snapshot for version in found if version.number in plan.forget}
        note(connection, index, "forget", {"versions": plan.forget, "snapshots": snapshots})
        failpoint("forget.before_commit")
    failpoint("forget.after_commit")
    return plan


def lock(connection: Connection, index: Index) -> None:
    """The one lock: whoever publishes, seals, forgets, prunes or erases waits for it, until the transaction ends."""
    connection.execute("SELECT 1 FROM snapdex.index WHERE id = %s FOR NO KEY UPDATE", [index.id])


def note(connection: Connection, index: Index, kind: str, detail: dict[str, object]) -> None:
    """Write what was done into the log of maintenance."""
    connection.execute(
        "INSERT INTO snapdex.maintenance (index_id, kind, detail, actor) VALUES (%s, %s, %s, %s)",
        [index.id, kind, Jsonb(detail), actor()],
    )


@dataclass(frozen=True)
class NeededRevisions:
    """What the versions of all indexes in this database need of the stores, and which versions were forgotten."""

    contents: set[bytes]
    revisions: set[bytes]
    spaces: set[str]
    forgotten: dict[str, set[int]]  # by index


def needed_revisions(connection: Connection) -> NeededRevisions:
    """Read from the rows of all indexes: several may share a workspace."""
    needed = NeededRevisions(set(), set(), set(), {})
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for index_id, name in connection.execute("SELECT id, name FROM snapdex.index").fetchall():
            forgotten = connection.execute(
                "SELECT v.value::int FROM snapdex.maintenance m, jsonb_array_elements(m.detail -> 'versions') v"
                " WHERE m.index_id = %s AND m.kind = 'forget'",
                [index_id],
            )
            needed.forgotten[name] = {number for (number,) in forgotten}
            statement = sql.SQL(
                "SELECT DISTINCT r.content_sha256, r.key FROM {revision} r JOIN {membership} m ON m.revision_id = r.id"
                " JOIN snapdex.version v ON v.number >= m.from_version AND v.number < m.to_version"
                " WHERE v.index_id = {index}"
            ).format(
                revision=sql.Identifier(schema_of(index_id), "revision"),
                membership=sql.Identifier(schema_of(index_id), "membership"),
                index=sql.Literal(index_id),
            )
            for content, key in connection.execute(statement):
                needed.contents.add(bytes(content))
                needed.revisions.add(bytes(key))
        needed.spaces.update(
            space
            for (space,) in connection.execute(
                "SELECT DISTINCT s.fingerprint FROM snapdex.version v"
                " JOIN snapdex.embedding_space s ON s.id = v.space_id"
            )
        )
    return needed


# -- pins --------------------------------------------------------------------------------------------------------------


def pins(connection: Connection, index: Index) -> set[int]:
    return {n for (n,) in connection.execute("SELECT version FROM snapdex.pin WHERE index_id = %s", [index.id])}


def pin(connection: Connection, index: Index, version: int) -> None:
    """Promise to keep this version; doing it twice is once. Raises `ConflictError` if it was forgotten just now."""
    with connection.transaction():
        lock(connection, index)
        done = connection.execute(
            "INSERT INTO snapdex.pin (index_id, version) SELECT index_id, number FROM snapdex.version"
            " WHERE index_id = %s AND number = %s ON CONFLICT (index_id, version) DO UPDATE SET at = pin.at",
            [index.id, version],
        )
        if not done.rowcount:
            raise ConflictError(f"version {version} was forgotten just now", hint="`snapdex log` shows what is left")


def unpin(connection: Connection, index: Index, version: int) -> bool:
    """Take the promise back; returns whether there was one."""
    done = connection.execute("DELETE FROM snapdex.pin WHERE index_id = %s AND version = %s", [index.id, version])
    return done.rowcount > 0
