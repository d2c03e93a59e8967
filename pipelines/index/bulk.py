"""Secondary indexes around a bulk load: dropped before it where building them anew is cheaper, built after it.

Several builders may be at it at once, and one may die in between: each step is a transaction of its own, so that none
waits for another while holding what that one needs, and what is missing after a load is built, whoever dropped it.
"""

from psycopg import errors, sql

from pipelines.index.catalog import Index, use_schema
from pipelines.index.db import Connection

REBUILD_SHARE = 0.15  # of new rows: from here on building an index anew is faster than inserting (measured)
PARALLEL_BYTES = 2 * 2**20  # of a table; below, making room for workers to share takes longer than building (0.4 s)


def drop_if_cheaper(connection: Connection, index: Index, table: str, name: str, new: int) -> None:
    """Drop index `name` of `table` if `new` rows are many. Readers meanwhile scan: slower, and not wrong."""
    with connection.transaction():
        use_schema(connection, index)
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    if row is not None and new > REBUILD_SHARE * int(row[0]):
        with connection.transaction():
            use_schema(connection, index)
            connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(name)))


def create_if_missing(connection: Connection, index: Index, table: str, name: str, method: sql.Composable) -> None:
    """Build index `name` of `table` where there is none; readers are not blocked."""
    try:
        with connection.transaction():
            use_schema(connection, index)
            connection.execute("SET LOCAL maintenance_work_mem = '1GB'")
            connection.execute(
                "SELECT set_config('max_parallel_maintenance_workers', '0', true)"
                " WHERE pg_relation_size(%s::regclass) < %s",
                [table, PARALLEL_BYTES],
            )
            connection.execute(
                sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING {}").format(
                    sql.Identifier(name), sql.Identifier(table), method
                )
            )
    except errors.UniqueViolation:  # of its name: another builder began earlier, and has finished now
        pass
