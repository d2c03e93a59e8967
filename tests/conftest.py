"""One embedded Postgres for the whole session, and a database of its own for each test that asks for one."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from xdist.scheduler import LoadFileScheduling

from pipelines.index.db import connect
from pipelines.index.migrate import migrate
from pipelines.index.server import DATABASE, EmbeddedServer
from tests.index.state import State
from tests.tracking.client import client_of

Databases = Callable[..., AbstractContextManager[str]]


def pytest_configure() -> None:
    """Several processes of tests share the cores: a PyTorch in each, and in every program that they start, gets one."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the directories whose tests wait for servers, so that they do not come last, one after the other."""
    items.sort(
        key=lambda item: not item.nodeid.startswith(("tests/flows", "tests/services", "tests/acceptance/test_re"))
    )


class FilesTogether(LoadFileScheduling):
    """A process of tests gets whole files, and those of flows go to one, which starts a Prefect server for them."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "tests/flows" if file.startswith("tests/flows/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    return FilesTogether(config, log)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Started when the first test asks for it. Tests that kill a server start one of their own."""
    server = EmbeddedServer(tmp_path_factory.mktemp("server") / ".snapdex")
    with connect(server.ensure_running()) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # nobody cuts the power of this one
        connection.execute("SELECT pg_reload_conf()")
        migrate(connection)  # the database that all others are cloned from
    yield server
    server.stop()


@pytest.fixture(scope="session")
def databases(server: EmbeddedServer) -> Databases:
    """`with databases() as url`: a migrated database, gone afterwards; `like=URL`: a copy of that one, to which nobody
    is connected; `empty=True`: not even the extension is in it."""

    def url_of(name: str) -> str:
        return server.url.replace(f"/{DATABASE}?", f"/{name}?")

    @contextmanager
    def database(*, like: str = server.url, empty: bool = False) -> Iterator[str]:
        name = f"test_{uuid.uuid4().hex[:12]}"
        template = "template0" if empty else str(conninfo_to_dict(like)["dbname"])
        identifiers = sql.Identifier(name), sql.Identifier(template)
        with connect(url_of("postgres")) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(*identifiers))
        try:
            yield url_of(name)
        finally:
            with connect(url_of("postgres")) as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifiers[0]))

    return database


@pytest.fixture
def database(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a migrated database without an index, which is also what `SNAPDEX_DATABASE_URL` says."""
    with databases() as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        yield url


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `snapdex init` makes; workspaces of tests are copies of it, because `dvc init` takes seconds."""
    place = tmp_path_factory.mktemp("template") / "workspace"
    subprocess.run([sys.executable, "-m", "pipelines.cli", "init", place], check=True, capture_output=True)
    return place


@pytest.fixture
def state(tmp_path: Path, database: str) -> State:
    """A workspace without documents and a database without an index."""
    return State.make(tmp_path / "workspace", database)


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedServer]:
    """An embedded server that is not started yet, for a test that may do to it what it likes."""
    monkeypatch.delenv("SNAPDEX_DATABASE_URL", raising=False)
    server = EmbeddedServer(tmp_path / "workspace" / ".snapdex")
    yield server
    server.stop()


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of an empty store of its own, which is also what `MLFLOW_TRACKING_URI` says."""
    client = client_of(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    monkeypatch.chdir(tmp_path)  # where such a store keeps its artifacts
    return client
