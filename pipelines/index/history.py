"""Looking at versions: what differs between two, and which documents one consists of."""

from collections.abc import Iterator
from typing import Any

from psycopg.rows import dict_row

from pipelines.changes import Changes, document_changes
from pipelines.index.catalog import Index, Version, use_schema
from pipelines.index.db import Connection
from pipelines.model import Document


def diff(connection: Connection, index: Index, before: int, after: int) -> tuple[Changes, int, int]:
    """Documents that differ between two versions, and how many distinct chunks came and went."""
    changes = document_changes(
        *({row["document"]: row["sha"] for row in _members(connection, index, v)} for v in (before, after))
    )
    with connection.transaction():
        use_schema(connection, index)
        row = connection.execute(
            """
            WITH differing AS (  -- revisions that are in one of the two only: all other chunks are in both
                SELECT revision_id FROM membership WHERE from_version <= %(a)s AND to_version > %(a)s
                EXCEPT SELECT revision_id FROM membership WHERE from_version <= %(b)s AND to_version > %(b)s
                UNION (SELECT revision_id FROM membership WHERE from_version <= %(b)s AND to_version > %(b)s
                EXCEPT SELECT revision_id FROM membership WHERE from_version <= %(a)s AND to_version > %(a)s)),
            chunks AS (
                SELECT c.chunk_id,
                    EXISTS (SELECT FROM occurrence o JOIN membership m USING (revision_id) WHERE o.chunk_id = c.chunk_id
                            AND m.from_version <= %(a)s AND m.to_version > %(a)s) AS before,
                    EXISTS (SELECT FROM occurrence o JOIN membership m USING (revision_id) WHERE o.chunk_id = c.chunk_id
                            AND m.from_version <= %(b)s AND m.to_version > %(b)s) AS after
                FROM (SELECT DISTINCT chunk_id FROM occurrence JOIN differing USING (revision_id)) c)
            SELECT count(*) FILTER (WHERE after AND NOT before), count(*) FILTER (WHERE before AND NOT after)
            FROM chunks
            """,
            {"a": before, "b": after},
        ).fetchone()
    assert row is not None
    return changes, int(row[0]), int(row[1])


def documents_of(connection: Connection, index: Index, version: Version) -> list[Document]:
    """The documents of a version, by URI; sizes are not known here and 0."""
    return [
        Document(row["document"], row["sha"], 0, row["media_type"])
        for row in _members(connection, index, version.number)
    ]


def chunks_of(connection: Connection, index: Index, version: int) -> Iterator[tuple[str, list[str], str]]:
    """Document, section and text of every chunk of a version, in the order in which they stand in the documents."""
    with connection.transaction(), connection.cursor("chunks") as cursor:
        use_schema(connection, index)
        cursor.execute(
            "SELECT m.document, o.section, c.text FROM membership m JOIN occurrence o USING (revision_id)"
            " JOIN chunk c ON c.id = o.chunk_id WHERE m.from_version <= %(v)s AND m.to_version > %(v)s"
            " ORDER BY m.document, o.ordinal",
            {"v": version},
        )
        yield from cursor


def _members(connection: Connection, index: Index, version: int) -> list[dict[str, Any]]:
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        use_schema(connection, index)
        return cursor.execute(
            "SELECT m.document, encode(r.content_sha256, 'hex') AS sha, r.media_type FROM membership m"
            " JOIN revision r ON r.id = m.revision_id WHERE m.from_version <= %(v)s AND m.to_version > %(v)s"
            " ORDER BY m.document",
            {"v": version},
        ).fetchall()
