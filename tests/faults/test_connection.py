"""A network that loses requests, replies and patience, and a server that is full or busy."""

import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from pipelines.cli.__main__ import run as command_line
from pipelines.errors import ConflictError, ServiceUnavailable, SnapdexError
from pipelines.index import db
from pipelines.index.catalog import set_tag
from pipelines.index.db import Connection, connect, translated_errors
from tests.faults.bounds import Few, say, seed, some
from tests.faults.driver import Ending, perform, said_so
from tests.faults.invariants import Witness, check_balance, contents
from tests.faults.model import Model
from tests.faults.test_failpoints import (
    EDITED,
    GUIDE,
    MOVED,
    Scenario,
    after_runs,
    forgotten,
    tag_in_git,
    wait_for_the_backend,
    write,
)
from tests.index.state import State
from tests.index.tcp import tcp_server

CUTS = 1  # of each kind in each longer scenario, beside those at commits, in `make test`; in a soak at every message

ONE = Model().run(GUIDE)[-1]
TWO = ONE.run(EDITED)[-1]
THREE = TWO.run(MOVED)[-1]
SCENARIOS = {
    "run": Scenario("run", (), after_runs(GUIDE, then=write(EDITED)), [ONE, *ONE.run(EDITED)]),
    "publish": Scenario("publish", (1,), after_runs(GUIDE, EDITED), [TWO, *TWO.publish(1)], again=5),
    "rollback": Scenario("rollback", ("v1",), after_runs(GUIDE, EDITED), [TWO, *TWO.rollback(1)], again=5),
    "forget": Scenario("forget", (2,), after_runs(GUIDE, EDITED, MOVED), [THREE, *THREE.forget(2)]),
    "prune": Scenario("prune", (), after_runs(GUIDE, EDITED, MOVED, then=forgotten), THREE.forget(2)),
}


@pytest.fixture(scope="module")
def tcp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tcp_server(tmp_path_factory.mktemp("tcp") / "server") as url:
        yield url


# -- a proxy -----------------------------------------------------------------------------------------------------------


class Line:
    """A line to the server: `fault` happens to the n-th message (what arrives in one piece) of all clients together.

    - `cut_request`: it is not passed on, and the connection breaks.
    - `cut_reply`: it is passed on and answered, and the connection breaks with the answer in hand.
    - `stall`: from then on nothing is passed on in either direction, and nothing breaks.
    """

    def __init__(self, url: str, fault: str = "", at: int = 0, marker: bytes = b"") -> None:
        self.fault, self.at, self.marker = fault, at, marker
        self.messages: list[bytes] = []
        self.happened = threading.Event()
        self._parts = urlsplit(url)
        self._lock = threading.Lock()
        self._stalled = threading.Event()
        self._let_go = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        port = self._listener.getsockname()[1]
        there = self._parts.netloc.replace(str(self._parts.port), str(port))
        return f"{urlunsplit(self._parts._replace(netloc=there))}?sslmode=disable"

    def __enter__(self) -> "Line":
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", int(self._parts.port or 0)))
            self._spawn(self._serve, client, server)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        broken = threading.Event()
        answers = threading.Thread(target=self._answer, args=(server, client, broken))
        answers.start()
        with client, server, suppress(OSError):
            while data := client.recv(1 << 20):
                if self._is_the_one(data):
                    if self.fault == "stall":
                        self._stalled.set()
                        self.happened.set()
                    else:
                        broken.set()
                        self.happened.set()
                        if self.fault == "cut_request":
                            break
                if self._stalled.is_set():
                    self._let_go.wait()
                    break
                server.sendall(data)
            for each in (server, *([client] if broken.is_set() and self.fault == "cut_request" else [])):
                with suppress(OSError):
                    each.shutdown(
                        socket.SHUT_RDWR if broken.is_set() and self.fault == "cut_request" else socket.SHUT_WR
                    )
            answers.join(10)

    def _is_the_one(self, data: bytes) -> bool:
        with self._lock:
            self.messages.append(data)
            if self.happened.is_set() or not self.fault:
                return False
            return self.marker in data if self.marker else len(self.messages) == self.at

    def _answer(self, server: socket.socket, client: socket.socket, broken: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 20):
                if broken.is_set():
                    break
                if self._stalled.is_set():
                    self._let_go.wait()
                    break
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def database_on(url: str, like: str = "template1") -> Iterator[str]:
    name = f"test_{os.urandom(6).hex()}"
    with connect(url) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {like} STRATEGY wal_log".encode())
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        with connect(url) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def there(tcp: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[State | None], State]]:
    """`there(None)`: a workspace with a database on the TCP server; `there(state)`: that one once more."""
    made, few = 0, Few()

    def make(like: State | None) -> State:
        nonlocal made
        made += 1
        template = urlsplit(like.url).path[1:] if like else "template1"
        url = few.enter(database_on(tcp, template))
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        root = tmp_path / f"workspace-{made}"
        return like.copy(root, url) if like else State.make(root, url)

    yield make
    few.close()


