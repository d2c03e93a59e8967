"""The schema: the same whichever way a database came to it, frozen once released, safe with an older program."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.config import IndexConfig
from pipelines.errors import ConfigError
from pipelines.index.catalog import ensure_index
from pipelines.index.db import Connection, connect
from pipelines.index.migrate import Migration, installed_state, migrate, migrations
from tests.conftest import Databases

MODULE = importlib.import_module("pipelines.index.migrate")  # the package has a function of that name
FROZEN = Path(__file__).with_name("migrations.sha256")
MIGRATE = "import sys; from pipelines.index import connect, migrate; migrate(connect(sys.argv[1]))"
OURS = "n.nspname ~ '^snapdex(_[0-9]+)?$'"
CATALOG = {
    "columns": f"""
        SELECT n.nspname, c.relname, c.relkind, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               a.attidentity, a.attstattarget, a.attcollation::regcollation, c.reloptions,
               pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
        WHERE {OURS} AND a.attnum > 0 AND NOT a.attisdropped""",
    "indexes": f"SELECT pg_get_indexdef(i.oid) FROM pg_class i JOIN pg_namespace n ON n.oid = i.relnamespace"
    f" WHERE {OURS} AND i.relkind = 'i'",
    "constraints": f"SELECT c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid) FROM pg_constraint c"
    f" JOIN pg_namespace n ON n.oid = c.connamespace WHERE {OURS}",
    "functions": f"SELECT pg_get_functiondef(p.oid), p.proacl::text FROM pg_proc p"
    f" JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OURS}",
    "views": f"SELECT c.relname, pg_get_viewdef(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    f" WHERE {OURS} AND c.relkind = 'v'",
    "grants": f"SELECT n.nspname, c.relname, c.relacl::text, n.nspacl::text FROM pg_class c"
    f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} AND c.relkind IN ('r', 'v', 'S')",
    "comments": f"SELECT c.relname, obj_description(c.oid, 'pg_class') FROM pg_class c"
    f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} AND c.relkind = 'r'",
}
LATER = Migration(
    9000,
    "CREATE TABLE snapdex.later (id int PRIMARY KEY); ALTER TABLE snapdex.version ADD COLUMN note text",
    "ALTER TABLE revision ADD COLUMN language text; CREATE INDEX chunk_tokens ON chunk (tokens)",
)


def catalog(connection: Connection) -> dict[str, list[str]]:
    """Everything that is there, as sorted text; the order of columns is not part of it."""
    return {kind: sorted(map(str, connection.execute(query.encode()).fetchall())) for kind, query in CATALOG.items()}


def make_index(connection: Connection) -> None:
    ensure_index(connection, IndexConfig())


@pytest.mark.parametrize("extra", [[], [LATER]], ids=["as released", "with one to come"])
def test_step_by_step_is_the_same_as_fresh(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, extra: list[Migration]
) -> None:
    """The index is made at the first schema in one database, and at the last in the other."""
    known = [*migrations(), *extra]
    with databases(empty=True) as stepwise, databases(empty=True) as fresh:
        with connect(stepwise) as connection:
            for count in range(1, len(known) + 1):
                monkeypatch.setattr(MODULE, "migrations", lambda count=count: known[:count])
                migrate(connection)
                make_index(connection)
            first = catalog(connection)
        with connect(fresh) as connection:
            migrate(connection)
            make_index(connection)
            second = catalog(connection)
    assert {kind: set(first[kind]) ^ set(second[kind]) for kind in CATALOG} == {kind: set() for kind in CATALOG}
    assert all(first.values()) and any("snapdex_1" in row for row in first["columns"])
    assert any("later" in row for row in first["columns"]) == bool(extra)


def test_released_migrations_are_frozen() -> None:
    """Every one has its line: add one with the migration, and never change one that was released."""
    frozen = [tuple(line.split()) for line in FROZEN.read_text("utf-8").splitlines()]
    assert frozen == [(f"{each.number:04}", each.sha256) for each in migrations()]


def test_migrating_again_does_nothing(database: str) -> None:
    with connect(database) as connection:
        before = connection.execute("SELECT xmin, state FROM snapdex.installed").fetchall()
        migrate(connection)
        assert connection.execute("SELECT xmin, state FROM snapdex.installed").fetchall() == before


def test_an_older_program_refuses_before_it_writes(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    ours = migrations()
    with connect(database) as connection:
        with monkeypatch.context() as patch:
            patch.setattr(MODULE, "migrations", lambda: [*ours, LATER])
            migrate(connection)
            make_index(connection)
        before = catalog(connection), installed_state(connection)
        with pytest.raises(ConfigError, match="the database has schema 9000") as caught:
            migrate(connection)
        assert caught.value.hint == "upgrade snapdex"
        assert (catalog(connection), installed_state(connection)) == before


def test_a_migration_that_fails_leaves_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = migrations()
    broken = Migration(9000, LATER.shared, "ALTER TABLE revision ADD COLUMN language text; SELECT 1 / 0")
    with connect(database) as connection:
        make_index(connection)
        before = catalog(connection), installed_state(connection)
        monkeypatch.setattr(MODULE, "migrations", lambda: [*known, broken])
        with pytest.raises(Exception, match="division by zero"):
            migrate(connection)
        assert (catalog(connection), installed_state(connection)) == before


def test_two_processes_migrate_an_empty_database_at_once(databases: Databases) -> None:
    with databases(empty=True) as url:
        command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", MIGRATE, url]
        started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        assert [process.communicate(timeout=60)[1] for process in started] == ["", ""]
        with connect(url) as connection:
            applied = connection.execute("SELECT number FROM snapdex.migration").fetchall()
            assert applied == [(each.number,) for each in migrations()]
            assert connection.execute("SELECT count(*) FROM snapdex.installed").fetchone() == (1,)
