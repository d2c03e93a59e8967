"""One real Prefect server for all tests of flows: it takes some ten seconds to start."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.files import Workspace
from pipelines.index.server import EmbeddedServer

PROGRAM = Path(sys.executable).parent / "snapdex"
PAGES = {
    "guides/refunds.md": "# Refunds\n\nA support agent may refund up to 250 euros.\n",
    "guides/failover.md": "# Failover\n\nRun `pg_ctl promote` on the replica.\n",
    "notes/glossary.txt": "Drayage: the short haul between port and warehouse.\n",
}


@pytest.fixture(scope="session", autouse=True)
def prefect_server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as environment:  # set before the first import of prefect
        environment.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        environment.setenv("PREFECT_LOGGING_LEVEL", "ERROR")
        environment.setenv("DO_NOT_TRACK", "1")
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=180):
            yield


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace with three documents in `docs/`."""
    monkeypatch.delenv("SNAPDEX_DATABASE_URL", raising=False)
    root = tmp_path / "handbook"
    subprocess.run([PROGRAM, "init", root], check=True, capture_output=True)
    params = root / "params.yaml"
    changed = params.read_text("utf-8").replace("minilm", "hash:384").replace("sources: []", "sources: [docs]")
    params.write_text(changed, "utf-8")
    for name, text in PAGES.items():
        path = root / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    yield Workspace(root)
    EmbeddedServer(root / ".snapdex").stop()
