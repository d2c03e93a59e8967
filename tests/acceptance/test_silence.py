"""Nothing phones home: the libraries beneath do not tell their makers who uses them."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from program import PROGRAM, clean_environment

OPTS_OUT = ("CI", "DO_NOT_TRACK", "PYTEST_CURRENT_TEST")  # what tells some libraries to be silent, and no user has
FLOWS = """
import flows.ingest, threading
from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED as server
callers = [each.name for each in threading.enumerate() if "analytics" in each.name]
assert not server.value() and not callers, callers
"""


@pytest.fixture
def newcomer(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who starts all of this for the first time, and has not opted out of anything."""
    kept = {
        name: value
        for name, value in clean_environment().items()
        if name not in OPTS_OUT and "TELEMETRY" not in name and "ANALYTICS" not in name
    }
    return kept | {"HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "prefect")}


def test_dvc_starts_no_process_that_calls(newcomer: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "calls"  # made where such a process is started
    environment = newcomer | {"DVC_DAEMON_LOGFILE": str(log)}
    subprocess.run([PROGRAM, "init", tmp_path / "workspace"], env=environment, check=True, capture_output=True)
    assert not log.exists()


def test_prefect_is_silent_at_a_terminal(newcomer: dict[str, str], tmp_path: Path) -> None:
    """It tells of new users when it is imported there."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", FLOWS],
            cwd=tmp_path,
            env=newcomer,
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0, done.stderr
