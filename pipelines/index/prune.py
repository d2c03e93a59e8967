"""Prune: delete the rows that no version reaches, and give their room back.

What is reachable is decided by `snapdex.version` alone: a document's membership is kept while a version lies in its
range, a revision while a membership names it, a chunk while a revision holds it. Each batch is a transaction of its
own under the index row's lock: readers are not blocked, a seal waits for one batch at most, and a build that lost rows
finds out when it seals and loads them again.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from psycopg import OperationalError, sql
from psycopg.errors import DeadlockDetected

from pipelines.errors import ConflictError
from pipelines.failpoints import failpoint
from pipelines.index.catalog import OPEN, Index, use_schema
from pipelines.index.db import Connection
from pipelines.index.retention import lock, note
from pipelines.progress import Progress, Silent

ATTEMPTS = 5  # to build indexes anew, beside builders
LOCK = 1_936_744_805  # class of advisory locks on the number of an index
BATCH_ROWS = 5000  # of one transaction: some tenths of a second under the lock
WORTH_REBUILDING = 0.01  # of a table's rows deleted: from here on its indexes are built anew, which also shrinks them


@dataclass(frozen=True)
class Garbage:
    """Rows that no version reaches, by table."""

    membership: int
    revision: int
    occurrence: int
    chunk: int
    lexical: int
    vectors: int

    @property
    def rows(self) -> int:
        return sum(asdict(self).values())


_NO_VERSION = f"""x.to_version <> {OPEN} AND NOT EXISTS (
    SELECT FROM snapdex.version v WHERE v.index_id = {{index}} AND v.number >= x.from_version
    AND v.number < x.to_version)"""
_NO_CHUNK = "NOT EXISTS (SELECT FROM chunk c WHERE c.id = x.chunk_id)"
_DEAD = {  # table: condition on its row `x`, in the order in which they have to go
    "membership": _NO_VERSION,
    "revision": "NOT EXISTS (SELECT FROM membership m WHERE m.revision_id = x.id)",
    "occurrence": "NOT EXISTS (SELECT FROM revision r WHERE r.id = x.revision_id)",
    "chunk": "NOT EXISTS (SELECT FROM occurrence o WHERE o.chunk_id = x.id)",
    "lexical": _NO_CHUNK,
}


def garbage(connection: Connection, index: Index) -> Garbage:
    """What `prune` would delete now."""
    with connection.transaction():
        use_schema(connection, index)
        connection.execute(
            sql.SQL(
                f"""
                CREATE TEMP TABLE live_revision ON COMMIT DROP AS
                    SELECT DISTINCT x.revision_id AS id FROM membership x WHERE NOT ({_NO_VERSION});
                CREATE TEMP TABLE live_chunk ON COMMIT DROP AS
                    SELECT DISTINCT o.chunk_id AS id FROM occurrence o JOIN live_revision r ON r.id = o.revision_id;
                ANALYZE live_revision, live_chunk
                """
            ).format(index=sql.Literal(index.id))
        )

        def count(table: str, live: str, key: str) -> int:
            return _count(connection, table, f"NOT EXISTS (SELECT FROM {live} l WHERE l.id = x.{key})")

        return Garbage(
            membership=_count(connection, "membership", _NO_VERSION, index),
            revision=count("revision", "live_revision", "id"),
            occurrence=count("occurrence", "live_revision", "revision_id"),
            chunk=count("chunk", "live_chunk", "id"),
            lexical=count("lexical", "live_chunk", "chunk_id"),
            vectors=sum(
                count(table, "live_chunk", "chunk_id") if in_use else _count(connection, table, "true")
                for table, in_use in _vector_tables(connection, index).items()
            ),
        )


def prune(connection: Connection, index: Index, progress: Progress | None = None) -> Garbage:
    """Delete what no version reaches, then give the room back; returns the rows that were deleted.

    Interrupted at any place, the next one goes on: what is half gone is unreachable still. Raises `ConflictError` where
    another one is at work.
    """
    progress = progress or Silent()
    with _alone(connection, index):
        progress.start("prune", garbage(connection, index).rows)
        _drop_unfinished_indexes(connection, index)
        _merge_frequencies(connection, index)
        deleted: dict[str, int] = {}
        for table, dead in _DEAD.items():
            deleted[table] = _delete(connection, index, table, dead, progress)
            failpoint(f"prune.{table}_deleted")
        vectors: dict[str, int] = {}
        for table, in_use in _vector_tables(connection, index).items():
            if in_use:
                vectors[table] = _delete(connection, index, table, _NO_CHUNK, progress)
            else:
                vectors[table] = _empty(connection, index, table)
        found = Garbage(vectors=sum(vectors.values()), **deleted)
        if found.rows:
            with connection.transaction():
                note(connection, index, "prune", asdict(found))
        failpoint("prune.deleted")
        for table, rows in (deleted | vectors).items():
            if rows:
                _reclaim(connection, index, table, rows)
        return found


@contextmanager
def _alone(connection: Connection, index: Index) -> Iterator[None]:
    """One prune of an index at a time: what another one is rebuilding looks like the remains of one that was killed."""
    key = [LOCK, index.id]
    if connection.execute("SELECT pg_try_advisory_lock(%s, %s)", key).fetchone() != (True,):
        raise ConflictError(f"another prune works on index {index.name}", hint="wait for it to end")
    try:
        yield
    finally:
        with suppress(OperationalError):  # the connection broke, and the lock went with it
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", key)


def _vector_tables(connection: Connection, index: Index) -> dict[str, bool]:
    """Tables of vectors in this index, and whether a version uses their space."""
    rows = connection.execute(
        "SELECT s.id, EXISTS (SELECT FROM snapdex.version v WHERE v.index_id = %s AND v.space_id = s.id)"
        " FROM snapdex.embedding_space s WHERE to_regclass(%s || '.vectors_' || s.id) IS NOT NULL ORDER BY 1",
        [index.id, index.schema],
    ).fetchall()
    return {f"vectors_{space}": bool(in_use) for space, in_use in rows}


def _count(connection: Connection, table: str, dead: str, index: Index | None = None) -> int:
    condition = sql.SQL(dead).format(index=sql.Literal(index.id)) if index else sql.SQL(dead)
    statement = sql.SQL("SELECT count(*) FROM {} x WHERE {}").format(sql.Identifier(table), condition)
    row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


def _delete(connection: Connection, index: Index, table: str, dead: str, progress: Progress) -> int:
    """Delete the dead rows of a table in batches; each batch decides anew, under the lock, what is dead."""
    statement = sql.SQL(
        "DELETE FROM {table} x USING (SELECT x.ctid FROM {table} x WHERE {dead} LIMIT {rows}) gone"
        " WHERE x.ctid = gone.ctid"
    ).format(
        table=sql.Identifier(table),
        dead=sql.SQL(dead).format(index=sql.Literal(index.id)),
        rows=sql.Literal(BATCH_ROWS),
    )
    deleted = 0
    while True:
        with connection.transaction():
            lock(connection, index)
            use_schema(connection, index)
            rows = connection.execute(statement).rowcount
            failpoint("prune.before_commit")
        deleted += rows
        progress.advance(rows)
        if rows < BATCH_ROWS:
            return deleted


def _empty(connection: Connection, index: Index, table: str) -> int:
    """Vectors of a space that no version uses. The table stays: a build that is about to use it finds it empty."""
    with connection.transaction():
        lock(connection, index)
        use_schema(connection, index)
        if not _vector_tables(connection, index)[table]:
            rows = _count(connection, table, "true")
            if rows:
                connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(table)))
            return rows
    return 0


def _merge_frequencies(connection: Connection, index: Index) -> None:
    """Give the document frequencies of forgotten versions to the next version that is left, where they still hold."""
    with connection.transaction():
        lock(connection, index)
        use_schema(connection, index)
        connection.execute(
            """
            WITH moved AS (
                DELETE FROM document_frequency f WHERE NOT EXISTS (
                    SELECT FROM snapdex.version v WHERE v.index_id = %(index)s AND v.number = f.version)
                RETURNING term, version, chunks)
            INSERT INTO document_frequency (term, version, chunks)
                SELECT DISTINCT ON (m.term, next.number) m.term, next.number, m.chunks FROM moved m CROSS JOIN LATERAL (
                    SELECT min(v.number) AS number FROM snapdex.version v
                    WHERE v.index_id = %(index)s AND v.number > m.version) next
                ORDER BY 1, 2, m.version DESC
            ON CONFLICT DO NOTHING  -- a later count is there
            """,
            {"index": index.id},
        )
        drop_repeated_frequencies(connection)
        failpoint("prune.frequencies_before_commit")


def drop_repeated_frequencies(connection: Connection) -> None:
    """Delete rows that say what the row before them says, or 0 where there is none."""
    connection.execute(
        "DELETE FROM document_frequency f WHERE f.chunks = coalesce((SELECT p.chunks FROM document_frequency p"
        " WHERE p.term = f.term AND p.version < f.version ORDER BY p.version DESC LIMIT 1), 0)"
    )


# -- room --------------------------------------------------------------------------------------------------------------


def _reclaim(connection: Connection, index: Index, table: str, deleted: int) -> None:
    """Give the room of deleted rows back: indexes anew, without blocking readers, then vacuum.

    In this order: vacuuming a large graph takes longer than building it, and leaves it worse (measured: 35-63 s
    against 11-16 s).
    """
    name = sql.Identifier(index.schema, table)
    left = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchone()
    assert left is not None
    if deleted < WORTH_REBUILDING * (deleted + int(left[0])):
        return
    connection.execute("SET maintenance_work_mem = '1GB'")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if attempt > 1:
                _drop_unfinished_indexes(connection, index)
            connection.execute(sql.SQL("REINDEX TABLE CONCURRENTLY {}").format(name))
            break
        except DeadlockDetected:  # with a builder that makes or drops an index of this table
            if attempt == ATTEMPTS:
                raise
    failpoint("prune.reindexed")
    connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(name))
    connection.execute("RESET maintenance_work_mem")


def _drop_unfinished_indexes(connection: Connection, index: Index) -> None:
    """What a REINDEX CONCURRENTLY that was interrupted leaves behind: invalid, and in the way of the next one."""
    for (name,) in connection.execute(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE c.relnamespace = to_regnamespace(%s) AND NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'",
        [index.schema],
    ).fetchall():
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(index.schema, name)))
