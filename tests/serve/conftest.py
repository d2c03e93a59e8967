"""A service that really listens, over two versions of a small book; it is asked over HTTP."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from pipelines.index.catalog import set_calibration
from pipelines.index.db import Connection, connect_to_read
from pipelines.serve.app import application
from pipelines.serve.server import Server, listening
from tests.conftest import Databases
from tests.index.state import State

HOSTILE = "<script>owned()</script> <img src=x onerror=owned()> \u202egpj.exe"
FIRST = {
    "gate.md": "# Gate\n\n## Opening\n\nThe harbour gate opens at six.\n",
    "tea.md": "# Tea\n\nTea is served at four.\n",
    "old/lamp.md": "# Lamps\n\nThe lamps are lit at dusk.\n",
}
SECOND = {
    "gate.md": "# Gate\n\n## Opening\n\nThe harbour gate opens at seven.\n",
    "tea.md": FIRST["tea.md"],
    "new/lamp.md": FIRST["old/lamp.md"],
    "notes/javascript:alert(1).md": f"# Ferry\n\nThe ferry {HOSTILE} island.\n",
}
# Similarity and coverage together decide: a query of words that the book does not have is refused.
CALIBRATION = {"threshold": 0.8, "similarity_spread": 1.0, "coverage_spread": 1.0, "dense_weight": 0.5}


@pytest.fixture(scope="module")
def book(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """Two versions, the second active."""
    with databases() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAPDEX_DATABASE_URL", url)
        state = State.make(tmp_path_factory.mktemp("serve") / "workspace", url)
        for documents in (FIRST, SECOND):
            state.become(documents)
            state.run()
        with state.connect() as connection:
            for version in (1, 2):
                set_calibration(connection, state.index(), version, CALIBRATION)
        yield state


@contextmanager
def serving(
    state: State,
    *settings: str,
    tokens: Sequence[str] = (),
    connect: Callable[[], Connection] | None = None,
) -> Iterator[httpx.Client]:
    """The service in a thread, until the end of the block; `settings`: `section.key=value`."""
    changed = state.with_settings("embed.model=hash:64", *settings)
    connect = connect or partial(connect_to_read, state.url, timeout_seconds=30)
    ready = threading.Event()
    app = application(changed.config, changed.workspace, tokens, connect)
    with listening("127.0.0.1", 0) as listener:
        server = Server(app, ready.set, 20)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert ready.wait(30)
            headers = {"Authorization": f"Bearer {tokens[0]}"} if tokens else {}
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def client(book: State) -> Iterator[httpx.Client]:
    with serving(book) as client:
        yield client
