"""Deep verification: all vectors and term weights of a version against the files, the graph against exact search."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from pipelines.files import Store
from pipelines.index.catalog import Index, Version, use_schema
from pipelines.index.db import Connection
from pipelines.index.load import BATCH_CHUNKS, vector_rows
from pipelines.index.weights import COLUMNS, Vocabulary, lexical_rows, weights
from pipelines.model import batched
from pipelines.progress import Progress

QUERIES = 50  # chunks whose own vectors are searched for
NEIGHBOURS = 10
LEAST_RECALL = 0.8  # below, the graph is broken; builds stay far above (docs/measurements.md)

_LIVE = """
    SELECT c.id, c.key, c.context, c.text FROM chunk c WHERE c.id IN (
        SELECT o.chunk_id FROM membership m JOIN occurrence o USING (revision_id)
        WHERE m.from_version <= %(v)s AND m.to_version > %(v)s) ORDER BY c.id
"""


@dataclass(frozen=True)
class Live:
    """A chunk of the version."""

    id: int
    key: bytes
    text: str  # as it is weighed


def verify_deep(
    connection: Connection, index: Index, version: Version, space_id: int, vectors: Store, progress: Progress
) -> tuple[dict[str, float], list[str]]:
    """What was checked, and what is wrong: vectors that are not those of the store, weights that are not those of the

    text, a graph that finds less than exact search does.
    """
    problems: list[str] = []
    checked: dict[str, float] = {"vectors": 0, "term_weights": 0}
    progress.start("verify", version.chunks)
    vocabulary = Vocabulary(connection, index.language)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = '10min'")  # files are read meanwhile
        use_schema(connection, index)
        for batch in _batches(connection, version):
            wrong = _differing_vectors(connection, f"vectors_{space_id}", version.dimension, batch, vectors)
            problems += [f"chunk {key.hex()[:12]}: its vector is not the one in the store" for key in wrong]
            wrong = _differing_weights(connection, index, batch, vocabulary)
            problems += [f"chunk {key.hex()[:12]}: its term weights are not those of its text" for key in wrong]
            checked["vectors"] += len(batch)
            checked["term_weights"] += len(batch)
            progress.advance(len(batch))
    recall = _recall(connection, index, version, f"vectors_{space_id}")
    checked["recall@10"] = round(recall, 4)
    if recall < LEAST_RECALL:
        problems.append(f"the graph finds {recall:.2f} of the nearest chunks: rebuild it with `snapdex prune`")
    return checked, problems


def _batches(connection: Connection, version: Version) -> Iterator[list[Live]]:
    with connection.cursor(name="live") as cursor:
        cursor.execute(_LIVE, {"v": version.number})
        rows = (Live(chunk_id, bytes(key), f"{context} {text}") for chunk_id, key, context, text in cursor)
        yield from batched(rows, BATCH_CHUNKS)


def _differing_vectors(
    connection: Connection, table: str, dimension: int, batch: list[Live], store: Store
) -> list[bytes]:
    keys = {chunk.key: chunk.id for chunk in batch}
    found = keys.keys() - store.missing(keys)
    stored = sorted((keys[key], value) for key, value in store.read(found))
    packed = vector_rows(stored, dimension)
    size = len(packed) // len(stored) if stored else 0
    expected = {chunk_id: packed[size * at : size * (at + 1)] for at, (chunk_id, _) in enumerate(stored)}
    present = _rows(connection, table, ("chunk_id", "embedding"), [chunk.id for chunk in batch])
    return [chunk.key for chunk in batch if chunk.id not in present or present[chunk.id] != expected.get(chunk.id)]


def _differing_weights(connection: Connection, index: Index, batch: list[Live], vocabulary: Vocabulary) -> list[bytes]:
    occurrences = vocabulary.terms([chunk.text for chunk in batch])
    ids = [chunk.id for chunk in batch]
    expected = dict(zip(ids, lexical_rows(ids, *weights(occurrences, index)), strict=True))
    present = _rows(connection, "lexical", COLUMNS, ids)
    return [chunk.key for chunk in batch if present.get(chunk.id) != expected[chunk.id]]


def _rows(connection: Connection, table: str, columns: Sequence[str], ids: list[int]) -> dict[int, bytes]:
    """Rows of a table in COPY's binary format, by their first column, a bigint."""
    statement = sql.SQL("COPY (SELECT {} FROM {} WHERE chunk_id = ANY({})) TO STDOUT (FORMAT BINARY)").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table), sql.Literal(ids)
    )
    rows = {}
    with connection.cursor().copy(statement) as copy:
        for at, data in enumerate(copy):
            row = bytes(data[19:] if at == 0 else data)  # the first comes after the head of the format
            if len(row) > 14:  # the last is the end mark
                rows[int.from_bytes(row[6:14], "big", signed=True)] = row
    return rows


def _recall(connection: Connection, index: Index, version: Version, table: str) -> float:
    """Share of the nearest chunks of some chunks that the default search finds too."""
    with connection.transaction():
        use_schema(connection, index)
        queries = connection.execute(
            sql.SQL(
                "SELECT x.embedding::text FROM {} x WHERE x.chunk_id IN (SELECT o.chunk_id FROM membership m"
                " JOIN occurrence o USING (revision_id) WHERE m.from_version <= {v} AND m.to_version > {v})"
                " ORDER BY hashint8(x.chunk_id), x.chunk_id LIMIT {queries}"
            ).format(sql.Identifier(table), v=sql.Literal(version.number), queries=sql.Literal(QUERIES))
        ).fetchall()
    found = wanted = 0
    for (vector,) in queries:
        exact, default = (
            {
                chunk
                for (chunk,) in connection.execute(
                    "SELECT chunk FROM snapdex.retrieve(%s, 'dense', %s, NULL, %s, '{}', %s, 0.5, %s)",
                    [index.name, vector, NEIGHBOURS, version.number, exact],
                )
            }
            for exact in (True, False)
        )
        found += len(exact & default)
        wanted += len(exact)
    return found / wanted if wanted else 1.0
