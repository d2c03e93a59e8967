"""Readers of a program that stays up: few, shared by its threads, and back after whatever Postgres went through."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.errors import NotFoundError, ServiceUnavailable
from pipelines.index import Version
from pipelines.index.db import connect
from pipelines.index.server import EmbeddedServer
from pipelines.readers import Readers
from tests.index.state import State

QUERY = "when does the gate open"
THREADS = 8


@pytest.fixture
def book(state: State) -> State:
    state.write({"gate.md": "The gate opens at six.\n", "tea.md": "Tea is at four.\n"}).run()
    return state


@pytest.fixture
def readers(book: State) -> Iterator[Readers]:
    with Readers(book.config, book.workspace, size=2) as readers:
        yield readers


def backend(readers: Readers) -> int:
    with readers.reader() as reader:
        return reader.connection.info.backend_pid


def kill_backends(state: State) -> int:
    """End every other connection to the database, as an administrator or a failover does; returns how many."""
    with state.connect() as connection:
        killed = connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchall()
    return len(killed)


def test_threads_share_few_connections_and_never_at_the_same_time(book: State) -> None:
    lock, in_use, backends = threading.Lock(), set[int](), set[int]()

    def ask(number: int) -> str:
        with readers.reader() as reader:
            pid = reader.connection.info.backend_pid
            with lock:
                assert pid not in in_use
                in_use.add(pid)
                backends.add(pid)
            hit = reader.search(f"{QUERY} {number}", k=1).hits[0]
            with lock:
                in_use.remove(pid)
        return hit.document

    with Readers(book.config, book.workspace, size=3) as readers, ThreadPoolExecutor(THREADS) as pool:
        assert set(pool.map(ask, range(60))) == {"gate.md"}
    assert 1 < len(backends) <= 3


def test_connections_that_were_killed_between_two_calls_are_replaced_unseen(book: State, readers: Readers) -> None:
    with readers.reader() as one, readers.reader() as other:
        assert one.search(QUERY).hits and other.search(QUERY).hits
    assert kill_backends(book) == 2
    with readers.reader() as one, readers.reader() as other:
        assert one.search(QUERY).hits and other.search(QUERY).hits


def test_a_connection_that_is_killed_in_use_costs_that_call(book: State, readers: Readers) -> None:
    def ask() -> None:
        with readers.reader() as reader:
            assert kill_backends(book) == 1
            reader.search(QUERY)

    with pytest.raises(ServiceUnavailable, match="connection to Postgres broke"):
        ask()
    with readers.reader() as reader:
        assert reader.search(QUERY).hits[0].document == "gate.md"


def test_what_postgres_says_is_translated_for_any_statement(book: State, readers: Readers) -> None:
    def ask() -> None:
        with readers.reader() as reader:
            assert kill_backends(book) == 1
            reader.connection.execute("SELECT 1")

    with pytest.raises(ServiceUnavailable):
        ask()


def test_kills_amid_concurrent_searches_cost_calls_and_no_connection(book: State) -> None:
    """Whoever was cut off is told so; afterwards all of the connections can be had again."""
    ended = threading.Event()

    def ask(number: int) -> str:
        try:
            with readers.reader() as reader:
                return reader.search(f"{QUERY} {number}", k=1).hits[0].document
        except ServiceUnavailable:
            return "unavailable"

    def kill() -> None:
        while not ended.wait(0.05):
            kill_backends(book)

    with Readers(book.config, book.workspace, size=3) as readers, ThreadPoolExecutor(THREADS) as pool:
        killer = threading.Thread(target=kill)
        killer.start()
        try:
            answers = list(pool.map(ask, range(200)))
        finally:
            ended.set()
            killer.join()
        assert {"gate.md"} <= set(answers) <= {"gate.md", "unavailable"}
        with readers.reader() as one, readers.reader() as two, readers.reader() as three:
            assert all(reader.search(QUERY).hits for reader in (one, two, three))


def test_who_waits_too_long_for_a_reader_is_told(book: State) -> None:
    with Readers(book.config, book.workspace, size=1, wait_seconds=0.05) as readers:
        with readers.reader(), pytest.raises(ServiceUnavailable, match=r"all 1 connections .* busy for 0\.05 s"):
            readers.reader().__enter__()
        assert backend(readers)


def test_who_waits_gets_the_reader_that_is_given_back(book: State) -> None:
    with Readers(book.config, book.workspace, size=1) as readers, ThreadPoolExecutor(1) as pool:
        with readers.reader() as reader:
            waiting = pool.submit(backend, readers)
            pid = reader.connection.info.backend_pid
        assert waiting.result(10) == pid


def test_an_error_of_the_caller_keeps_the_connection(readers: Readers) -> None:
    before = backend(readers)

    def ask() -> None:
        with readers.reader() as reader:
            reader.search(QUERY, at="v9")

    with pytest.raises(NotFoundError, match="no version v9"):
        ask()
    assert backend(readers) == before


def test_answers_are_remembered_from_call_to_call(book: State) -> None:
    embedded = []

    def encode(query: str, version: Version) -> list[float]:
        embedded.append(query)
        return book.vector(query)

    with Readers(book.config, book.workspace, encode=encode) as readers:
        for _ in range(3):
            with readers.reader() as reader:
                assert reader.search(QUERY).version == 1
    assert embedded == [QUERY]


def test_searches_are_logged_as_the_parameters_say(book: State, readers: Readers) -> None:
    with readers.reader() as reader:
        reader.search(QUERY)
    assert book.execute("SELECT count(*) FROM snapdex.retrieval_log") == [(1,)]


def test_closing_waits_for_nobody_and_leaves_no_connection(book: State) -> None:
    readers = Readers(book.config, book.workspace)
    with readers.reader() as used:
        with readers.reader() as idle:
            pass
        readers.close()
        assert (used.connection.closed, idle.connection.closed) == (False, True)
        assert used.search(QUERY).hits
    assert used.connection.closed
    with pytest.raises(ServiceUnavailable, match="ending"):
        readers.reader().__enter__()


def test_a_restart_of_postgres_costs_only_the_calls_while_it_is_away(
    own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL is set, so that nobody but the test starts the server again."""
    monkeypatch.setenv("SNAPDEX_DATABASE_URL", own_server.ensure_running())
    with connect(own_server.url) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    state = State.make(own_server.state.parent / "book", own_server.url)
    state.write({"gate.md": "The gate opens at six.\n"}).run()
    with Readers(state.config, state.workspace) as readers:
        before = backend(readers)
        assert own_server.stop()
        for _ in range(2):
            with pytest.raises(ServiceUnavailable, match="does not answer"):
                readers.reader().__enter__()
        own_server.ensure_running()
        with readers.reader() as reader:
            assert reader.search(QUERY).hits[0].document == "gate.md"
        assert backend(readers) != before
