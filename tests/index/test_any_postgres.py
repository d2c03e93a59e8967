"""A server that is only a URL: Postgres 16 over TCP with a password, and what is said when it cannot be used."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import pytest

from pipelines.errors import ConfigError, ServiceUnavailable
from pipelines.index import publish
from pipelines.index.db import Connection, connect
from pipelines.index.lexical import check_words
from pipelines.index.migrate import migrate
from pipelines.index.publish import moves
from tests.conftest import Databases
from tests.index.state import State
from tests.index.tcp import Proxy, free_port, tcp_server

GUIDE = {
    "rollback.md": "# Rollback\n\nRolling back moves one row.\n",
    "prune.md": "# Prune\n\nPrune deletes what no version reaches.\n",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tcp_server(tmp_path_factory.mktemp("tcp") / "server") as url:
        yield url


@pytest.fixture
def elsewhere(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """A workspace with a database of its own on that server; the first run has to migrate it."""
    name = f"test_{abs(hash(tmp_path)):x}"
    with connect(url) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    own = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    monkeypatch.setenv("SNAPDEX_DATABASE_URL", own)
    return State.make(tmp_path / "elsewhere", own)


def test_run_search_and_roll_back(elsewhere: State) -> None:
    first = elsewhere.write(GUIDE).run()
    second = elsewhere.write({"rollback.md": "# Rollback\n\nGoing back costs milliseconds.\n"}).run()
    assert (first["version"], second["version"], second["published"]) == (1, 2, True)
    for mode in ("hybrid", "dense", "lexical"):
        assert elsewhere.search("what does prune delete", mode).hits[0].document == "prune.md"
    assert "milliseconds" in elsewhere.search("going back").hits[0].text
    assert elsewhere.rollback().version == 1
    assert "one row" in elsewhere.search("rolling back").hits[0].text
    assert elsewhere.problems(1) == elsewhere.problems(2) == []
    with elsewhere.connect() as connection:
        check_words(connection)


def test_the_same_content_has_the_same_snapshot_on_both_servers(elsewhere: State, state: State) -> None:
    here = state.write(GUIDE).run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAPDEX_DATABASE_URL", elsewhere.url)
        there = elsewhere.write(GUIDE).run()
    assert here["snapshot"] == there["snapshot"]
    for mode in ("hybrid", "dense", "lexical"):
        answers = [
            [(hit.chunk, hit.score) for hit in each.search("what is deleted", mode).hits] for each in (state, elsewhere)
        ]
        assert answers[0] == answers[1]


def test_pgvector_in_a_schema_of_its_own(elsewhere: State) -> None:
    with elsewhere.connect() as connection:
        connection.execute("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
    elsewhere.write(GUIDE).run()
    for mode in ("hybrid", "dense", "lexical"):
        assert elsewhere.search("what does prune delete", mode).hits[0].document == "prune.md"
    assert elsewhere.problems() == []


# -- what is said when it cannot be used -------------------------------------------------------------------------------


def test_a_wrong_password_is_a_configuration_error_that_does_not_show_it(url: str) -> None:
    parts = urlsplit(url)
    wrong = parts._replace(netloc=f"owner:cana%25ry@127.0.0.1:{parts.port}")
    with pytest.raises(ConfigError) as caught:
        connect(urlunsplit(wrong))
    assert caught.value.exit_code == 2
    said = f"{caught.value} {caught.value.hint} {caught.value.context} {caught.value.__cause__}"
    assert "password authentication failed" in said and "cana" not in said


def test_a_port_where_nothing_listens_is_worth_another_try(url: str) -> None:
    parts = urlsplit(url)
    nobody = parts._replace(netloc=parts.netloc.replace(str(parts.port), str(free_port())))
    with pytest.raises(ServiceUnavailable) as caught:
        connect(urlunsplit(nobody))
    assert (caught.value.exit_code, caught.value.retryable) == (75, True)
    assert unquote(str(parts.password)) not in str(caught.value)


@pytest.mark.parametrize("bad", ["not a url", "mysql://host/x", "postgresql://host/x?nosuchoption=1"])
def test_what_is_not_a_url_is_a_configuration_error(bad: str) -> None:
    with pytest.raises(ConfigError):
        connect(bad)


def test_a_database_that_does_not_exist(url: str) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        connect(urlunsplit(urlsplit(url)._replace(path="/nobody-made-this")))


def test_a_server_without_pgvector(databases: Databases) -> None:
    with databases(empty=True) as url:
        with connect(url) as connection:
            name = connection.info.dbname
            connection.execute(f"ALTER DATABASE {name} SET extension_control_path = '/nonexistent'".encode())
        with connect(url) as connection, pytest.raises(ConfigError, match="no pgvector"):
            migrate(connection)
        assert schemas(url) == []


def test_a_pgvector_that_is_too_old(databases: Databases) -> None:
    with databases(empty=True) as url, connect(url) as connection:
        connection.execute(
            "CREATE EXTENSION vector; UPDATE pg_extension SET extversion = '0.8.1' WHERE extname='vector'"
        )
        with pytest.raises(ConfigError, match=r"pgvector 0\.8\.1 is too old"):
            migrate(connection)
        assert schemas(url) == []


def test_a_user_who_may_not_create_anything(elsewhere: State) -> None:
    with elsewhere.connect() as connection:
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    parts = urlsplit(elsewhere.url)
    guest = urlunsplit(parts._replace(netloc=f"guest:guest@127.0.0.1:{parts.port}"))
    with connect(guest) as connection, pytest.raises(ConfigError, match="may not do this"):
        migrate(connection)
    assert schemas(elsewhere.url) == []


def schemas(url: str) -> list[str]:
    with connect(url) as connection:
        found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'snapdex%'").fetchall()
    return [name for (name,) in found]


# -- a connection that breaks while the pointer moves ------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["cut_request", "cut_reply"])
def test_a_lost_message_moves_the_pointer_once(elsewhere: State, fault: str) -> None:
    """I2: after a lost reply the caller finds out what happened, and does not do it again."""
    elsewhere.write(GUIDE).run(publish=False)
    parts = urlsplit(elsewhere.url)
    with Proxy(int(parts.port or 0), fault, marker=b"move_pointer") as proxy:
        through = urlunsplit(parts._replace(netloc=parts.netloc.replace(str(parts.port), str(proxy.port))))
        move = State(elsewhere.root, f"{through}?sslmode=disable", elsewhere.config).publish(1)
        assert (proxy.cuts, move.version, move.epoch) == (1, 1, 1)
    with elsewhere.connect() as connection:
        assert moves(connection, elsewhere.name) == [move]
    index = elsewhere.index()
    assert (index.active_version, index.epoch) == (1, 1)


def test_the_same_operation_again_is_answered_with_its_first_outcome(elsewhere: State) -> None:
    """What a caller does who was told that the outcome is unknown: ask again with the operation id in the error."""
    elsewhere.write(GUIDE).run(publish=False)

    def nobody() -> Connection:
        raise ServiceUnavailable("the server is gone", hint="wait")

    with pytest.raises(ServiceUnavailable) as caught:
        publish(nobody, elsewhere.name, 1, epoch=0)
    operation = uuid.UUID(caught.value.context["operation"])
    first = elsewhere.publish(1, epoch=0, operation=operation)
    assert elsewhere.publish(1, epoch=0, operation=operation) == first
    assert elsewhere.index().epoch == 1
