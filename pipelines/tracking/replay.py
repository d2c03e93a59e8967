"""Journals to MLflow: every record once, in order, whenever MLflow answers.

A step is noted in `sent.json` when MLflow has done it. Killed in between, the next replay does that one step again,
which changes nothing (`steps.py`). What is noted belongs to one run: where MLflow does not know that run, because
another store stands behind the address now, the journal is sent from its beginning.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.errors import ConflictError, InputError, IntegrityError
from pipelines.failpoints import failpoint
from pipelines.files import Workspace, atomic_write, flocked
from pipelines.progress import Progress, Silent
from pipelines.tracking.client import open_client, page_of, tracking_uri, translated_errors
from pipelines.tracking.journal import FILES, LOG, MODEL, SENT, Record, journals, parse
from pipelines.tracking.registry import Promotion
from pipelines.tracking.steps import Deleted, Run, batches

LATER = "snapdex finetune sync, later: nothing is lost"


@dataclass(frozen=True)
class Synced:
    """How far a journal is in MLflow. `problem`: why it does not get further."""

    key: str
    experiment: str
    name: str
    run_id: str | None
    url: str | None
    sent: int  # records that MLflow has
    records: int  # records that the journal has
    finished: bool  # whether the run has ended, and MLflow has all of it
    versions: dict[str, str]  # of registered models, by name
    promotion: Promotion | None
    problem: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def sync(
    workspace: Workspace, *, progress: Progress | None = None, client: Any = None, wait_seconds: float = 60.0
) -> list[Synced]:
    """Send what no replay has sent yet; returns the journals that had something to send, the oldest first.

    A journal that MLflow refuses is left as it is, and the others are sent. `client`: instead of the one for
    `MLFLOW_TRACKING_URI`.

    Raises `ServiceUnavailable` where MLflow does not answer, `ConflictError` where another sync goes on for longer than
    `wait_seconds`, `ConfigError` without an address. Nothing is lost then: a later call goes on.
    """
    with _alone(workspace, wait_seconds):
        todo = [replay for replay in _replays(workspace) if replay.is_behind]
        if not todo:
            return []
        uri = client.tracking_uri if client else tracking_uri()
        with translated_errors(uri, "open", hint=LATER):
            client = client or open_client()
        progress = progress or Silent()
        progress.start("track", sum(len(replay.records) - replay.sent for replay in todo))
        return [_send(replay, client, uri, progress) for replay in todo]


def synced(workspace: Workspace, key: str) -> Synced | None:
    """How far this journal is, without asking MLflow; None where there is no such journal."""
    directory = journals(workspace) / key
    replay = _Replay.of(directory) if (directory / LOG).is_file() else None
    return replay.report(os.environ.get("MLFLOW_TRACKING_URI", ""), None) if replay else None


@dataclass(frozen=True)
class _Replay:
    """A journal with what was sent of it."""

    directory: Path
    records: list[Record]
    run_id: str | None = None
    experiment_id: str | None = None
    sent: int = 0
    versions: dict[str, str] | None = None
    promotion: dict[str, Any] | None = None
    deleted: bool = False

    @classmethod
    def of(cls, directory: Path) -> "_Replay | None":
        """None for a journal that its writer has not begun."""
        records, _ = parse(directory / LOG)
        noted = directory / SENT
        return (
            cls(directory, records, **json.loads(noted.read_text("utf-8")) if noted.exists() else {})
            if records
            else None
        )

    @property
    def is_behind(self) -> bool:
        return self.sent < len(self.records) and not self.deleted

    @property
    def has_ended(self) -> bool:
        return not self.is_behind and self.records[-1]["kind"] == "finish"

    def note(self, **changes: Any) -> "_Replay":
        noted = replace(self, **changes)
        facts = {name: value for name, value in asdict(noted).items() if name not in ("directory", "records")}
        atomic_write(self.directory / SENT, json.dumps(facts))
        failpoint("track.noted")
        return noted

    def report(self, uri: str, problem: str | None) -> Synced:
        first = self.records[0]
        page = page_of(uri, self.experiment_id, self.run_id) if self.experiment_id and self.run_id else None
        return Synced(
            key=first["key"],
            experiment=first["experiment"],
            name=first["name"],
            run_id=self.run_id,
            url=page,
            sent=self.sent,
            records=len(self.records),
            finished=self.has_ended and not self.deleted,
            versions=self.versions or {},
            promotion=Promotion(**self.promotion) if self.promotion else None,
            problem=problem,
        )


def _replays(workspace: Workspace) -> list[_Replay]:
    """All journals, the oldest first."""
    found = (_Replay.of(log.parent) for log in sorted(journals(workspace).glob(f"*/{LOG}")))
    return sorted((replay for replay in found if replay), key=lambda replay: replay.records[0]["at"])


def _send(replay: _Replay, client: Any, uri: str, progress: Progress) -> Synced:
    what = f"take the run {replay.records[0]['name']}"
    with (replay.directory / LOG).open("rb") as log:
        os.fsync(log.fileno())  # else MLflow could have what a power failure takes from the journal
    try:
        with translated_errors(uri, what, hint=LATER):
            run = Run(client, replay.directory, replay.records[0], replay.run_id, replay.versions or {})
            if not run.is_known:
                replay = replay.note(
                    run_id=run.run_id, experiment_id=run.experiment_id, sent=0, versions={}, promotion=None
                )
            for batch in batches(replay.records[replay.sent :]):
                run.do(batch)
                failpoint("track.sent")
                promotion = asdict(run.promotion) if run.promotion else replay.promotion
                replay = replay.note(sent=replay.sent + len(batch), versions=run.versions, promotion=promotion)
                progress.advance(len(batch))
    except Deleted:
        replay = replay.note(deleted=True)
        _clear(replay)
        return replay.report(uri, "the run was deleted in MLflow")
    except (InputError, IntegrityError) as error:
        return replay.report(uri, str(error))
    if replay.has_ended:
        _clear(replay)
    return replay.report(uri, None)


def _clear(replay: _Replay) -> None:
    """Delete the copies of what MLflow has; not while the journal is written, or has been since."""
    with (replay.directory / LOG).open("rb") as log:
        if flocked(log) and len(parse(replay.directory / LOG)[0]) == len(replay.records):
            for place in (MODEL, f"{MODEL}.new", FILES):
                shutil.rmtree(replay.directory / place, ignore_errors=True)


@contextmanager
def _alone(workspace: Workspace, wait_seconds: float) -> Iterator[None]:
    """One sync at a time in a workspace."""
    place = journals(workspace)
    place.mkdir(parents=True, exist_ok=True)
    with (place / "sync.lock").open("w") as file:
        if not flocked(file, wait_seconds):
            raise ConflictError("another process sends to MLflow", hint="wait for it to end, then sync again")
        yield
