"""What a state would change: documents and chunks that it adds to the active version and takes from it.

`plan` shows it, `run` reports it. Both call this, so the plan cannot differ from what happens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.changes import Changes, document_changes
from pipelines.erased import document_hash
from pipelines.files import Store
from pipelines.index.catalog import Index, find_index, use_schema
from pipelines.index.db import Connection
from pipelines.index.seal import erased_elsewhere, erased_here
from pipelines.manifests import ChunksRow
from pipelines.model import Revision


@dataclass(frozen=True)
class Forecast:
    """The active version against a state: documents by URI, and distinct chunks."""

    documents: Changes
    total_documents: int
    total_chunks: int
    added_chunks: int
    removed_chunks: int
    epoch: int  # of the index when it was compared: publishing goes on from here or not at all


def forecast(connection: Connection, index_name: str, rows: Sequence[ChunksRow], store: Store) -> Forecast:
    """Compare `rows` with the active version; reads the chunks of revisions that differ, and no others.

    Raises `ConflictError` where a seal would refuse them: somebody else has erased one of these documents.
    """
    index = find_index(connection, index_name)  # pointer and epoch in one row; versions themselves do not change
    if index and (erased := erased_here(connection, index)) and any(document_hash(row.uri) in erased for row in rows):
        raise erased_elsewhere()
    epoch = index.epoch if index else 0
    before = active_members(connection, index) if index and index.active_version is not None else {}
    documents = document_changes(
        {uri: sha for uri, (sha, _) in before.items()}, {row.uri: row.content_sha256 for row in rows}
    )
    old = {key for _, key in before.values()}
    new = {row.revision_key for row in rows}
    incoming: set[bytes] = set()
    for _, value in store.read(new - old):
        incoming.update(chunk.key for chunk in Revision.from_json(value).chunks)
    if index is None or not before:
        return Forecast(documents, len(rows), len(incoming), len(incoming), 0, epoch)
    total, outgoing, staying = _chunk_keys(connection, index, old - new, incoming)
    added = incoming - outgoing - staying
    removed = outgoing - incoming - staying
    return Forecast(documents, len(rows), total + len(added) - len(removed), len(added), len(removed), epoch)


def active_members(connection: Connection, index: Index) -> dict[str, tuple[str, bytes]]:
    """URI to (content hash, revision key) of the active version."""
    with connection.transaction():
        use_schema(connection, index)
        found = connection.execute(
            "SELECT m.document, encode(r.content_sha256, 'hex'), r.key FROM membership m"
            " JOIN revision r ON r.id = m.revision_id WHERE m.from_version <= %(v)s AND m.to_version > %(v)s",
            {"v": index.active_version},
        ).fetchall()
    return {uri: (sha, bytes(key)) for uri, sha, key in found}


def _chunk_keys(
    connection: Connection, index: Index, leaving: set[bytes], incoming: set[bytes]
) -> tuple[int, set[bytes], set[bytes]]:
    """Distinct chunks of the active version, those of its leaving revisions, and which of both sets stay anyway."""
    with connection.transaction():
        use_schema(connection, index)
        row = connection.execute(
            "SELECT chunks FROM snapdex.version WHERE index_id = %s AND number = %s", [index.id, index.active_version]
        ).fetchone()
        assert row is not None
        outgoing = connection.execute(
            "SELECT DISTINCT c.key FROM revision r JOIN occurrence o ON o.revision_id = r.id"
            " JOIN chunk c ON c.id = o.chunk_id"
            " WHERE r.key = ANY(%s)",
            [list(leaving)],
        ).fetchall()
        gone = {bytes(key) for (key,) in outgoing}
        staying = connection.execute(
            """
            SELECT c.key FROM chunk c WHERE c.key = ANY(%(keys)s) AND EXISTS (
                SELECT FROM occurrence o JOIN membership m USING (revision_id) JOIN revision r ON r.id = o.revision_id
                WHERE o.chunk_id = c.id AND m.from_version <= %(v)s AND m.to_version > %(v)s
                AND NOT r.key = ANY(%(leaving)s))
            """,
            {"keys": list(incoming | gone), "v": index.active_version, "leaving": list(leaving)},
        ).fetchall()
    return int(row[0]), gone, {bytes(key) for (key,) in staying}
