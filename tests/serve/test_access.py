"""Who may ask and how much, tried by asking for more."""

import logging
import socket
import time
from collections.abc import Iterator
from functools import partial

import httpx
import psycopg
import pytest

from pipelines.errors import ConfigError
from pipelines.index.db import connect_to_read
from pipelines.serve.access import Access, Buckets, check_host, is_loopback, tokens_from_environment
from tests.index.state import State
from tests.serve.conftest import serving

TOKENS = ("first-token-of-the-test", "second-token-of-the-test")
QUERY = {"query": "when does the harbour gate open"}


@pytest.fixture(scope="module")
def closed(book: State) -> Iterator[httpx.Client]:
    """A service that asks for a token; the client shows the first."""
    with serving(book, tokens=TOKENS) as client:
        yield client


def shown(client: httpx.Client, path: str, authorization: str | bytes | None) -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return httpx.get(f"{client.base_url}{path}", headers=headers, params=QUERY, trust_env=False)


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_any_of_the_tokens_opens(closed: httpx.Client) -> None:
    for token in TOKENS:
        assert shown(closed, "/search", f"Bearer {token}").json()["version"] == 2
        assert shown(closed, "/search", f"bearer  {token}").status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKENS[0][:-1]}",
        f"Bearer {TOKENS[0]}x",
        f"Bearer {','.join(TOKENS)}",
        f"Basic {TOKENS[0]}",
        TOKENS[0],
        f"Bearer {TOKENS[0]}".upper(),
        b"Bearer \xff\xfe",
    ],
)
def test_nothing_else_opens(closed: httpx.Client, authorization: str | bytes | None) -> None:
    for path in ("/search", "/versions", "/diff", "/metrics", "/openapi.json", "/nowhere"):
        answer = shown(closed, path, authorization)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert "hits" not in answer.text and TOKENS[0] not in answer.text
    body = httpx.post(f"{closed.base_url}/search", json=QUERY, trust_env=False)
    assert body.status_code == 401


def test_health_and_the_empty_page_need_no_token(closed: httpx.Client) -> None:
    assert shown(closed, "/health", None).json()["version"] == 2
    assert shown(closed, "/live", None).status_code == 204
    page = shown(closed, "/", None)
    assert page.status_code == 200 and "gate" not in page.text


def test_tokens_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, tokens in (("", []), (" , ,", []), ("one", ["one"]), (" one,two ,", ["one", "two"])):
        monkeypatch.setenv("SNAPDEX_SERVE_TOKEN", text)
        assert tokens_from_environment() == tokens
    for text in ("white space", "schlüssel", "line\nbreak"):
        monkeypatch.setenv("SNAPDEX_SERVE_TOKEN", f"one,{text}")
        with pytest.raises(ConfigError) as caught:
            tokens_from_environment()
        assert text not in str(caught.value)
    assert repr(Access.of(["secret-token"])).count("secret") == 0


def test_without_a_token_the_service_is_for_this_machine() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LocalHost"):
        assert is_loopback(host)
        check_host(host, [])
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org", ""):
        assert not is_loopback(host)
        check_host(host, ["token"])
        with pytest.raises(ConfigError, match="loopback only"):
            check_host(host, [])


def test_a_name_that_was_bent_to_this_machine_is_refused(client: httpx.Client, closed: httpx.Client) -> None:
    for host in ("evil.example", "evil.example:8321", "127.0.0.1.evil.example", "", "[::1].evil.example"):
        assert client.get("/search", params=QUERY, headers={"Host": host}).status_code == 403
    for host in ("localhost", "127.0.0.1:9", "[::1]:9"):
        assert client.get("/search", params=QUERY, headers={"Host": host}).status_code == 200
    assert closed.get("/search", params=QUERY, headers={"Host": "search.example"}).status_code == 200


