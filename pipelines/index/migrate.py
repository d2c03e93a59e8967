"""The database schema: numbered migrations, applied once each; functions and views, replaced when their text changes.

Migration NNNN has a part for what is shared (`NNNN_shared.sql`) and one for each index (`NNNN_index.sql`). A database
says how far it is; a program that is older than its database refuses before it writes.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from psycopg import sql

from pipelines.errors import ConfigError
from pipelines.index.db import MINIMUM_PGVECTOR, MINIMUM_POSTGRES, Connection, translated_errors

LOCK = 0x736E6170  # advisory, held for the transaction of a migration only: two first commands may start together
ROLES = ("snapdex_reader", "snapdex_publisher", "snapdex_writer")


@dataclass(frozen=True)
class Migration:
    number: int
    shared: str
    per_index: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256((self.shared + self.per_index).encode("utf-8")).hexdigest()


def migrations() -> list[Migration]:
    """All of them, oldest first."""
    directory = files("pipelines.index") / "sql" / "migrations"
    numbers = sorted({int(path.name[:4]) for path in directory.iterdir() if path.name.endswith(".sql")})
    read = [[(directory / f"{n:04}_{part}.sql").read_text("utf-8") for part in ("shared", "index")] for n in numbers]
    return [Migration(number, shared, per_index) for number, (shared, per_index) in zip(numbers, read, strict=True)]


def schema_of(index_id: int) -> str:
    return f"snapdex_{index_id}"


def migrate(connection: Connection, *, up_to: int | None = None) -> None:
    """Bring the database to the newest schema; nothing is done, and nothing locked, where it is there already.

    Raises `ConfigError` for a server, an extension or a program that is too old.
    """
    wanted = [migration for migration in migrations() if up_to is None or migration.number <= up_to]
    functions = (files("pipelines.index") / "sql" / "functions.sql").read_text("utf-8")
    state = f"{wanted[-1].number}:{hashlib.sha256(functions.encode('utf-8')).hexdigest()}"
    if installed_state(connection) == state:
        return
    with translated_errors(), connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        check_server(connection)
        connection.execute("CREATE SCHEMA IF NOT EXISTS snapdex")
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")
        check_pgvector(connection)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS snapdex.migration (number int PRIMARY KEY, sha256 text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        connection.execute("CREATE TABLE IF NOT EXISTS snapdex.installed (state text NOT NULL)")
        vector = _vector_schema(connection)
        _apply_migrations(connection, wanted, vector)
        _use_shared(connection, vector)
        connection.execute(functions.replace("{vector_schema}", sql.Identifier(vector).as_string(connection)).encode())
        _grant(connection)
        connection.execute("DELETE FROM snapdex.installed")
        connection.execute("INSERT INTO snapdex.installed VALUES (%s)", [state])


def installed_state(connection: Connection) -> str | None:
    """What is installed, as `migration number : hash of the functions`; None where nothing is."""
    with translated_errors():
        if connection.execute("SELECT to_regclass('snapdex.installed')").fetchone() == (None,):
            return None
        row = connection.execute("SELECT state FROM snapdex.installed").fetchone()
    return str(row[0]) if row else None


def add_index_schema(connection: Connection, index_id: int) -> None:
    """Create the schema of a new index at the newest migration."""
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema_of(index_id))))
    for migration in migrations():
        _apply_to_index(connection, index_id, migration.per_index)


def _use_shared(connection: Connection, vector: str) -> None:
    """Let the search path not depend on what was migrated before: functions keep the one that they are made under."""
    connection.execute(sql.SQL("SET LOCAL search_path = pg_catalog, {}").format(sql.Identifier(vector)))


def _apply_migrations(connection: Connection, wanted: list[Migration], vector: str) -> None:
    applied: dict[int, str] = dict(connection.execute("SELECT number, sha256 FROM snapdex.migration").fetchall())
    if applied and max(applied) > wanted[-1].number:
        raise ConfigError(
            f"the database has schema {max(applied)}, this program knows {wanted[-1].number}", hint="upgrade snapdex"
        )
    for migration in wanted:
        if migration.number in applied:
            continue
        _use_shared(connection, vector)
        connection.execute(migration.shared.encode())
        for (index_id,) in connection.execute("SELECT id FROM snapdex.index ORDER BY id").fetchall():
            _apply_to_index(connection, index_id, migration.per_index)
        connection.execute("INSERT INTO snapdex.migration VALUES (%s, %s)", [migration.number, migration.sha256])


def _apply_to_index(connection: Connection, index_id: int, statements: str) -> None:
    with connection.transaction():
        path = sql.SQL("SET LOCAL search_path = {}, {}, pg_catalog").format(
            sql.Identifier(schema_of(index_id)), sql.Identifier(_vector_schema(connection))
        )
        connection.execute(path)
        connection.execute(statements.encode())


def _grant(connection: Connection) -> None:
    """Three group roles with no more than their work needs; left out without CREATEROLE, and doctor says so."""
    for role in ROLES:
        connection.execute(
            sql.SQL(
                "DO $$ BEGIN CREATE ROLE {} NOLOGIN;"
                " EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL; END $$"
            ).format(sql.Identifier(role))
        )
    if not all(connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() for role in ROLES):
        return
    connection.execute(
        """
        REVOKE ALL ON ALL FUNCTIONS IN SCHEMA snapdex FROM PUBLIC;
        GRANT USAGE ON SCHEMA snapdex TO snapdex_reader, snapdex_publisher, snapdex_writer;
        GRANT SELECT ON snapdex.indexes, snapdex.versions, snapdex.active_chunks TO snapdex_reader;
        GRANT EXECUTE ON FUNCTION snapdex.search, snapdex.search_lexical, snapdex.retrieve, snapdex.evidence,
            snapdex.coverage, snapdex._resolve, snapdex._active_chunks, snapdex.log_retrieval,
            snapdex.documents, snapdex.changed_chunks, snapdex._maintained TO snapdex_reader;
        GRANT snapdex_reader TO snapdex_publisher;
        GRANT EXECUTE ON FUNCTION snapdex.move_pointer TO snapdex_publisher;
        """
    )


def _vector_schema(connection: Connection) -> str:
    row = connection.execute(
        "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
    ).fetchone()
    assert row is not None
    return str(row[0])


def check_server(connection: Connection) -> None:
    """Raises `ConfigError` for a server that cannot hold an index: too old, without pgvector, or not UTF-8."""
    version = connection.info.server_version
    if version < MINIMUM_POSTGRES:
        raise ConfigError(f"Postgres {version // 10000} is too old", hint="use Postgres 15 or newer")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigError(f"the database has encoding {encoding}", hint="make one with: createdb -E UTF8 NAME")
    available = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    if not available:
        raise ConfigError("the server has no pgvector", hint="install pgvector 0.8.4 or newer on the database server")


def check_pgvector(connection: Connection) -> None:
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    if row is None or tuple(int(part) for part in str(row[0]).split(".")) < MINIMUM_PGVECTOR:
        found = row[0] if row else "none"
        raise ConfigError(
            f"pgvector {found} is too old, 0.8.4 or newer is needed",
            hint="install it on the server, then run: ALTER EXTENSION vector UPDATE",
        )
