"""After rows were deleted for good: nothing of them is left in the files of the database server.

A deleted row stays in its page, a deleted vector in the graph, samples of both in the statistics of the planner, and
all of it in the write-ahead log. So tables and their indexes are written anew, statistics too, and the log of an
embedded server is gone through until no file of it is as old as the deletion.
"""

import time

from psycopg import sql

from pipelines.errors import ConflictError, ServiceUnavailable
from pipelines.index.catalog import Index
from pipelines.index.db import Connection

READER_SECONDS = 60.0  # that older transactions get to end: what they may still see cannot be removed
WAL_PASSES = 3
CLEAR_STATISTICS = 180000  # the server version from which single statistics can be dropped


def rewrite_tables(connection: Connection, index: Index) -> None:
    """VACUUM FULL of every table of the index, which builds its indexes anew; then of the planner's statistics.

    Readers wait for one table at a time. Raises `ConflictError` when a transaction from before does not end.
    """
    _wait_for_older_transactions(connection)
    tables = [
        sql.Identifier(index.schema, str(name))
        for (name,) in connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1", [index.schema]
        ).fetchall()
    ]
    if connection.info.server_version >= CLEAR_STATISTICS:  # ANALYZE keeps those of a table that is empty now
        connection.execute(
            "SELECT pg_clear_attribute_stats(schemaname, tablename, attname, inherited) FROM pg_stats"
            " WHERE schemaname = %s OR (schemaname, tablename) = ('snapdex', 'retrieval_log')",
            [index.schema],
        )
    connection.execute("SET maintenance_work_mem = '1GB'")
    for table in [*tables, *(sql.Identifier("snapdex", name) for name in ("version", "retrieval_log"))]:
        connection.execute(sql.SQL("VACUUM (FULL, ANALYZE) {}").format(table))
    connection.execute("VACUUM (FULL) pg_catalog.pg_statistic")
    connection.execute("RESET maintenance_work_mem")


def _wait_for_older_transactions(connection: Connection) -> None:
    now = connection.execute("SELECT pg_current_xact_id()::xid::text").fetchone()
    assert now is not None
    deadline = time.monotonic() + READER_SECONDS
    while True:
        older = connection.execute(
            "SELECT min(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_xmin IS NOT NULL AND age(backend_xmin) > age(%s::xid)",
            now,
        ).fetchone()
        if older is None or older[0] is None:
            return
        if time.monotonic() > deadline:
            raise ConflictError(
                f"a transaction of server process {older[0]} is older than the deletion and may still see the rows",
                hint="let it end, then run the same command again: it goes on from here",
            )
        time.sleep(0.2)


def cycle_wal(connection: Connection) -> None:
    """Let every file of the write-ahead log be newer than this call; for a server that is ours alone.

    Old files are removed, not recycled: a recycled one keeps its bytes until it is filled again.
    """
    row = connection.execute("SHOW wal_recycle").fetchone()
    if row != ("off",):
        connection.execute("ALTER SYSTEM SET wal_recycle = off")
        connection.execute("SELECT pg_reload_conf()")
        time.sleep(0.5)  # until the checkpointer has read it; the second pass takes what it recycled before
        _pass_over(connection)
    for _ in range(WAL_PASSES):
        if _pass_over(connection):
            return
    raise ServiceUnavailable(
        "old files of the write-ahead log do not go away",
        hint="is there a replication slot, or is wal_keep_size set? Remove it and run the same command again",
    )


def _pass_over(connection: Connection) -> bool:
    """Switch past every file that is there, those in reserve too, and remove them; whether none is left."""
    old = _wal_files(connection)
    while _current_file(connection) <= max(old):
        connection.execute("SELECT pg_logical_emit_message(false, 'snapdex', ''), pg_switch_wal()")
    connection.execute("CHECKPOINT")
    connection.execute("CHECKPOINT")  # files go up to where the checkpoint before this one began
    return old.isdisjoint(_wal_files(connection))


def _wal_files(connection: Connection) -> set[str]:
    found = connection.execute("SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'").fetchall()
    return {str(name) for (name,) in found}


def _current_file(connection: Connection) -> str:
    row = connection.execute(
        "SELECT pg_logical_emit_message(false, 'snapdex', ''), pg_walfile_name(pg_current_wal_insert_lsn())"
    ).fetchone()
    assert row is not None
    return str(row[1])
