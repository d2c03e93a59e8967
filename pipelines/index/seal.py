"""Sealing: the small transaction that turns loaded content into a numbered, immutable version."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from pipelines.errors import ConflictError, IntegrityError
from pipelines.failpoints import failpoint
from pipelines.index.catalog import OPEN, Index, Space, get_index, get_version, newest_version, use_schema
from pipelines.index.catalog import Version as VersionRow
from pipelines.index.db import Connection
from pipelines.index.publish import actor
from pipelines.manifests import ChunksRow
from pipelines.model import digest, leaf, snapshot_id


class Incomplete(Exception):
    """Rows that the version needs are not there: loaded, and then taken away by prune. The caller loads again."""


def leaf_of(row: ChunksRow) -> bytes:
    return leaf(row.uri, row.content_sha256, row.chunks_sha256)


def snapshot_of(rows: Sequence[ChunksRow], recipe: str, space: str, erased: Sequence[tuple[str, bytes]] = ()) -> str:
    """The snapshot id of this state: known before anything is loaded. `erased`: as in `seal`."""
    return snapshot_id(recipe, space, [leaf_of(row) for row in rows] + [leaf for _, leaf in erased])


@dataclass(frozen=True)
class Recorded:
    """What the manifest `snapshot` of a workspace says: the last version that was made of its files."""

    version: int
    snapshot: str


def seal(
    connection: Connection,
    index: Index,
    space: Space,
    rows: Sequence[ChunksRow],
    recipe: str,
    report: dict[str, Any],
    recorded: Recorded | None = None,
    *,
    given: int = 0,
    erased: Sequence[tuple[str, bytes]] = (),
) -> VersionRow:
    """Make the next version of these documents, under the index row's lock; nothing is visible unless all of it is.

    A number is never used twice, also not by a database that was set up anew: it is greater than the `recorded` one and
    the highest `given` in git, or the recorded one itself where this is its content coming back. `erased`: hash of the
    URI and leaf of documents that belong to this snapshot and were erased; they count, and nothing is found through
    them.

    Only the differences from the rows that are open now are written. Raises `Incomplete` when content is missing, and
    `IntegrityError` when the rows do not give the snapshot id that the manifest gives.
    """
    leaves = [leaf_of(row) for row in rows] + [leaf for _, leaf in erased]
    wanted = snapshot_id(recipe, space.fingerprint, leaves)
    with connection.transaction():
        use_schema(connection, index)
        connection.execute("SET LOCAL work_mem = '64MB'")
        _copy_goal(connection, rows)
        locked = connection.execute(
            "SELECT last_version, active_version FROM snapdex.index WHERE id = %s FOR NO KEY UPDATE", [index.id]
        ).fetchone()
        assert locked is not None
        last, parent = int(locked[0]), locked[1]
        newest = newest_version(connection, index)
        if newest and newest.snapshot == wanted:  # another builder of the same content was faster
            return newest
        number = _next_number(max(last, given), newest.number if newest else 0, recorded, wanted)
        _check_complete(connection, space)
        _keep_erased(connection, index, erased)
        chunks = (newest.chunks if newest else 0) + _move_membership(connection, number)
        found = _digest_open_rows(connection, recipe, space)
        if found != wanted:
            raise IntegrityError(
                f"the rows of version {number} give snapshot {found[:12]}, the manifest gives {wanted[:12]}",
                hint="nothing was changed; report this as a bug with the output of `snapdex verify --json`",
            )
        connection.execute(
            "INSERT INTO snapdex.version"
            " (index_id, number, snapshot, parent, recipe, space_id, documents, chunks, report)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [index.id, number, wanted, parent, recipe, space.id, len(leaves), chunks, Jsonb(report)],
        )
        connection.execute(
            "UPDATE snapdex.index SET last_version = greatest(last_version, %s) WHERE id = %s", [number, index.id]
        )
        failpoint("seal.before_commit")
    failpoint("seal.after_commit")
    return get_version(connection, get_index(connection, index.name), number)


def _next_number(last: int, newest: int, recorded: Recorded | None, snapshot: str) -> int:
    """`last`: the highest that this database or git ever saw; `newest`: of the versions that the database holds."""
    if recorded and recorded.snapshot == snapshot and recorded.version > newest:
        return recorded.version
    return max(last, recorded.version if recorded else 0) + 1


def _copy_goal(connection: Connection, rows: Sequence[ChunksRow]) -> None:
    """Temporary table `goal`: the membership that the version shall have."""
    connection.execute(
        'CREATE TEMP TABLE goal_row (document text COLLATE "C", key bytea, leaf bytea, chunks_sha256 bytea)'
        " ON COMMIT DROP"
    )
    with connection.cursor().copy("COPY goal_row FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["text", "bytea", "bytea", "bytea"])
        for row in rows:
            copy.write_row((row.uri, row.revision_key, leaf_of(row), bytes.fromhex(row.chunks_sha256)))
    connection.execute(
        "CREATE TEMP TABLE goal ON COMMIT DROP AS"
        " SELECT g.document, r.id AS revision_id, g.leaf FROM goal_row g LEFT JOIN revision r USING (key);"
        " ANALYZE goal"
    )


def erased_here(connection: Connection, index: Index) -> set[str]:
    """Hashes of the URIs of documents that were erased from the index, by whatever workspace."""
    found = connection.execute("SELECT DISTINCT document_sha256 FROM snapdex.erasure WHERE index_id = %s", [index.id])
    return {document for (document,) in found}


def erased_elsewhere() -> ConflictError:
    return ConflictError(
        "these files have documents that were erased from the index",
        hint="erase them here too: snapdex erase DOCUMENT, for each that the other workspace erased",
    )


def _keep_erased(connection: Connection, index: Index, erased: Sequence[tuple[str, bytes]]) -> None:
    """Give erased documents their place; raises `ConflictError` where the files bring one back that was erased here."""
    returning = connection.execute(
        "SELECT count(*) FROM goal g WHERE EXISTS (SELECT FROM snapdex.erasure WHERE index_id = %(index)s)"
        " AND encode(sha256(convert_to(g.document, 'UTF8')), 'hex') IN"
        " (SELECT document_sha256 FROM snapdex.erasure WHERE index_id = %(index)s)",
        {"index": index.id},
    ).fetchone()
    if returning != (0,):
        raise erased_elsewhere()
    names, leaves = [name for name, _ in erased], [leaf for _, leaf in erased]
    connection.execute(
        "INSERT INTO goal SELECT 'erased:' || name, 0, leaf FROM unnest(%s::text[], %s::bytea[]) AS x (name, leaf)",
        [names, leaves],
    )
    connection.execute(
        "INSERT INTO snapdex.erasure (index_id, document_sha256, leaf, actor)"
        " SELECT %s, name, leaf, %s FROM unnest(%s::text[], %s::bytea[]) AS x (name, leaf) ORDER BY 2, 3"
        " ON CONFLICT DO NOTHING",
        [index.id, actor(), names, leaves],
    )


def _check_complete(connection: Connection, space: Space) -> None:
    """For the whole version, not for its differences: after a change of the space and back, old documents may lack
    vectors too. Revisions are looked up again: `goal` found them before the lock was held, and prune may have come.
    """
    differing = connection.execute(
        "SELECT count(*) FROM goal_row g JOIN revision r USING (key) WHERE r.chunks_sha256 <> g.chunks_sha256"
    ).fetchone()
    if differing != (0,):
        raise IntegrityError(
            "the database holds other chunks for some revisions than the files do",
            hint="`snapdex verify` says which side is wrong; nothing was changed",
        )
    row = connection.execute(
        sql.SQL(
            """
            SELECT (SELECT count(*) FROM goal g LEFT JOIN revision r ON r.id = g.revision_id WHERE r.id IS NULL),
                   (SELECT count(*) FROM (SELECT revision_id AS id FROM goal GROUP BY 1) g JOIN revision r USING (id)
                    WHERE r.chunks <> (SELECT count(*) FROM occurrence o WHERE o.revision_id = r.id)),
                   (SELECT count(*) FROM (SELECT DISTINCT o.chunk_id FROM goal JOIN occurrence o USING (revision_id)) n
                    LEFT JOIN chunk c ON c.id = n.chunk_id LEFT JOIN lexical l ON l.chunk_id = n.chunk_id
                    LEFT JOIN {} v ON v.chunk_id = n.chunk_id
                    WHERE c.id IS NULL OR l.chunk_id IS NULL OR v.chunk_id IS NULL)
            """
        ).format(sql.Identifier(space.table))
    ).fetchone()
    if row != (0, 0, 0):
        raise Incomplete(str(row))


def _move_membership(connection: Connection, number: int) -> int:
    """Close and open rows, record the changed document frequencies; returns how many distinct chunks more there are."""
    connection.execute(
        """
        CREATE TEMP TABLE closed ON COMMIT DROP AS
            SELECT m.document, m.revision_id FROM membership m WHERE m.to_version = %(open)s AND NOT EXISTS (
                SELECT FROM goal g WHERE g.document = m.document AND g.revision_id = m.revision_id AND g.leaf = m.leaf);
        CREATE TEMP TABLE opened ON COMMIT DROP AS
            SELECT g.* FROM goal g WHERE NOT EXISTS (
                SELECT FROM membership m WHERE m.to_version = %(open)s AND g.document = m.document
                AND g.revision_id = m.revision_id AND g.leaf = m.leaf);
        CREATE TEMP TABLE touched ON COMMIT DROP AS
            SELECT c.chunk_id, EXISTS (
                SELECT FROM occurrence o JOIN membership m USING (revision_id)
                WHERE o.chunk_id = c.chunk_id AND m.to_version = %(open)s) AS before
            FROM (SELECT DISTINCT o.chunk_id FROM occurrence o WHERE o.revision_id IN (
                      SELECT revision_id FROM closed UNION SELECT revision_id FROM opened)) c;
        UPDATE membership m SET to_version = %(number)s FROM closed
            WHERE m.document = closed.document AND m.to_version = %(open)s;
        INSERT INTO membership (document, from_version, revision_id, leaf)
            SELECT document, %(number)s, revision_id, leaf FROM opened ORDER BY document;
        CREATE TEMP TABLE moved ON COMMIT DROP AS
            SELECT chunk_id, after::int - before::int AS delta FROM (
                SELECT t.chunk_id, t.before, EXISTS (
                    SELECT FROM occurrence o JOIN membership m USING (revision_id)
                    WHERE o.chunk_id = t.chunk_id AND m.to_version = %(open)s) AS after FROM touched t) x
            WHERE before <> after;
        UPDATE lexical l SET current = moved.delta > 0 FROM moved
            WHERE l.chunk_id = moved.chunk_id AND l.current <> (moved.delta > 0);
        WITH changed AS (
            SELECT term, sum(delta) AS change FROM moved JOIN lexical USING (chunk_id), unnest(lexical.terms) AS term
            GROUP BY term HAVING sum(delta) <> 0)
        INSERT INTO document_frequency (term, version, chunks)
            SELECT term, %(number)s, change + coalesce((
                SELECT f.chunks FROM document_frequency f WHERE f.term = c.term ORDER BY f.version DESC LIMIT 1), 0)
            FROM changed c
        """.replace("%(open)s", str(OPEN)).replace("%(number)s", str(int(number)))
    )
    row = connection.execute("SELECT coalesce(sum(delta), 0) FROM moved").fetchone()
    assert row is not None
    return int(row[0])


def _digest_open_rows(connection: Connection, recipe: str, space: Space) -> str:
    """The snapshot id of the rows that are open now; the same formula as `model.snapshot_id`, without sorting here."""
    hasher = hashlib.sha256(digest(recipe, space.fingerprint))
    with connection.cursor(name="leaves") as cursor:
        cursor.execute("SELECT leaf FROM membership WHERE to_version = %s ORDER BY leaf", [OPEN])
        for (each,) in cursor:
            hasher.update(each)
    return hasher.hexdigest()
