"""Bring content into the index's tables: insert-only, in any order, any number of times.

Rows enter in sorted order, so that two builders which meet wait for each other instead of deadlocking.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from psycopg import errors, sql

from pipelines.files import Store
from pipelines.index.bulk import create_if_missing, drop_if_cheaper
from pipelines.index.catalog import Index, Space, use_schema
from pipelines.index.db import Connection
from pipelines.manifests import ChunksRow
from pipelines.model import Revision, batched, canonical_json
from pipelines.progress import Progress

COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # of COPY's binary format, where rows are packed here
COPY_END = b"\xff\xff"
BATCH_CHUNKS = 8192  # rows of one transaction: large enough for COPY, small enough to lose without regret
# A graph of many vectors gets more links: searches of 100,000 take half the time for the same recall. One of few is
# searched widely instead, because it is built in two thirds of the time (docs/decisions/003-exact-or-hnsw.md).
# `snapdex._dense` knows the number, too.
MANY_VECTORS = 65_536
SMALL_GRAPH, LARGE_GRAPH = (12, 48), (16, 64)  # m, ef_construction; the latter are pgvector's defaults


@dataclass(frozen=True)
class Target:
    """The state that a build leads to: every document with its revision."""

    rows: Sequence[ChunksRow]
    recipe: str
    space: dict[str, str]  # the facts of the embeddings manifest


def missing_revisions(connection: Connection, index: Index, keys: Sequence[bytes]) -> set[bytes]:
    """Those of `keys` that the index has no revision for."""
    with connection.transaction():
        use_schema(connection, index)
        found = connection.execute("SELECT key FROM revision WHERE key = ANY(%s)", [list(keys)]).fetchall()
    return set(keys) - {bytes(key) for (key,) in found}


def drop_damaged_revisions(connection: Connection, index: Index, keys: Sequence[bytes]) -> int:
    """Delete those of these revisions that lost chunks to prune while they were loaded; loading makes them whole.

    One that a version holds stays: that is damage, and `verify` finds it. Returns how many such there are.
    """
    with connection.transaction():
        use_schema(connection, index)
        connection.execute(
            """
            WITH damaged AS (
                DELETE FROM revision r WHERE r.key = ANY(%s)
                AND NOT EXISTS (SELECT FROM membership m WHERE m.revision_id = r.id)
                AND r.chunks <> (SELECT count(*) FROM occurrence o JOIN chunk c ON c.id = o.chunk_id
                                 WHERE o.revision_id = r.id) RETURNING r.id)
            DELETE FROM occurrence o USING damaged WHERE o.revision_id = damaged.id
            """,
            [list(keys)],
        )
        row = connection.execute(
            "SELECT count(*) FROM revision r WHERE r.key = ANY(%s)"
            " AND EXISTS (SELECT FROM membership m WHERE m.revision_id = r.id) AND r.chunks <> ("
            " SELECT count(*) FROM occurrence o JOIN chunk c ON c.id = o.chunk_id WHERE o.revision_id = r.id)",
            [list(keys)],
        ).fetchone()
    assert row is not None
    return int(row[0])


def load_revisions(connection: Connection, index: Index, rows: Iterable[ChunksRow], store: Store) -> int:
    """Insert revisions with their chunks and occurrences; returns how many chunk occurrences were read."""
    wanted = {row.revision_key: row for row in rows}
    loaded = 0
    batch: list[tuple[ChunksRow, Revision]] = []
    size = 0
    for key, value in store.read(wanted):
        revision = Revision.from_json(value)
        batch.append((wanted[key], revision))
        size += len(revision.chunks)
        if size >= BATCH_CHUNKS:
            _insert_revisions(connection, index, batch)
            loaded, size, batch = loaded + size, 0, []
    if batch:
        _insert_revisions(connection, index, batch)
    return loaded + size


def _insert_revisions(connection: Connection, index: Index, batch: Sequence[tuple[ChunksRow, Revision]]) -> None:
    with connection.transaction():
        use_schema(connection, index)
        connection.execute("SET LOCAL synchronous_commit = off")  # sealing commits synchronously, and comes after
        connection.execute(
            """
            CREATE TEMP TABLE new_revision (
                key bytea, content_sha256 bytea, media_type text, chunks_sha256 bytea, title text, metadata text,
                chunks int
            ) ON COMMIT DROP;
            CREATE TEMP TABLE new_chunk (
                revision_key bytea, ordinal int, key bytea, context text, text text, tokens int, section text[],
                page int, start_at int, end_at int, parent_start int, parent_end int
            ) ON COMMIT DROP
            """
        )
        cursor = connection.cursor()
        with cursor.copy("COPY new_revision FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["bytea", "bytea", "text", "bytea", "text", "text", "int4"])
            for row, revision in batch:
                copy.write_row(_revision_row(row, revision))
        with cursor.copy("COPY new_chunk FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["bytea", "int4", "bytea", "text", "text", "int4", "text[]", "int4", *["int4"] * 4])
            for row, revision in batch:
                for ordinal, c in enumerate(revision.chunks):
                    place = (list(c.section), c.page, c.start, c.end, c.parent_start, c.parent_end)
                    copy.write_row((row.revision_key, ordinal, c.key, c.context, c.text, c.tokens, *place))
        connection.execute(
            """
            INSERT INTO chunk (key, context, text, tokens)
                SELECT DISTINCT ON (key) key, context, text, tokens FROM new_chunk ORDER BY key
                ON CONFLICT DO NOTHING;
            WITH won AS (  -- whoever loses the race for a revision has nothing to add: the winner's rows are the same
                INSERT INTO revision (key, content_sha256, media_type, chunks_sha256, title, metadata, chunks)
                SELECT key, content_sha256, media_type, chunks_sha256, title, metadata::jsonb, chunks
                FROM new_revision ORDER BY key ON CONFLICT DO NOTHING RETURNING id, key)
            INSERT INTO occurrence
                SELECT won.id, n.ordinal, chunk.id, n.section, n.page, n.start_at, n.end_at, n.parent_start,
                       n.parent_end
                FROM won JOIN new_chunk n ON n.revision_key = won.key JOIN chunk ON chunk.key = n.key
            """
        )


def _revision_row(row: ChunksRow, revision: Revision) -> tuple[object, ...]:
    return (
        row.revision_key,
        bytes.fromhex(row.content_sha256),
        row.media_type,
        bytes.fromhex(row.chunks_sha256),
        revision.title,
        canonical_json(revision.metadata),
        len(revision.chunks),
    )


def copy_new(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[bytes]) -> None:
    """COPY rows in its binary format into a table, where another builder has not brought in one of them already."""
    kept = list(rows)
    try:
        with connection.transaction():
            _copy(connection, table, columns, kept)
    except errors.UniqueViolation:
        names = {"table": sql.Identifier(table)}
        connection.execute(
            sql.SQL("CREATE TEMP TABLE arriving (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DROP").format(**names)
        )
        _copy(connection, "arriving", columns, kept)
        connection.execute(
            sql.SQL("INSERT INTO {table} SELECT * FROM arriving ORDER BY chunk_id ON CONFLICT DO NOTHING").format(
                **names
            )
        )


def _copy(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[bytes]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table), names)
    with connection.cursor().copy(statement) as copy:
        copy.write(COPY_HEAD)
        for each in rows:
            copy.write(each)  # a turn to the server and back
        copy.write(COPY_END)


# -- what chunks need to be found --------------------------------------------------------------------------------------

_CHUNKS_WITHOUT = """
    SELECT c.id, c.key FROM chunk c
    WHERE c.id IN (SELECT o.chunk_id FROM occurrence o JOIN revision r ON r.id = o.revision_id WHERE r.key = ANY(%s))
    AND NOT EXISTS (SELECT FROM {} x WHERE x.chunk_id = c.id) ORDER BY c.id