def through(line: Line, state: State, scenario: Scenario) -> Ending:
    """The command, over this line."""
    far = State(state.root, line.url, state.config)
    return perform(far, scenario.operation, *scenario.arguments)


# -- cuts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_cut_at_any_message(name: str, there: Callable[[State | None], State]) -> None:
    """Before the server has it, or after it has answered: the program says so (75) or has found out what happened, and
    the next one ends where an undisturbed one ends."""
    scenario = SCENARIOS[name]
    prepared = there(None)
    scenario.prepare(prepared)
    undisturbed = there(prepared)
    with Line(undisturbed.url) as line:
        ending = through(line, undisturbed, scenario)
        assert ending.code == 0, ending.output
        total = len(line.messages)
    Witness(undisturbed).check(scenario.steps[-1])
    expected = contents(undisturbed)
    choose = random.Random(seed(20260705))
    commits = [at for at, data in enumerate(line.messages, 1) if b"COMMIT" in data or b"move_pointer" in data][-2:]
    cuts = CUTS if name in ("run", "forget", "prune") else 0
    places = sorted({*choose.sample(range(1, total + 1), cuts), *commits})
    ends = Counter[str]()
    faults = ("cut_request", "cut_reply")
    every = [(fault, at) for fault in faults for at in range(1, total + 1)]
    for fault, at in some(every, [(fault, at) for fault in faults for at in places], soak_share=0.03):
        state = there(prepared)
        where = f"{name}: {fault} at message {at} of {total}"
        with Line(state.url, fault, at) as line:
            ending = through(line, state, scenario)
            happened = line.happened.is_set()
            said = line.messages[at - 1][:80] if happened else b""
        try:
            assert ending.code == 0 or said_so(ending), f"it ended with {ending.code}: {ending.output}"
            wait_for_the_backend(state)
            witness = Witness(state)
            left = witness.check(*(scenario.steps if ending.code else scenario.steps[-1:]))
            again = perform(state, scenario.operation, *scenario.arguments)
            assert again.code in ((0, scenario.again) if left == scenario.steps[-1] else (0,)), again.output
            witness.check(scenario.steps[-1])
            if name != "prune":
                check_balance(state)
            assert contents(state) == expected
        except AssertionError as error:
            raise AssertionError(f"{where} {said!r}: {error}") from error
        ends["unharmed" if ending.code == 0 else "said so"] += 1
    say(f"{name}: {ends.total()} cuts {dict(ends)} among {total} messages")


@pytest.mark.parametrize(
    "marker", [b"encode(r.content_sha256, 'hex'), r.key FROM membership", b"AS times FROM membership"]
)
def test_a_cut_where_a_run_only_looks(marker: bytes, there: Callable[[State | None], State]) -> None:
    """Before it has built anything, to forecast; and after, to count."""
    state = there(None)
    after_runs(GUIDE, then=write(EDITED))(state)
    with Line(state.url, "cut_request", marker=marker) as line:
        ending = through(line, state, SCENARIOS["run"])
        assert line.happened.is_set()
    assert (ending.code, "Traceback" in ending.output) == (75, False)


LOOKING = (  # command lines that change nothing
    "log",
    "log --moves",
    "show --documents",
    "diff 1 2",
    "search rollback --mode dense",
    "search rollback --mode lexical",
    "search rollback --at v1",
    "eval --golden {golden}",
    "gate 1 2 --golden {golden}",
    "golden check {golden}",
    "usage",
    "verify --deep",
    "doctor",
    "db start",
    "quarantine list",
    "documents active {golden}.d --force",
    "plan --allow-mass-delete",
    "forget --dry-run --keep-last 0",
    "prune --dry-run",
    "erase --dry-run gate.md",
)
CHANGING = ("pin 1", "unpin 1", "tag now 1", "untag release", "restore v1", "erase --yes gate.md")


