"""Processes are found by a mark in their environment, which whatever they start inherits.

Process groups are not enough: a worker puts every flow run into a session of its own. Numbers in a file are not
either: they are given again to others. The mark is `STATE|GENERATION|SERVICE`; a part of it, from the left, finds all
services of one supervisor, or of all supervisors that a workspace ever had.
"""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

MARK = "SNAPDEX_SUPERVISED"
POLL_SECONDS = 0.1
KILL_SECONDS = 10.0  # after SIGKILL only a process that waits for a disk is still there


@dataclass(frozen=True)
class Found:
    pid: int
    group: int


def marker(state: Path, generation: str = "", service: str = "") -> str:
    """What the mark of these processes begins with."""
    parts = [str(state.resolve()), *([generation] if generation else []), *([service] if service else [])]
    return "|".join(parts) + "|"


def marked(marker: str) -> list[Found]:
    """The living processes that carry the mark, this one and its ancestors excepted."""
    found = []
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):  # it ended, or is another user's
            if process.pid not in ours and process.environ().get(MARK, "").startswith(marker):
                found.append(Found(process.pid, os.getpgid(process.pid)))
    return found


def end(marker: str, *, grace_seconds: float, last: int | None = None) -> int:
    """End every process with the mark, and return how many there were.

    The leader of each group is told first (SIGTERM) and has `grace_seconds` to end what it does; then all are killed.
    The group of `last` is told when the others have ended: a Prefect worker that is told kills its flow runs before
    these can say that they were ended.
    """
    first = marked(marker)
    if grace_seconds:
        if last is not None:
            _tell([process for process in first if process.group != last], marker, grace_seconds)
        _tell(marked(marker), marker, grace_seconds)
    deadline = time.monotonic() + KILL_SECONDS
    while (found := marked(marker)) and time.monotonic() < deadline:  # again: one may have started another meanwhile
        for process in found:
            _signal(process.pid, signal.SIGKILL)
        time.sleep(POLL_SECONDS / 4)
    return len(first)


def _tell(processes: list[Found], marker: str, grace_seconds: float) -> None:
    there = {process.pid for process in processes}
    leaders = {each.pid for each in processes if each.pid == each.group or each.group not in there}
    for pid in leaders:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while leaders & {process.pid for process in marked(marker)} and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
