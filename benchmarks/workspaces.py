"""Workspaces that are made for one measurement, and taken away after it with their server."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.config import Config
from pipelines.files import Workspace
from pipelines.index.server import EmbeddedServer


@contextmanager
def fresh_workspace() -> Iterator[Workspace]:
    """An empty workspace whose embedded server runs already."""
    with tempfile.TemporaryDirectory(prefix="snapdex-bench-", ignore_cleanup_errors=True) as directory:
        # A server that runs under another user must be able to reach its data.
        Path(directory).chmod(0o755)
        with serving(Workspace(Path(directory))) as workspace:
            yield workspace


@contextmanager
def serving(workspace: Workspace) -> Iterator[Workspace]:
    """The same workspace, with its server running until the end of the block."""
    server = EmbeddedServer(workspace.state)
    server.ensure_running()
    try:
        yield workspace
    finally:
        server.stop()


@contextmanager
def kept_or_fresh(keep: Path | None, name: str) -> Iterator[Workspace]:
    """The workspace `name` under `keep`, with what earlier measurements left there; without `keep` a fresh one."""
    if keep is None:
        with fresh_workspace() as workspace:
            yield workspace
        return
    root = (keep / name).resolve()
    root.mkdir(parents=True, exist_ok=True)
    with serving(Workspace(root)) as workspace:
        yield workspace


def config_of(**sections: dict[str, Any]) -> Config:
    return Config.model_validate({"index": {"name": "bench"}} | sections)


def use_own_servers() -> None:
    """Never measure on, or write to, a database that somebody set for other work."""
    os.environ.pop("SNAPDEX_DATABASE_URL", None)


def say(text: str) -> None:
    """Progress, on stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
