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
        *({row["document"]: row["content_sha256"] for row in _members(connection, index, v)} for v in (before, after))
    )
    row = connection.execute(
        "SELECT added, removed FROM snapdex.changed_chunks(%s, %s, %s)", [index.name, before, after]
    ).fetchone()
    assert row is not None
    return changes, int(row[0]), int(row[1])


def diff_facts(before: int, after: int, changes: Changes, added: int, removed: int) -> dict[str, Any]:
    """What `diff` found, for programs."""
    documents = {name: getattr(changes, name) for name in ("added", "removed", "modified", "renamed")}
    return {"from": before, "to": after, "documents": documents, "chunks": {"added": added, "removed": removed}}


def version_facts(version: Version) -> dict[str, Any]:
    """A version for programs: what `log` and `show` print."""
    return {
        "version": version.number,
        "snapshot": version.snapshot,
        "parent": version.parent,
        "created_at": version.created_at,
        "active": version.active,
        "tags": version.tags,
        "documents": version.documents,
        "chunks": version.chunks,
        "space": {"model": version.model, "revision": version.model_revision, "dimension": version.dimension},
        "recipe": version.recipe,
        "metrics": version.metrics,
        "calibration": version.calibration,
        "gate": version.gate,
        "git_commit": version.git_commit,
        "dvc_md5": version.dvc_md5,
        "prefect_run": version.prefect_run,
        "mlflow_run": version.mlflow_run,
    }


def documents_of(connection: Connection, index: Index, version: Version) -> list[Document]:
    """The documents of a version, by URI; sizes are not known here and 0."""
    return [
        Document(row["document"], row["content_sha256"], 0, row["media_type"])
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
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM snapdex.documents(%s, %s)", [index.name, version]).fetchall()
