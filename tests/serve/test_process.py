"""`snapdex serve` as a process: what it prints, what it refuses, how it ends."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.index.state import State

COMMAND = [sys.executable, "-m", "pipelines.cli", "serve"]
QUERY = "when does the harbour gate open"


def environment(state: State, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SNAPDEX_", "PG"))}
    return kept | {"SNAPDEX_HOME": str(state.root), "SNAPDEX_DATABASE_URL": state.url} | more


@contextmanager
def started(state: State, *arguments: str, **more: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The process, and the line that it prints when it is ready."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments],
        env=environment(state, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),  # a test in the background ignores it
    )
    try:
        assert process.stdout and select.select([process.stdout], [], [], 60)[0]
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


def test_it_says_where_it_is_and_ends_in_order(book: State) -> None:
    """With the rights of readers, events as JSON, and no query in what it writes."""
    with started(book, "--json", SNAPDEX_LOG="json") as (process, line):
        told = json.loads(line)
        assert told["index"] == "handbook"
        with httpx.Client(base_url=told["url"], trust_env=False) as client:
            found = client.get("/search", params={"query": QUERY}).json()
            assert found["hits"][0]["document"] == "gate.md"
            client.post("/search", json={"query": f"{QUERY} secretly", "k": 10_000})
            client.get(f"/{QUERY}")
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    events = [json.loads(line) for line in err.splitlines()]
    requests = [(each["method"], each["route"], each["status"]) for each in events if each["event"] == "request"]
    assert requests == [("GET", "/search", 200), ("POST", "/search", 422), ("GET", "other", 404)]
    assert all(each["index"] == "handbook" and each["seconds"] >= 0 for each in events if each["event"] == "request")
    assert "gate" not in err and "secretly" not in err


def test_requests_in_progress_are_answered_before_the_end(book: State) -> None:
    with started(book) as (process, line), ThreadPoolExecutor(8) as pool:
        url = line.split()[-1]
        assert line == f"handbook is served at {url}\n"
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address) as peer:
            body = json.dumps({"query": QUERY}).encode()
            about = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            peer.settimeout(30)
            peer.sendall(f"POST /search HTTP/1.1\r\n{about}\r\n\r\n".encode() + body[:5])
            asked = [
                pool.submit(httpx.get, f"{url}/search", params={"query": QUERY}, trust_env=False) for _ in range(8)
            ]
            assert {each.result(30).status_code for each in asked} == {200}
            process.send_signal(signal.SIGINT)
            peer.sendall(body[5:])
            assert peer.recv(20).startswith(b"HTTP/1.1 200")
            assert process.wait(30) == 0
        with pytest.raises(OSError):
            socket.create_connection(address)


@pytest.mark.parametrize("stream", [False, True])
def test_a_silent_model_does_not_hold_up_the_end(book: State, stream: bool) -> None:
    """A server that takes the question and says nothing; whoever asked is let go after the grace."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        model = ["generate.model=openai:small", f"generate.endpoint=http://127.0.0.1:{silent.getsockname()[1]}/v1"]
        settings = [part for each in [*model, "serve.grace_seconds=1"] for part in ("--set", each)]
        with started(book, *settings) as (process, line), ThreadPoolExecutor(1) as pool:
            asked = {"question": QUERY, "stream": stream}
            answer = pool.submit(httpx.post, f"{line.split()[-1]}/ask", json=asked, trust_env=False, timeout=60)
            silent.settimeout(30)
            peer, _ = silent.accept()
            with peer:
                assert peer.recv(4)
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                _, said = process.communicate(timeout=30)
                assert process.returncode == 0 and "Traceback" not in said
                assert 0.9 < time.monotonic() - began < 10
                if stream:  # it had begun
                    with pytest.raises(httpx.HTTPError):
                        answer.result(10)
                else:
                    assert answer.result(10).status_code == 503 and answer.result().json()["hint"]


def refused(state: State, *arguments: str, **more: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment(state, **more), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "" and len(done.stderr.splitlines()) == 2
    return done.returncode, done.stderr


def test_others_need_a_token(book: State) -> None:
    code, said = refused(book, "--host", "0.0.0.0", "--port", "0")
    assert code == 2 and "listens on loopback only" in said and "SNAPDEX_SERVE_TOKEN" in said
    with started(book, "--host", "0.0.0.0", SNAPDEX_SERVE_TOKEN="a-token-of-the-test") as (_, line):
        url = line.split()[-1].replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/versions", trust_env=False).status_code == 401
        shown = {"Authorization": "Bearer a-token-of-the-test"}
        assert httpx.get(f"{url}/versions", headers=shown, trust_env=False).status_code == 200


def test_a_port_in_use_is_named(book: State) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refused(book, "--port", str(port))
    assert code == 2 and f"port {port}" in said


def test_a_login_of_its_own(book: State) -> None:
    """A member of the group of readers, and nothing else."""
    with book.connect() as connection:
        connection.execute("CREATE ROLE visitor LOGIN IN ROLE snapdex_reader")
    url = book.url.replace("//snapdex@", "//visitor@")
    try:
        with started(book, SNAPDEX_SERVE_DATABASE_URL=url, SNAPDEX_DATABASE_URL="postgresql://nowhere.invalid/x") as (
            _,
            line,
        ):
            with httpx.Client(base_url=line.split()[-1], trust_env=False) as client:
                assert client.get("/search", params={"query": QUERY}).json()["version"] == 2
                assert client.get("/diff", params={"from": "v1"}).json()["to"] == 2
                assert len(client.get("/versions").json()) == 2
            users = "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = current_database()"
            assert ("visitor",) in book.execute(f"{users} AND pid <> pg_backend_pid()")
    finally:
        with book.connect() as connection:
            connection.execute("DROP ROLE visitor")
