"""The embedded server: it starts, survives what kills it, and lets nobody else in."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.errors import ConfigError, ServiceUnavailable
from pipelines.index.db import connect
from pipelines.index.server import SOCKET_PATH_LIMIT, EmbeddedServer, _as_server_user

START = "import sys; from pathlib import Path; from pipelines.index.server import EmbeddedServer; "
START += "print(EmbeddedServer(Path(sys.argv[1])).ensure_running())"


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path_factory.mktemp("victim") / ".snapdex")
    with connect(server.ensure_running()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    yield server
    server.stop()


@pytest.fixture
def running(victim: EmbeddedServer) -> EmbeddedServer:
    """One server for the tests that may leave it dead, since each starts it again."""
    victim.ensure_running()
    return victim


def answer(server: EmbeddedServer) -> int:
    with connect(server.ensure_running()) as connection:
        row = connection.execute("SELECT answer FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def postmaster(server: EmbeddedServer) -> int:
    return int((server.data / "postmaster.pid").read_text().split()[0])


def test_it_comes_back_after_the_postmaster_was_killed(running: EmbeddedServer) -> None:
    began = time.monotonic()
    os.kill(postmaster(running), signal.SIGKILL)
    assert answer(running) == 42
    assert time.monotonic() - began < 60


def test_it_comes_back_after_a_backend_was_killed(running: EmbeddedServer) -> None:
    """Postgres restarts itself then; whoever comes meanwhile waits for it."""
    with connect(running.url) as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:
        try:
            assert answer(running) == 42
            break
        except ServiceUnavailable:  # it had not noticed yet: what is retryable may be retried
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_stale_pid_file_and_socket_are_no_obstacle(running: EmbeddedServer) -> None:
    """As a power failure leaves them: the number may be that of another process by now."""
    lines = (running.data / "postmaster.pid").read_text().splitlines()
    assert running.stop()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (running.data / "postmaster.pid").write_text("\n".join([str(ended.pid), *lines[1:]]) + "\n")
    (running.socket_directory / ".s.PGSQL.5432").touch()
    assert answer(running) == 42


def test_it_comes_back_after_its_socket_was_removed(running: EmbeddedServer) -> None:
    """By a cleaner of temporary files, or by the server of a workspace of the same name that was deleted before."""
    (running.socket_directory / ".s.PGSQL.5432").unlink()
    before = postmaster(running)
    assert answer(running) == 42
    assert postmaster(running) != before


def test_who_has_the_number_of_a_dead_server_is_left_alone(
    own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that died with its machine: no socket, and its process id is that of another program now."""
    own_server.ensure_running()
    own_server.stop()
    with subprocess.Popen([*_as_server_user(own_server.data), "sleep", "600"], cwd="/") as other:
        (own_server.data / "postmaster.pid").write_text(f"{other.pid}\n{own_server.data}\n")
        monkeypatch.setattr("pipelines.index.server.START_SECONDS", 1.0)
        with pytest.raises(ServiceUnavailable, match="did not start"):  # Postgres itself is as careful
            own_server.ensure_running()
        assert other.poll() is None
        other.kill()
    (own_server.data / "postmaster.pid").unlink()


def test_stop_and_start_again(running: EmbeddedServer) -> None:
    assert running.is_running() and running.stop() and not running.is_running()
    assert not running.stop()  # nothing left to stop
    assert answer(running) == 42


def test_two_processes_start_it_at_once_in_an_empty_workspace(own_server: EmbeddedServer) -> None:
    command = [sys.executable, "-c", START, str(own_server.state)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=90) for process in started]
    assert said == [(f"{own_server.url}\n", "")] * 2
    assert [process.returncode for process in started] == [0, 0]
    assert own_server.is_running()


def test_its_socket_is_for_the_owner_alone(running: EmbeddedServer) -> None:
    assert stat.S_IMODE(running.socket_directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(running.data.stat().st_mode) == 0o700
    with connect(running.url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        rules = connection.execute("SELECT type, auth_method FROM pg_hba_file_rules").fetchall()
    assert rules == [("local", "peer")]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_is_refused(running: EmbeddedServer) -> None:
    """By the directory, and also if that were open, by the server."""
    command = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    command += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]  # opens any directory
    program = "import psycopg, sys; psycopg.connect(sys.argv[1])"
    done = subprocess.run([*command, sys.executable, "-c", program, running.url], capture_output=True, text=True)
    assert done.returncode != 0
    assert "Peer authentication failed" in done.stderr or "user ID 12345" in done.stderr


def test_a_path_longer_than_a_socket_may_have(tmp_path: Path) -> None:
    state = tmp_path / ("directory" * 10) / "with a space and ünïcödé's" / ".snapdex"
    server = EmbeddedServer(state)
    assert len(os.fsencode(state)) > SOCKET_PATH_LIMIT > len(os.fsencode(server.socket_directory))
    try:
        with connect(server.ensure_running()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert stat.S_IMODE(server.socket_directory.stat().st_mode) == 0o700
    finally:
        server.stop()


def test_a_path_with_a_space_a_quote_and_a_comma(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "it's here, really" / ".snapdex")
    try:
        with connect(server.ensure_running()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_a_workspace_below_a_directory_that_is_closed_to_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedServer(closed / "workspace" / ".snapdex")
    try:
        server.ensure_running()
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700 and closed.stat().st_uid == 0
    finally:
        server.stop()


def test_a_data_directory_that_is_something_else_is_left_alone(own_server: EmbeddedServer) -> None:
    own_server.data.mkdir(parents=True)
    (own_server.data / "thesis.txt").write_text("do not delete")
    with pytest.raises(ConfigError, match="is not a Postgres data directory"):
        own_server.ensure_running()
    assert (own_server.data / "thesis.txt").read_text() == "do not delete"


def test_initialising_that_was_killed_is_begun_again(own_server: EmbeddedServer) -> None:
    left = own_server.state / "postgres.new"
    left.mkdir(parents=True)
    (left / "PG_VERSION").write_text("18")
    own_server.ensure_running()
    assert own_server.is_running() and not left.exists()


def test_the_log_has_no_text_of_documents(running: EmbeddedServer) -> None:
    with connect(running.url) as connection, pytest.raises(Exception, match="does not exist"):
        connection.execute("INSERT INTO nothing VALUES (%s)", ["canary of a document"])
    assert "canary" not in running.log.read_text()