"""


def chunks_without(connection: Connection, index: Index, table: str, keys: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """(id, key) of the chunks of these revisions that `table` (lexical, or vectors of a space) has no row for."""
    with connection.transaction():
        use_schema(connection, index)
        statement = sql.SQL(_CHUNKS_WITHOUT).format(sql.Identifier(table))
        return [(int(i), bytes(k)) for i, k in connection.execute(statement, [list(keys)]).fetchall()]


def load_vectors(
    connection: Connection,
    index: Index,
    space: Space,
    chunks: Sequence[tuple[int, bytes]],
    store: Store,
    progress: Progress,
) -> None:
    """Insert the vectors of these chunks with COPY; the graph is dropped first where building it anew is cheaper."""
    if not chunks:
        return
    drop_if_cheaper(connection, index, space.table, space.graph, len(chunks))
    ids = {key: chunk_id for chunk_id, key in chunks}
    for batch in batched(store.read(ids), BATCH_CHUNKS):
        rows = sorted((ids[key], value) for key, value in batch)
        with connection.transaction():
            use_schema(connection, index)
            connection.execute("SET LOCAL synchronous_commit = off")
            copy_new(connection, space.table, ("chunk_id", "embedding"), [vector_rows(rows, space.dimension)])
        progress.advance(len(rows))


def vector_rows(rows: Sequence[tuple[int, bytes]], dimension: int) -> bytes:
    """(chunk_id bigint, embedding halfvec) in the binary format of COPY; all rows have the same length."""
    row = np.dtype(
        [
            ("fields", ">i2"),
            ("id_bytes", ">i4"),
            ("id", ">i8"),
            ("vector_bytes", ">i4"),
            ("dimension", ">i2"),
            ("unused", ">i2"),
            ("values", ">u2", (dimension,)),
        ]
    )
    table = np.zeros(len(rows), row)
    table["fields"], table["id_bytes"], table["vector_bytes"], table["dimension"] = 2, 8, 4 + 2 * dimension, dimension
    table["id"] = [chunk_id for chunk_id, _ in rows]
    table["values"] = np.frombuffer(b"".join(value for _, value in rows), "<u2").reshape(len(rows), dimension)
    return table.tobytes()


def ensure_graph(connection: Connection, index: Index, space: Space, *, changed: bool) -> None:
    """Build the HNSW index of a space where there is none, or where the space has outgrown the one there is; `changed`:
    whether vectors came since it was analyzed."""
    with connection.transaction():
        use_schema(connection, index)
        graph = connection.execute(
            "SELECT reloptions FROM pg_class WHERE oid = to_regclass(%s)", [space.graph]
        ).fetchone()
        if graph and not changed:
            return
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(space.table))).fetchone()
        assert row is not None
        links, width = LARGE_GRAPH if row[0] >= MANY_VECTORS else SMALL_GRAPH
        outgrown = graph and graph[0] is not None and links == LARGE_GRAPH[0] and f"m={links}" not in graph[0]
        if outgrown:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(space.graph)))
    method = sql.SQL("hnsw (embedding halfvec_cosine_ops) WITH (m = {}, ef_construction = {})").format(
        sql.Literal(links), sql.Literal(width)
    )
    create_if_missing(connection, index, space.table, space.graph, method)
    if changed:
        analyze(connection, index, space.table)


def analyze(connection: Connection, index: Index, *tables: str) -> None:
    """Fresh statistics: the plans of the first searches depend on them, and autovacuum comes minutes later.

    A table that prune is giving room back of is left to it: it analyzes as well, and waits for us while we would wait.
    """
    with connection.transaction():
        use_schema(connection, index)
        connection.execute(sql.SQL("ANALYZE (SKIP_LOCKED) {}").format(sql.SQL(", ").join(map(sql.Identifier, tables))))
