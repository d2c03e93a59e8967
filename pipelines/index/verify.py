"""Verify: recompute a version's snapshot id from the rows, bottom up, and report every difference."""

from itertools import groupby

from pipelines.index.catalog import Index, Version, use_schema
from pipelines.index.db import Connection
from pipelines.model import Chunk, Place, chunks_sha256, leaf, snapshot_id


def verify(connection: Connection, index: Index, version: Version) -> tuple[dict[str, int], list[str]]:
    """What was checked (counts), and what is wrong (empty: the version is what its id says).

    Chunk keys are recomputed from their texts, revisions from their chunks, leaves from revisions, the id from leaves;
    and every chunk must have its term weights and its vector.
    """
    problems: list[str] = []
    counts = {"documents": 0, "revisions": 0, "chunks": 0}
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        use_schema(connection, index)
        _check_chunks(connection, index, version, counts, problems)
        digests = _check_revisions(connection, version, counts, problems)
        leaves = []
        for document, revision_id, stored, content in connection.execute(
            "SELECT m.document, m.revision_id, m.leaf, encode(r.content_sha256, 'hex') FROM membership m"
            " JOIN revision r ON r.id = m.revision_id WHERE m.from_version <= %(v)s AND m.to_version > %(v)s",
            {"v": version.number},
        ):
            counts["documents"] += 1
            computed = leaf(document, content, digests[revision_id])
            leaves.append(computed)
            if computed != bytes(stored):
                problems.append(f"document {document}: its revision is not the one that was published")
        leaves += _erased_leaves(connection, index, version, counts, problems)
    found = snapshot_id(version.recipe, version.space, leaves)
    if found != version.snapshot:
        problems.append(f"the rows give snapshot {found}, the version says {version.snapshot}")
    if counts["documents"] != version.documents:
        problems.append(f"{counts['documents']} documents, the version says {version.documents}")
    if counts["chunks"] != version.chunks:
        problems.append(f"{counts['chunks']} distinct chunks, the version says {version.chunks}")
    return counts, problems


_LIVE = """
    SELECT DISTINCT o.chunk_id FROM membership m JOIN occurrence o USING (revision_id)
    WHERE m.from_version <= %(v)s AND m.to_version > %(v)s
"""


def _check_chunks(
    connection: Connection, index: Index, version: Version, counts: dict[str, int], problems: list[str]
) -> None:
    space = connection.execute(
        "SELECT space_id FROM snapdex.version WHERE index_id = %s AND number = %s", [index.id, version.number]
    ).fetchone()
    assert space is not None
    with connection.cursor(name="chunks") as cursor:
        cursor.execute(
            f"SELECT n.chunk_id, c.key, c.context, c.text, l.chunk_id IS NOT NULL, v.chunk_id IS NOT NULL"
            f" FROM ({_LIVE}) n LEFT JOIN chunk c ON c.id = n.chunk_id LEFT JOIN lexical l ON l.chunk_id = n.chunk_id"
            f" LEFT JOIN vectors_{int(space[0])} v ON v.chunk_id = n.chunk_id".encode(),
            {"v": version.number},
        )
        for chunk_id, key, context, text, weighted, embedded in cursor:
            counts["chunks"] += 1
            if key is None:
                problems.append(f"chunk {chunk_id} is missing")
            elif Chunk(text, 0, 0, context).key != bytes(key):
                problems.append(f"chunk {bytes(key).hex()[:12]}: its text is not what its key says")
            elif not (weighted and embedded):
                problems.append(f"chunk {bytes(key).hex()[:12]} lacks its {'vector' if weighted else 'term weights'}")


def _check_revisions(
    connection: Connection, version: Version, counts: dict[str, int], problems: list[str]
) -> dict[int, str]:
    """Revision id to the digest of its chunks, recomputed."""
    digests: dict[int, str] = {}
    with connection.cursor(name="occurrences") as cursor:
        cursor.execute(
            """
            SELECT r.id, encode(r.chunks_sha256, 'hex'), r.title, r.metadata, r.chunks, encode(c.key, 'hex'),
                   o.start_at, o.end_at, o.section, o.page, o.parent_start, o.parent_end
            FROM revision r LEFT JOIN occurrence o ON o.revision_id = r.id LEFT JOIN chunk c ON c.id = o.chunk_id
            WHERE r.id IN (SELECT revision_id FROM membership WHERE from_version <= %(v)s AND to_version > %(v)s)
            ORDER BY r.id, o.ordinal
            """,
            {"v": version.number},
        )
        for (revision_id, stored, title, metadata, chunks), rows in groupby(cursor, key=lambda row: row[:5]):
            places: list[Place] = [tuple(row[5:]) for row in rows if row[5] is not None]
            digests[revision_id] = chunks_sha256(places, title, metadata)
            counts["revisions"] += 1
            if len(places) != chunks or digests[revision_id] != stored:
                problems.append(f"revision {revision_id}: its chunks are not those that were loaded")
    return digests


def _erased_leaves(
    connection: Connection, index: Index, version: Version, counts: dict[str, int], problems: list[str]
) -> list[bytes]:
    """What documents were that have been erased: they count in the id, and each must stand in the record."""
    rows = connection.execute(
        """
        SELECT m.document, m.leaf, EXISTS (
            SELECT FROM snapdex.erasure e WHERE e.index_id = %(index)s AND 'erased:' || e.document_sha256 = m.document
            AND e.leaf = m.leaf)
        FROM membership m WHERE m.revision_id = 0 AND m.from_version <= %(v)s AND m.to_version > %(v)s
        """,
        {"index": index.id, "v": version.number},
    ).fetchall()
    counts["documents"] += len(rows)
    problems += [f"{document}: there is no record that it was erased" for document, _, recorded in rows if not recorded]
    return [bytes(leaf) for _, leaf, _ in rows]
