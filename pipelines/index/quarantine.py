"""Documents that could not be processed, as rows that people can look at."""

from collections.abc import Sequence
from typing import Any

from psycopg.rows import dict_row

from pipelines.index.catalog import Index, use_schema
from pipelines.index.db import Connection
from pipelines.model import Quarantined


def record(connection: Connection, index: Index, present: Sequence[Quarantined]) -> None:
    """Make the table say what is in quarantine now. A document that fails again with other bytes counts an attempt."""
    with connection.transaction():
        use_schema(connection, index)
        connection.execute("DELETE FROM quarantine WHERE document <> ALL(%s)", [[q.uri for q in present]])
        with connection.cursor() as cursor:
            cursor.executemany(
                """
                INSERT INTO quarantine AS old (document, content_sha256, reason, detail) VALUES (%s, %s, %s, %s)
                ON CONFLICT (document) DO UPDATE SET content_sha256 = excluded.content_sha256, reason = excluded.reason,
                    detail = excluded.detail, attempts = old.attempts + 1
                WHERE (old.content_sha256, old.reason) <> (excluded.content_sha256, excluded.reason)
                """,
                sorted((q.uri, q.content_sha256, q.reason.value, q.detail) for q in present),
            )


def listed(connection: Connection, index: Index) -> list[dict[str, Any]]:
    """Each document in quarantine, by URI."""
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        use_schema(connection, index)
        return cursor.execute(
            "SELECT document, content_sha256, reason, detail, first_seen, attempts FROM quarantine ORDER BY document"
        ).fetchall()
