"""The group roles, tested by what they are denied."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from pipelines.index import open_index, search
from pipelines.index.catalog import get_index, versions
from pipelines.index.db import Connection, connect_to_read
from pipelines.index.history import diff
from tests.conftest import Databases
from tests.index.state import State

QUERY = "what does prune delete"


@pytest.fixture(scope="module")
def guide(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """Two versions, the second active. No test but the last leaves anything changed."""
    with databases() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAPDEX_DATABASE_URL", url)
        state = State.make(tmp_path_factory.mktemp("roles") / "workspace", url)
        state.write({"prune.md": "# Prune\n\nPrune deletes what no version reaches.\n", "b.md": "# B\n\nOther text.\n"})
        state.run()
        state.write({"b.md": "# B\n\nOther words.\n"}).run()
        yield state


@contextmanager
def acting_as(state: State, role: str) -> Iterator[Connection]:
    with state.connect() as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        yield connection


def relations(state: State) -> list[tuple[str, str]]:
    """Every table of Snapdex: those that are shared, and those of the index."""
    with state.connect() as connection:
        found = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname ~ '^snapdex(_[0-9]+)?$' ORDER BY 1, 2"
        ).fetchall()
    assert {"snapdex", "snapdex_1"} == {schema for schema, _ in found} and len(found) > 12
    return [(str(schema), str(table)) for schema, table in found]


def is_denied(connection: Connection, statement: sql.Composable | str) -> bool:
    try:
        with connection.transaction():
            connection.execute(statement if isinstance(statement, sql.Composable) else statement.encode())
            raise psycopg.Rollback
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


def test_a_reader_searches_with_sql_alone(guide: State) -> None:
    vector = str(guide.vector(QUERY))
    with acting_as(guide, "snapdex_reader") as connection:
        for statement, values in (
            ("SELECT document, version FROM snapdex.search('handbook', %s, 1)", [vector]),
            ("SELECT document, version FROM snapdex.search('handbook', %s, k => 1, filter => '{}')", [vector]),
            ("SELECT document, version FROM snapdex.search_lexical('handbook', %s, 1)", [QUERY]),
        ):
            assert connection.execute(statement.encode(), values).fetchall() == [("prune.md", 2)]
        old = "SELECT version, snapshot FROM snapdex.search_lexical('handbook', %s, at => 1)"
        assert connection.execute(old.encode(), [QUERY]).fetchone() == (1, guide.version(1).snapshot)
        listed = connection.execute("SELECT version, active FROM snapdex.versions ORDER BY 1").fetchall()
        assert listed == [(1, False), (2, True)]
        chunks = connection.execute("SELECT DISTINCT document FROM snapdex.active_chunks ORDER BY 1").fetchall()
        assert chunks == [("b.md",), ("prune.md",)]


def test_a_reader_searches_from_python(guide: State) -> None:
    for mode in ("dense", "lexical", "hybrid"):
        with acting_as(guide, "snapdex_reader") as connection:
            found = search(connection, "handbook", QUERY, vector=guide.vector(QUERY), mode=mode)
            assert (found.version, found.hits[0].document) == (2, "prune.md")


def test_a_reader_opens_the_index_and_looks_at_its_history(guide: State) -> None:
    """All that a program needs which stays up with the rights of readers: versions by any name, what differs, a log."""
    logged = guide.execute("SELECT count(*) FROM snapdex.retrieval_log")[0][0]
    with connect_to_read(guide.url, timeout_seconds=30) as connection:
        assert connection.execute("SELECT current_user::text").fetchone() == ("snapdex_reader",)

    def connecting() -> Connection:
        return connect_to_read(guide.url, timeout_seconds=30)

    with open_index(config=guide.config, workspace=guide.root, log=True, connect=connecting) as reader:
        found = [reader.search(QUERY, at=name).version for name in (None, "v1", 2, guide.version(1).snapshot[:12])]
        assert found == [2, 1, 2, 1]
        index = get_index(reader.connection, reader.name)
        assert versions(reader.connection, index) == guide.versions()[::-1]
        changes, added, removed = diff(reader.connection, index, 1, 2)
        assert (changes.modified, changes.unchanged, added, removed) == (["b.md"], 1, 1, 1)
    assert guide.execute("SELECT count(*) FROM snapdex.retrieval_log") == [(logged + 4,)]


@pytest.mark.parametrize("role", ["snapdex_reader", "snapdex_publisher"])
def test_no_table_is_open_to_them(guide: State, role: str) -> None:
    statements = [
        sql.SQL(statement).format(sql.Identifier(*table))
        for table in relations(guide)
        for statement in ("SELECT 1 FROM {}", "DELETE FROM {}", "INSERT INTO {} DEFAULT VALUES", "TRUNCATE {}")
    ]
    with acting_as(guide, role) as connection:
        open_ = [statement.as_string() for statement in statements if not is_denied(connection, statement)]
    assert open_ == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT snapdex.move_pointer('handbook', 1, 2, gen_random_uuid(), 'publish', 'me', NULL)",
        "CREATE TABLE snapdex.mine (x int)",
        "CREATE FUNCTION snapdex.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA snapdex_99",
        "DROP VIEW snapdex.versions",
        "DROP SCHEMA snapdex_1 CASCADE",
        "ALTER FUNCTION snapdex.search_lexical SECURITY DEFINER",
        "SELECT snapdex._dense(v, NULL, 1, '{}', true) FROM (SELECT NULL::snapdex.version) x (v)",
    ],
)
def test_what_a_reader_may_not_do(guide: State, statement: str) -> None:
    with acting_as(guide, "snapdex_reader") as connection:
        assert is_denied(connection, statement)
    assert guide.index().active_version == 2


def test_a_reader_gets_no_sql_in_through_names_and_filters(guide: State) -> None:
    with acting_as(guide, "snapdex_reader") as connection:
        hostile = "handbook'; DROP SCHEMA snapdex CASCADE; --"
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT * FROM snapdex.search_lexical(%s, %s)", [hostile, QUERY])
        statement = "SELECT * FROM snapdex.search_lexical('handbook', %s, 1, jsonb_build_object('document', %s::text))"
        assert connection.execute(statement, [QUERY, "' OR true; --"]).fetchall() == []
        assert connection.execute(statement, [QUERY, r"\%_*"]).fetchall() == []


def test_a_publisher_moves_the_pointer_and_reads(guide: State) -> None:
    with acting_as(guide, "snapdex_publisher") as connection:
        connection.execute(
            "SELECT snapdex.move_pointer('handbook', 1, 2, gen_random_uuid(), 'rollback', 'night shift', 'bad prices')"
        )
        found = connection.execute("SELECT version FROM snapdex.search_lexical('handbook', %s)", [QUERY]).fetchone()
        assert found == (1,)
        assert is_denied(connection, "UPDATE snapdex.index SET active_version = 2")
        assert is_denied(connection, "DELETE FROM snapdex.operation")
    assert guide.index().active_version == 1
