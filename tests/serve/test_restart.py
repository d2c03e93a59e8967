"""Many ask at once; Postgres goes away under them and comes back; the service stays."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx

from pipelines.index.db import connect, connect_to_read
from pipelines.index.migrate import migrate
from pipelines.index.server import EmbeddedServer
from tests.index.state import State
from tests.serve.conftest import serving

QUERY = {"query": "when does the harbour gate open"}
THREADS = 16


def test_many_at_once_share_few_connections(book: State) -> None:
    backends = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    most = 0

    def ask(number: int) -> tuple[int, str]:
        answer = client.get("/search", params={"query": f"{QUERY['query']} {number}", "k": 1})
        return answer.status_code, answer.json()["hits"][0]["document"]

    with (
        serving(book, "serve.connections=3") as client,
        ThreadPoolExecutor(THREADS) as pool,
        book.connect() as looking,
    ):
        answers = [pool.submit(ask, number) for number in range(150)]
        while not all(each.done() for each in answers):
            most = max(most, looking.execute(backends.encode()).fetchall()[0][0])
        assert {each.result() for each in answers} == {(200, "gate.md")}
    assert 1 <= most <= 4  # one more looks after the health


def test_a_restart_of_postgres_costs_only_the_requests_while_it_is_away(own_server: EmbeddedServer) -> None:
    with connect(own_server.ensure_running()) as connection:
        migrate(connection)
    state = State.make(own_server.state.parent, own_server.url)
    state.write({"gate.md": "The harbour gate opens at six.\n"}).run()
    statuses: list[int] = []
    ended = threading.Event()

    def ask(client: httpx.Client) -> None:
        while not ended.is_set():
            answer = client.get("/search", params=QUERY)
            assert answer.json().get("version", 1) == 1 and (answer.status_code == 200 or answer.json()["hint"])
            statuses.append(answer.status_code)

    def seen(status: int) -> bool:
        return status in statuses[-THREADS:]

    connecting = partial(connect_to_read, own_server.url, timeout_seconds=30)
    with serving(state, connect=connecting) as client, ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, client) for _ in range(4)]
        try:
            until(lambda: seen(200))
            own_server.stop()
            until(lambda: seen(503))
            assert client.get("/live").status_code == 204
            until(lambda: client.get("/health").status_code == 503)
            assert client.get("/health").json()["database"] is False
            assert "snapdex_database_up 0.0" in client.get("/metrics").text
            own_server.ensure_running()
            until(lambda: set(statuses[-THREADS:]) == {200})
            until(lambda: client.get("/health").status_code == 200)
        finally:
            ended.set()
        for each in asking:
            each.result(30)
    assert set(statuses) == {200, 503}


def test_it_starts_without_postgres(own_server: EmbeddedServer) -> None:
    state = State.make(own_server.state.parent, own_server.url)
    with serving(state, connect=partial(connect_to_read, own_server.url, timeout_seconds=30)) as client:
        answer = client.get("/search", params=QUERY)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        with connect(own_server.ensure_running()) as connection:
            migrate(connection)
        state.write({"gate.md": "The harbour gate opens at six.\n"}).run()
        assert client.get("/search", params=QUERY).json()["version"] == 1


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