# A cursor on the server cannot be closed over a line that is cut, and psycopg remarks on it when it is collected.
@pytest.mark.filterwarnings("ignore:Exception ignored.*ServerCursor:pytest.PytestUnraisableExceptionWarning")
def test_a_cut_in_any_command(
    there: Callable[[State | None], State], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """None ends with a traceback. A command that was cut may be done again, and then it is done."""
    prepared = there(None)
    after_runs(GUIDE, then=lambda state: tag_in_git(state, 1))(prepared)
    after_runs(EDITED)(prepared)
    golden = prepared.root / "golden.jsonl"
    golden.write_text('{"question": "How does it go back?", "documents": ["rollback.md"]}\n', "utf-8")
    with prepared.connect() as connection:
        set_tag(connection, prepared.index(), "release", 1)
    choose = random.Random(seed(20260706))

    def call(state: State, url: str) -> int:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        return command_line([*line.format(golden=golden).split(), "--home", str(state.root)])

    for line in (*LOOKING, *CHANGING):
        copy = there if line in CHANGING else lambda state: state
        state = copy(prepared)
        with Line(state.url) as through_it:
            assert call(state, through_it.url) == 0, f"{line}: {capsys.readouterr()}"
        total = len(through_it.messages)
        every = [(fault, at) for fault in ("cut_request", "cut_reply") for at in range(1, total + 1)]
        for fault, at in some(every, every if line == "doctor" else choose.sample(every, 2), soak_share=0.001):
            state = copy(prepared)
            with Line(state.url, fault, at) as through_it:
                try:
                    code = call(state, through_it.url)
                except Exception as error:
                    raise AssertionError(f"{line}: {fault} at message {at} of {total}") from error
            said = capsys.readouterr()
            assert code in (0, 75) or (line == "doctor" and code == 2), f"{line}: {fault} at {at}: {said}"
            if line in CHANGING:
                assert call(state, state.url) in (0, 6 if line.startswith("untag") else 0), capsys.readouterr()


def test_a_lost_reply_to_the_commit_of_a_seal_makes_one_version(there: Callable[[State | None], State]) -> None:
    state = there(None)
    state.become(GUIDE)
    state.run()
    state.become(EDITED)
    with Line(there(state).url) as line:
        assert through(line, State(state.root, line.url, state.config), SCENARIOS["run"]).code == 0
    sealed = next(at for at, data in enumerate(line.messages, 1) if b"INSERT INTO snapdex.version" in data)
    commit = next(at for at, data in enumerate(line.messages, 1) if at > sealed and b"COMMIT" in data)
    far = there(None)
    far.become(GUIDE)
    far.run()
    far.become(EDITED)
    with Line(far.url, "cut_reply", commit) as line:
        ending = through(line, far, SCENARIOS["run"])
    assert ending.code == 75, ending.output
    assert b"COMMIT" in line.messages[commit - 1]
    assert [version.number for version in far.versions()] == [1, 2]
    assert perform(far, "run").code == 0
    Witness(far).check(TWO)


# -- a line on which nothing arrives any more --------------------------------------------------------------------------


def test_a_server_that_accepts_and_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(ServiceUnavailable) as caught:
            connect(f"postgresql://owner@127.0.0.1:{silent.getsockname()[1]}/postgres")
        assert time.monotonic() - began < 10
    assert caught.value.exit_code == 75


def test_the_kernel_gives_up_on_a_peer_that_is_gone(tcp: str) -> None:
    """No packet is acknowledged: 60 s after the last one that was, whether something is being sent or waited for."""
    with connect(tcp) as connection, socket.socket(fileno=os.dup(connection.fileno())) as line:
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle, pause, count = (
            line.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + pause * count <= 60


def test_a_builder_that_fell_silent_does_not_hold_the_lock_for_hours(there: Callable[[State | None], State]) -> None:
    """Its machine lost power, or its line, while it held the index row's lock: the server notices after a minute."""
    with connect(there(None).url) as connection:
        settings = dict(connection.execute("SELECT name, setting::int FROM pg_settings WHERE vartype = 'integer'"))
    alive = settings["tcp_keepalives_idle"] + settings["tcp_keepalives_interval"] * settings["tcp_keepalives_count"]
    assert 0 < alive <= 60
    for name in ("tcp_user_timeout", "idle_in_transaction_session_timeout"):
        assert 0 < settings[name] <= 60_000


@contextmanager
def a_seal_that_fell_silent(state: State, options: str = "") -> Iterator[Connection]:
    """Somebody in between acknowledges and passes nothing on, in the middle of a seal, which then holds the lock.

    The block makes the lock free; afterwards nothing of that seal is there, and the next run makes its version.
    """
    after_runs(GUIDE, then=write(EDITED))(state)
    endings: list[Ending] = []
    with Line(state.url, "stall", marker=b"INSERT INTO snapdex.version") as line:
        far = State(state.root, line.url + options, state.config)
        runner = threading.Thread(target=lambda: endings.append(perform(far, "run")))
        runner.start()
        assert line.happened.wait(60)
        with state.connect() as connection:
            connection.execute("SET lock_timeout = '300ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                connection.execute("SELECT 1 FROM snapdex.index FOR NO KEY UPDATE")
            yield connection
            connection.execute("SELECT 1 FROM snapdex.index FOR NO KEY UPDATE")
        Witness(state).check(ONE)
    runner.join()
    assert endings[0].code == 75, endings[0].output
    assert perform(state, "run").code == 0
    Witness(state).check(TWO)


def test_a_builder_that_fell_silent_loses_its_lock(there: Callable[[State | None], State]) -> None:
    """The URL says how long to wait for the rest of a transaction."""
    options = "&options=-c%20idle_in_transaction_session_timeout%3D1s"
    with a_seal_that_fell_silent(there(None), options) as connection:
        connection.execute("SET lock_timeout = '10s'")


def test_a_transaction_that_paused_too_long_is_a_broken_connection(there: Callable[[State | None], State]) -> None:
    url = f"{there(None).url}?options=-c%20idle_in_transaction_session_timeout%3D100ms"
    with (
        pytest.raises(ServiceUnavailable),
        connect(url) as connection,
        translated_errors(),
        connection.transaction(),
    ):
        time.sleep(0.5)
        connection.execute("SELECT 1")


class Pooler(Line):
    """Refuses settings that it does not keep track of, as PgBouncer does, and passes everything else on."""

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        if b"tcp_keepalives_idle" in client.recv(1 << 16, socket.MSG_PEEK):
            body = b"SFATAL\0C08P01\0Munsupported startup parameter in options: tcp_keepalives_idle\0\0"
            with client, server:
                client.sendall(b"E" + (len(body) + 4).to_bytes(4, "big") + body)
        else:
            super()._serve(client, server)


def test_a_pooler_that_refuses_these_settings_is_used_without_them(there: Callable[[State | None], State]) -> None:
    with Pooler(there(None).url) as pooler, connect(pooler.url) as connection:
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)


def test_a_builder_that_fell_silent_can_be_ended(there: Callable[[State | None], State]) -> None:
    """Without waiting: its backend is ended, and others go on at once."""
    with a_seal_that_fell_silent(there(None)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE state = 'idle in transaction' AND datname = current_database()"
        )


# -- a server that is full, or busy ------------------------------------------------------------------------------------


def test_no_connection_is_left(there: Callable[[State | None], State]) -> None:
    state = there(None)
    state.become(GUIDE)
    state.run()
    state.become(EDITED)
    with ExitStack() as stack:
        with pytest.raises(ServiceUnavailable, match="too many clients"):
            for _ in range(1000):
                stack.enter_context(connect(state.url))
        for operation in ("run", "prune", "rollback"):
            ending = perform(state, operation)
            assert (ending.code, "too many clients" in ending.output) == (75, True), ending.output
    assert perform(state, "run").code == 0
    Witness(state).check(TWO)


def test_the_connections_run_out_in_the_middle(there: Callable[[State | None], State]) -> None:
    """A limit that lets the first ones through."""
    state = there(None)
    state.become(GUIDE)
    state.run()
    name = urlsplit(state.url).path[1:]
    with state.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS clerk")
        connection.execute("CREATE ROLE clerk LOGIN SUPERUSER PASSWORD 'clerk'")
        connection.execute("ALTER ROLE clerk NOSUPERUSER CONNECTION LIMIT 1")
        connection.execute(f"GRANT ALL ON DATABASE {name} TO clerk; GRANT owner TO clerk".encode())
    parts = urlsplit(state.url)
    far = State(state.root, urlunsplit(parts._replace(netloc=f"clerk:clerk@127.0.0.1:{parts.port}")), state.config)
    state.become(EDITED)
    with connect(far.url):
        assert perform(far, "run").code == 75
    assert perform(state, "run").code == 0
    Witness(state).check(TWO)


@pytest.mark.parametrize("operation", ["run", "publish", "forget", "prune"])
def test_a_lock_that_is_not_given_in_time(operation: str, there: Callable[[State | None], State]) -> None:
    """`lock_timeout` of the server, somebody else holds the index row: busy (5), nothing changed, again succeeds."""
    state = there(None)
    after_runs(GUIDE, EDITED, then=write(MOVED))(state)
    arguments = {"publish": (1,)}.get(operation, ())
    with connect(state.url) as other:
        other.execute(f"ALTER DATABASE {urlsplit(state.url).path[1:]} SET lock_timeout = '200ms'".encode())
        with other.transaction():
            other.execute("SELECT 1 FROM snapdex.index FOR NO KEY UPDATE")
            ending = perform(state, operation, *arguments)
    assert ending.code == ConflictError.exit_code, ending.output
    assert "busy" in ending.output
    witness = Witness(state)
    witness.check(TWO)
    assert perform(state, operation, *arguments).code == 0
    witness.check({"run": THREE, "publish": TWO.publish(1)[-1], "forget": TWO.forget()[-1], "prune": TWO}[operation])


@pytest.mark.parametrize(
    ("state", "code"),
    [
        *dict.fromkeys(["40001", "40P01", "55P03", "57014"], 5).items(),  # busy: again, at once
        *dict.fromkeys(["53100", "53200", "53300", "53400"], 75).items(),  # full: again, later
        *dict.fromkeys(["57P01", "08006", "25P03"], 75).items(),  # the connection is gone
        *{"42501": 2, "54000": 3, "SX002": 3, "SX005": 5, "SX006": 6}.items(),
    ],
)
def test_what_postgres_says_has_its_exit_code(state: str, code: int, tcp: str) -> None:
    with connect(tcp) as connection, pytest.raises(SnapdexError) as caught, translated_errors():
        connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'of a test' USING ERRCODE = '{state}'; END $$".encode())
    assert (caught.value.exit_code, caught.value.retryable) == (code, code == 75)
    assert "of a test" in str(caught.value)
    assert caught.value.hint


def test_a_build_that_lost_a_deadlock_goes_on(there: Callable[[State | None], State]) -> None:
    """Somebody inserts the rows of a build in another order than builders do, and the database ends the build's try."""
    state = there(None)
    state.become(GUIDE)
    state.run(publish=False)
    index = state.index()
    keys = [bytes(key) for (key,) in state.execute("SELECT key FROM chunk ORDER BY key")]
    state.execute("DELETE FROM snapdex.version; UPDATE snapdex.index SET last_version = 0; DELETE FROM membership")
    for table in ("revision", "occurrence", "chunk", "lexical", "vectors_1", "document_frequency"):
        state.execute(f"DELETE FROM {table}")
    insert = f"INSERT INTO {index.schema}.chunk (key, context, text, tokens) VALUES (%s, '', '', 0)"
    endings: list[Ending] = []
    build = threading.Thread(target=lambda: endings.append(perform(state, "run")))
    with connect(state.url) as other, connect(state.url) as watch:
        other.execute("SET deadlock_timeout = '60s'")  # the build's side looks first
        with other.transaction(force_rollback=True):
            other.execute(insert.encode(), [keys[-1]])
            build.start()
            while not watch.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                time.sleep(0.01)
            other.execute(insert.encode(), [keys[0]])  # returns when the build's transaction is gone
    build.join()
    assert endings[0].code == 0, endings[0].output
    with state.connect() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        found = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert found == (1,)
    Witness(state).check(ONE)
