"""How large the chunks of a version are: what chunking parameters did, seen from the database."""

from dataclasses import dataclass

from pipelines.index.catalog import Index, use_schema
from pipelines.index.db import Connection


@dataclass(frozen=True)
class Sizes:
    """`tokens`: pairs of tokens and how many distinct chunks have so many; `occurrences` counts repeated chunks too."""

    documents: int
    occurrences: int
    tokens: list[tuple[int, int]]


def sizes_of(connection: Connection, index: Index, version: int) -> Sizes:
    """Counted in the database: what comes back is a row for each size that occurs, whatever the corpus."""
    with connection.transaction():
        use_schema(connection, index)
        documents = connection.execute(
            "SELECT count(*) FROM membership WHERE from_version <= %(v)s AND to_version > %(v)s AND revision_id <> 0",
            {"v": version},
        ).fetchone()
        rows = connection.execute(
            """
            WITH live AS (
                SELECT o.chunk_id, count(*) AS times FROM membership m JOIN occurrence o USING (revision_id)
                WHERE m.from_version <= %(v)s AND m.to_version > %(v)s GROUP BY o.chunk_id)
            SELECT c.tokens, count(*), sum(live.times) FROM live JOIN chunk c ON c.id = live.chunk_id
            GROUP BY c.tokens ORDER BY c.tokens
            """,
            {"v": version},
        ).fetchall()
    assert documents is not None
    return Sizes(int(documents[0]), sum(int(row[2]) for row in rows), [(int(row[0]), int(row[1])) for row in rows])
