"""DVC as a program: commit and push, in processes of its own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from pipelines.errors import ConfigError, ConflictError, ServiceUnavailable
from pipelines.silence import SILENT

BUSY_TRIES, BUSY_PAUSE_SECONDS = 60, 1.0  # DVC itself waits for its first lock, but not for this one
QUIET = SILENT | {"CI": "1"}  # the last one: no look-up of newer releases


def unset_no_scm(root: Path) -> None:
    """A workspace that was made outside of git learns that it is in one."""
    config = root / ".dvc" / "config"
    if config.exists() and "no_scm" in config.read_text("utf-8"):
        run(root, "config", "--unset", "core.no_scm")


def commit(root: Path, stages: list[str]) -> None:
    """`dvc.lock` and the cache say what the files of these stages are now."""
    run(root, "commit", "--force", *stages)


def push(root: Path) -> None:
    """Every object that `dvc.lock` names to the remote.

    DVC remembers in its site cache what a remote has, and is wrong for ever when a push was killed (treeverse/dvc
    #10977): each push starts without memories.
    """
    with tempfile.TemporaryDirectory(prefix="snapdex-dvc-") as directory:
        run(root, "push", env={"DVC_SITE_CACHE_DIR": directory})


def run(root: Path, *words: str, env: dict[str, str] | None = None) -> str:
    """The output of `dvc WORDS` in the workspace.

    Raises `ConflictError` when another DVC process keeps its lock, `ConfigError` for what is missing on this machine,
    `ServiceUnavailable` for everything else that a push can meet.
    """
    for _ in range(BUSY_TRIES):
        remove_stale_lock(root)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "dvc", "--wait-for-lock", *words],
            cwd=root,
            env=os.environ | QUIET | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return done.stdout
        if "is busy" not in done.stderr:
            break
        time.sleep(BUSY_PAUSE_SECONDS)
    reason = _reason(done)
    if "is busy" in done.stderr:
        raise ConflictError(f"another DVC process works in {root}: {reason}", hint="wait for it to end, and run again")
    if words[0] != "push":
        raise ConfigError(f"dvc {words[0]} failed: {reason}", hint=f"`dvc {words[0]}` in {root} says more")
    raise ServiceUnavailable(
        f"dvc push failed: {reason}",
        hint="run again with --record: the version is there, what was pushed is kept, nothing in git has moved",
    )


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """What DVC calls the error, on one line; a killed process says nothing."""
    lines = [line.strip() for line in done.stderr.replace("\r", "\n").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if done.returncode < 0:
        return f"it was killed by signal {-done.returncode}"
    return (errors or lines[-1:] or [f"exit code {done.returncode}"])[0]


def remove_stale_lock(root: Path) -> None:
    """Take away the read-write lock that killed DVC processes left, or a torn one; a living one's stays."""
    path = root / ".dvc" / "tmp" / "rwlock"
    for last in (False, True):
        try:
            lock = json.loads(path.read_text("utf-8"))
            break
        except FileNotFoundError:
            return
        except ValueError:  # its owner may be writing it at this moment
            if last:
                path.unlink(missing_ok=True)
                return
            time.sleep(0.2)
    holders = [*lock.get("write", {}).values(), *(each for all_ in lock.get("read", {}).values() for each in all_)]
    if not any(_lives(int(holder["pid"])) for holder in holders):
        path.unlink(missing_ok=True)


def refuse_while_busy(root: Path) -> None:
    """Raises `ConflictError` while a living DVC process reads or writes outputs of the workspace."""
    remove_stale_lock(root)
    if (root / ".dvc" / "tmp" / "rwlock").exists():
        raise ConflictError(f"another DVC process works in {root}", hint="wait for it to end, and run again")


def _lives(pid: int) -> bool:
    with suppress(ProcessLookupError):
        with suppress(PermissionError):
            os.kill(pid, 0)
        return True
    return False
