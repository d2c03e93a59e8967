"""Moving the pointer: publish and roll back as a compare-and-set whose outcome can always be found out."""

import getpass
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from pipelines.errors import ConflictError, NotFoundError, ServiceUnavailable
from pipelines.failpoints import failpoint
from pipelines.index.catalog import Index, get_index, get_version
from pipelines.index.db import Connection, translated_errors

ATTEMPTS = 3


@dataclass(frozen=True)
class Move:
    """A row of `snapdex.operation`: who moved the pointer, from where to where, when and why."""

    id: uuid.UUID
    kind: str
    version: int
    previous: int | None
    epoch: int
    actor: str
    reason: str | None
    at: datetime


def publish(
    connect: Callable[[], Connection],
    index: str,
    version: int,
    *,
    epoch: int,
    kind: str = "publish",
    reason: str | None = None,
    by: str | None = None,
    operation: uuid.UUID | None = None,
) -> Move:
    """Make `version` the active one, if the index's epoch still is `epoch`; returns the logged move.

    The operation id decides what happened when the connection breaks: the same id is sent again, and the database
    answers with the first outcome if there was one. `connect` gives a fresh connection for each attempt. `by`: who, for
    the log, where that is not whoever runs this process.

    Raises `ConflictError` when somebody else published since `epoch` was read, `NotFoundError` for an unknown version,
    `ServiceUnavailable` when the outcome cannot be found out now; the operation id is in its context.
    """
    operation = operation or uuid.uuid4()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with connect() as connection:
                return _move(connection, index, version, epoch, kind, reason, operation, by)
        except ServiceUnavailable as error:
            if attempt == ATTEMPTS:
                error.context["operation"] = str(operation)
                raise
    raise AssertionError("unreachable")


def _move(
    connection: Connection,
    index: str,
    version: int,
    epoch: int,
    kind: str,
    reason: str | None,
    operation: uuid.UUID,
    by: str | None = None,
) -> Move:
    failpoint("publish.begin")
    with translated_errors(), connection.cursor(row_factory=class_row(Move)) as cursor:
        moved = cursor.execute(
            "SELECT id, kind, version, previous, epoch, actor, reason, at"
            " FROM snapdex.move_pointer(%s, %s, %s, %s, %s, %s, %s)",
            [index, version, epoch, operation, kind, by or actor(), reason],
        ).fetchone()
    assert moved is not None
    failpoint("publish.moved")
    return moved


def rollback(
    connect: Callable[[], Connection], index: str, version: str | None = None, *, reason: str | None = None
) -> Move:
    """Make an earlier version active: `version`, or the one that was active before the present one.

    Rolling back twice goes back twice: a version that was rolled back is not what came "before". Raises as `publish`.
    """
    operation = uuid.uuid4()
    with connect() as connection, translated_errors():
        row = get_index(connection, index)
        target = rollback_target(connection, row, version)
        try:
            return _move(connection, index, target, row.epoch, "rollback", reason, operation)
        except ServiceUnavailable:
            pass  # the connection broke, perhaps after the move: the operation id finds that out
    return publish(connect, index, target, epoch=row.epoch, kind="rollback", reason=reason, operation=operation)


def rollback_target(connection: Connection, index: Index, version: str | None) -> int:
    """The version that `rollback` with this argument makes active. Raises what `rollback` raises before it acts."""
    if index.active_version is None:
        raise NotFoundError(
            f"index {index.name} has no active version to roll back", hint="publish one with: snapdex publish V"
        )
    target = get_version(connection, index, version).number if version else _before(connection, index.id, index.name)
    if target == index.active_version:
        raise ConflictError(f"version {target} is active already", hint="`snapdex log` shows the history")
    return target


def _before(connection: Connection, index_id: int, index: str) -> int:
    """The version below the active one on the stack of moves: a publish pushes, a rollback pops down to its target."""
    stack: list[int] = []
    for kind, version in connection.execute(
        "SELECT kind, version FROM snapdex.operation WHERE index_id = %s ORDER BY epoch", [index_id]
    ):
        if kind == "rollback" and version in stack:
            del stack[len(stack) - stack[::-1].index(version) :]
        else:
            stack.append(version)
    kept = {
        number for (number,) in connection.execute("SELECT number FROM snapdex.version WHERE index_id = %s", [index_id])
    }
    earlier = [version for version in stack[:-1] if version in kept and version != stack[-1]]
    if not earlier:
        raise NotFoundError(f"no version of {index} was active before this one", hint="name one: snapdex rollback V")
    return earlier[-1]


def was_active(connection: Connection, index_id: int, version: int) -> bool:
    """Whether this version was published at some time."""
    return (
        connection.execute(
            "SELECT 1 FROM snapdex.operation WHERE index_id = %s AND version = %s LIMIT 1", [index_id, version]
        ).fetchone()
        is not None
    )


def left_behind(connection: Connection, index_id: int) -> set[str]:
    """The snapshots that were rolled back since the last publish, those of versions forgotten meanwhile too."""
    found = connection.execute(
        """
        SELECT coalesce(v.snapshot, m.detail -> 'snapshots' ->> o.previous::text)
        FROM snapdex.operation o
        LEFT JOIN snapdex.version v ON (v.index_id, v.number) = (o.index_id, o.previous)
        LEFT JOIN snapdex.maintenance m ON (m.index_id, m.kind) = (o.index_id, 'forget')
            AND m.detail -> 'snapshots' ? o.previous::text
        WHERE o.index_id = %(index)s AND o.kind = 'rollback' AND o.epoch > coalesce(
            (SELECT max(epoch) FROM snapdex.operation WHERE index_id = %(index)s AND kind = 'publish'), 0)
        """,
        {"index": index_id},
    ).fetchall()
    return {snapshot for (snapshot,) in found if snapshot}


def moves(connection: Connection, index: str) -> list[Move]:
    """Every move of the pointer, newest first."""
    with connection.cursor(row_factory=class_row(Move)) as cursor:
        return cursor.execute(
            "SELECT id, kind, version, previous, epoch, actor, reason, at FROM snapdex.operation WHERE index_id = %s"
            " ORDER BY epoch DESC",
            [get_index(connection, index).id],
        ).fetchall()


def actor() -> str:
    """Who acts, for the log: `SNAPDEX_ACTOR` where a service sets it, else the operating-system user."""
    try:
        return os.environ.get("SNAPDEX_ACTOR") or getpass.getuser()
    except KeyError:  # a container may run under a user id without a name
        return f"uid {os.getuid()}"
