"""The sample corpus as an index: its text and Markdown, which need no parser of another library."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.config import load_config
from tests.conftest import Databases
from tests.doors.ways import Tools, mcp_client
from tests.index.state import State

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample"
PARAMS = "index: {name: handbook}\ncollect: {sources: [docs]}\nembed: {model: 'hash:384'}\n"


def make(root: Path, url: str) -> State:
    """A workspace whose parameters all stand in its file, because other processes read them there."""
    State.make(root, url)
    (root / "params.yaml").write_text(PARAMS.replace("[docs]", f"[{root / 'docs'}]"), "utf-8")
    return State(root, url, load_config(root / "params.yaml"))


@pytest.fixture(scope="package")
def handbook(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """Two versions, the second active; what `SNAPDEX_HOME` and `SNAPDEX_DATABASE_URL` say."""
    with databases() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAPDEX_DATABASE_URL", url)
        state = make(tmp_path_factory.mktemp("doors") / "workspace", url)
        patch.setenv("SNAPDEX_HOME", str(state.root))
        shutil.copytree(
            SAMPLE, state.root / "docs", ignore=shutil.ignore_patterns("*.html", "*.docx", "*.pdf"), dirs_exist_ok=True
        )
        state.run()
        state.write({"oncall/bell.md": "# The bell\n\nRing the bell twice when TM-5013 is back.\n"}).run()
        yield state


@pytest.fixture(scope="package")
def client(handbook: State) -> Iterator[Tools]:
    """The tools of its MCP server."""
    with mcp_client(handbook) as call:
        yield call


@pytest.fixture
def book(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> State:
    """An empty workspace for a test that writes its own documents."""
    state = make(tmp_path / "workspace", database)
    monkeypatch.setenv("SNAPDEX_HOME", str(state.root))
    return state