def test_other_sites_may_not_read(client: httpx.Client) -> None:
    asked = {"Origin": "https://evil.example"}
    answer = client.get("/search", params=QUERY, headers=asked)
    assert not [name for name in answer.headers if name.startswith("access-control")]
    asking = {**asked, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    assert client.options("/search", headers=asking).status_code == 405


# -- how often, and how much -------------------------------------------------------------------------------------------


def test_a_bucket_fills_again() -> None:
    now = [100.0]
    buckets = Buckets(3, lambda: now[0])
    assert [buckets.wait_seconds("a") for _ in range(4)] == [0, 0, 0, 20]
    assert buckets.wait_seconds("b") == 0
    now[0] += 15
    assert buckets.wait_seconds("a") == pytest.approx(5)
    now[0] += 5
    assert [buckets.wait_seconds("a") for _ in range(2)] == [0, 20]
    now[0] += 10_000
    assert [buckets.wait_seconds("a") for _ in range(4)] == [0, 0, 0, 20]
    assert {Buckets(0).wait_seconds("a") for _ in range(1000)} == {0}


def test_buckets_of_many_addresses_stay_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.serve.access.REMEMBERED", 100)
    buckets = Buckets(1)
    for number in range(1000):
        buckets.wait_seconds(str(number))
    assert len(buckets._left) == 100


def test_who_asks_too_often_is_told_when_to_come_back(book: State) -> None:
    with serving(book, "serve.requests_per_minute=3", tokens=TOKENS) as client:
        answers = [client.get("/search", params=QUERY) for _ in range(5)]
        assert [each.status_code for each in answers] == [200, 200, 200, 429, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
        assert "3 requests in a minute" in answers[-1].json()["error"]
        assert shown(client, "/search", f"Bearer {TOKENS[1]}").status_code == 200
        assert [shown(client, "/versions", "Bearer guess").status_code for _ in range(5)] == [401, 401, 401, 429, 429]
        assert client.get("/health").status_code == 200


def test_a_large_body_is_not_read(book: State) -> None:
    with serving(book, "serve.most_body_kib=4") as client:
        assert client.post("/search", json=QUERY | {"filter": {"x": "y" * 3000}}).status_code == 200
        assert client.post("/search", json=QUERY | {"filter": {"x": "y" * 5000}}).status_code == 413

        def endless() -> Iterator[bytes]:
            for _ in range(1000):
                yield b" " * 4096

        answer = client.post("/search", content=endless(), headers={"Content-Type": "application/json"})
        assert (answer.status_code, "4 KiB" in answer.json()["error"]) == (413, True)


def test_an_answer_does_not_wait_for_acknowledgements(client: httpx.Client) -> None:
    """Head and body are two packets; held back, the second would come 40 ms after the first."""
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        client.get("/openapi.json")
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.03


def test_a_long_url_ends_early(client: httpx.Client) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port)) as peer:
        peer.settimeout(10)
        peer.sendall(b"GET /search?query=" + b"x" * 100_000)
        assert peer.recv(100).startswith(b"HTTP/1.1 400")
    assert client.get("/search", params=QUERY).status_code == 200


def test_a_request_that_does_not_end_is_hung_up_on(book: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.serve.guard.BODY_SECONDS", 0.2)
    with serving(book) as client, socket.create_connection((client.base_url.host, client.base_url.port)) as peer:
        peer.settimeout(10)
        peer.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert peer.recv(100).startswith(b"HTTP/1.1 408")


def test_more_than_may_wait_are_refused(book: State) -> None:
    with serving(book, "serve.connections=1", "serve.waiting=0") as client:
        with socket.create_connection((client.base_url.host, client.base_url.port)) as peer:
            peer.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            answer = client.get("/search", params=QUERY)
            while answer.status_code == 200:  # until the half request has arrived
                answer = client.get("/search", params=QUERY)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert client.get("/health").status_code == 200
        while client.get("/search", params=QUERY).status_code != 200:  # who hangs up makes room
            pass


# -- what its connections may do ---------------------------------------------------------------------------------------

CHANGES = (
    "SELECT snapdex.move_pointer('handbook', 1, 2, gen_random_uuid(), 'publish', 'me', NULL)",
    "UPDATE snapdex.index SET active_version = 1",
    "DELETE FROM snapdex.version",
    "INSERT INTO snapdex.tag VALUES (1, 'x', 1)",
    "CREATE TABLE snapdex.mine (x int)",
    "DROP SCHEMA snapdex_1 CASCADE",
)


def test_connections_of_the_service_read_and_no_more(book: State) -> None:
    with connect_to_read(book.url, timeout_seconds=30) as connection:
        for statement in (*CHANGES, "SELECT * FROM snapdex.retrieval_log", "SELECT * FROM snapdex_1.chunk"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
        assert connection.execute("SHOW statement_timeout").fetchone() == ("30s",)
    assert book.index().active_version == 2


def test_a_login_that_cannot_act_as_a_reader_writes_nothing(book: State, caplog: pytest.LogCaptureFixture) -> None:
    """It has rights of its own, as the owner has on a server without the group roles: its transactions only read."""
    with book.connect() as connection:
        connection.execute("CREATE ROLE librarian LOGIN IN ROLE snapdex_writer")
        connection.execute("GRANT USAGE ON SCHEMA snapdex TO librarian")
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA snapdex TO librarian")
        connection.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA snapdex TO librarian")
    url = book.url.replace("//snapdex@", "//librarian@")
    try:
        with connect_to_read(url, timeout_seconds=30) as connection:
            assert connection.execute("SELECT current_user::text").fetchone() == ("librarian",)
            for statement in CHANGES[:4]:
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    connection.execute(statement.encode())
        connecting = partial(connect_to_read, url, timeout_seconds=30)
        with caplog.at_level(logging.WARNING), serving(book, connect=connecting) as client:
            assert client.get("/search", params=QUERY).json()["version"] == 2
        assert "searches of handbook are not logged" in caplog.text
    finally:
        with book.connect() as connection:
            connection.execute("DROP OWNED BY librarian; DROP ROLE librarian")


def test_searches_are_logged_without_the_right_to_read_the_log(book: State) -> None:
    count = "SELECT count(*) FROM snapdex.retrieval_log"
    before = book.execute(count)[0][0]
    with serving(book) as client:
        client.get("/search", params=QUERY)
        client.get("/search", params=QUERY)
    assert book.execute(count) == [(before + 2,)]
    with serving(book, "log.share=0") as client:
        client.get("/search", params=QUERY)
    assert book.execute(count) == [(before + 2,)]


def test_a_statement_that_takes_too_long_is_ended(book: State) -> None:
    with connect_to_read(book.url, timeout_seconds=0.05) as connection, pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(5)")
