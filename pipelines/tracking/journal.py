"""What a training tells about itself, on disk before anything else: an append-only log, and the files it speaks of.

    .snapdex/tracking/KEY/log.jsonl    a record a line; the first says which run it is
                          files/       copies of files, each below the hash of its content
                          model/       the model, as MLflow keeps it
                          sent.json    how far `replay.py` got

MLflow may be away while this is written. A training that was killed opens its journal again and goes on in the same
run; what it tells a second time is not written a second time.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pipelines.errors import ConflictError, InputError, IntegrityError
from pipelines.files import Workspace, atomic_write, flocked, sync_directory
from pipelines.tracking.runs import metric_name

LOG, SENT, FILES, MODEL = "log.jsonl", "sent.json", "files", "model"
WAIT_SECONDS = 5.0  # for a lock that the replay has only while it deletes what MLflow has
NAME_LENGTH = 250  # of a parameter, a metric or a tag, in MLflow
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NAME = re.compile(r"(?!/|.*//|.*/$|.*(^|/)\.\.?(/|$))[\w\-. :/]+")  # MLflow takes no other
_MODEL_NAME = re.compile(r"[^/:'\"@%]{1,200}")  # what a name in `mlflow:NAME@3` and in a filter of MLflow can be
Record = dict[str, Any]
Status = Literal["FINISHED", "FAILED"]


def journals(workspace: Workspace) -> Path:
    """The directory of all journals."""
    return workspace.state / "tracking"


def open_journal(
    workspace: Workspace, key: str, *, experiment: str, name: str, clock: Callable[[], float] = time.time
) -> "Journal":
    """The journal of the run `key`: a new one, or the one that is there, whose experiment and name stay.

    key: what makes a run this one, decided by the caller, such as a hash of its inputs with the number of the attempt.

    Raises `ConflictError` where another process writes it.
    """
    if not _KEY.fullmatch(key):
        raise InputError(f"a journal cannot be named {key!r}", hint="use letters, digits and -._, 100 at most")
    return Journal(journals(workspace) / key, {"key": key, "experiment": experiment, "name": name}, clock)


def is_ended(workspace: Workspace, key: str) -> bool:
    """Whether there is such a journal, and its run came to a good end."""
    log = journals(workspace) / key / LOG
    records = parse(log)[0] if log.is_file() else []
    return bool(records) and records[-1]["kind"] == "finish" and records[-1]["status"] == "FINISHED"


def open_keys(workspace: Workspace) -> list[str]:
    """The journals whose run has not ended: it goes on, or was killed."""
    logs = sorted(journals(workspace).glob(f"*/{LOG}"))
    return [log.parent.name for log in logs if (found := parse(log)[0]) and found[-1]["kind"] != "finish"]


class Journal:
    """One run, told by one process. Records are durable when a call returns; metrics only survive a kill."""

    def __init__(self, directory: Path, run: Mapping[str, str], clock: Callable[[], float]) -> None:
        self.directory = directory
        self._clock = clock
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / LOG).open("a+b")
        if not flocked(self._file, WAIT_SECONDS):
            self._file.close()
            raise ConflictError(
                f"another process writes the journal {directory.name}", hint="wait for that training to end"
            )
        try:
            records, size = parse(directory / LOG)
        except IntegrityError:
            self._file.close()
            raise
        self._file.truncate(size)
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._metrics: set[tuple[str, int]] = set()
        self._files: dict[str, str] = {}
        self._registered: set[str] = set()
        self._others: set[str] = set()
        self._last = ""
        for record in records:
            self._note(record)
        if not records:
            self._append({"kind": "run", **run})
            sync_directory(directory)
            sync_directory(directory.parent)

    @property
    def key(self) -> str:
        return self.directory.name

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters of the run. Raises `InputError` for one that has another value already: that is another run."""
        told = {_checked(name): str(value) for name, value in values.items()}
        moved = sorted(name for name, value in told.items() if self._params.get(name, value) != value)
        if moved:
            raise InputError(
                f"{moved[0]} of the run {self.key} was {self._params[moved[0]]} and is {told[moved[0]]}",
                hint="a run with other parameters needs a key of its own",
            )
        self._tell("params", {name: value for name, value in told.items() if name not in self._params})

    def tags(self, values: Mapping[str, Any]) -> None:
        """Tags of the run; those without a value are left out, and the last value counts."""
        told = {_checked(name): str(value) for name, value in values.items() if value not in (None, "")}
        self._tell("tags", {name: value for name, value in told.items() if self._tags.get(name) != value})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Metrics at a step, with the time of this call. What the journal has for that step stays."""
        told = {_checked(metric_name(name)): float(value) for name, value in values.items()}
        fresh = {name: value for name, value in told.items() if (name, step) not in self._metrics}
        if fresh:
            self._append({"kind": "metrics", "step": int(step), "values": fresh}, durable=False)

    def dataset(self, name: str, digest: str, rows: int, context: str, tags: Mapping[str, str] | None = None) -> None:
        """Data that the run used; context: `training`, `validation`, ...; tags: where it is, such as a DVC hash."""
        facts = {"name": name, "digest": digest, "rows": rows, "context": context, "tags": dict(tags or {})}
        self._tell_once({"kind": "dataset", **facts})

    def text(self, file: str, text: str) -> None:
        """Keep a text as an artifact of the run."""
        self._keep(file, text.encode("utf-8"))

    def file(self, path: Path, folder: str = "") -> None:
        """Keep the present content of a file as an artifact, in a folder of the run's artifacts."""
        self._keep(f"{folder}/{path.name}" if folder else path.name, path.read_bytes())

    def model(self, directory: Path, loaded: Any, requirements: Sequence[str] | None = None) -> None:
        """Keep the model that was saved in `directory`; loaded: the same model as sentence-transformers opens it.

        A run has one model. Takes about a second, which is MLflow's; see `saved.py`.
        """
        from pipelines.tracking.saved import save

        if json.dumps({"kind": "model"}) in self._others:
            return
        fresh = self.directory / f"{MODEL}.new"
        for left in (fresh, self.directory / MODEL):  # of a kill
            shutil.rmtree(left, ignore_errors=True)
        save(directory, loaded, fresh, requirements)
        fresh.rename(self.directory / MODEL)
        sync_directory(self.directory)
        self._tell_once({"kind": "model"})

    def register(self, model: str, description: str, tags: Mapping[str, Any] | None = None) -> None:
        """Make the run's model a version of the registered model, with the alias `candidate`.

        description: its card, in Markdown; tags: such as the decision of the gate.
        """
        self._of_the_model(model)
        told = {name: str(value) for name, value in (tags or {}).items() if value not in (None, "")}
        self._tell_once({"kind": "register", "model": model, "description": description, "tags": told})

    def promote(self, model: str, against: str | int | None) -> None:
        """Make that version the champion if the champion still is `against`, which the gate compared with it."""
        self._of_the_model(model)
        if model not in self._registered:
            raise InputError(f"the run {self.key} is no version of {model}", hint="call Journal.register first")
        self._tell_once({"kind": "promote", "model": model, "against": None if against is None else str(against)})

    def finish(self, status: Status) -> None:
        """The end of the run; a training that goes on after a failure takes it back."""
        if self._last != f"finish {status}":
            self._append({"kind": "finish", "status": status})

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _of_the_model(self, model: str) -> None:
        if not _MODEL_NAME.fullmatch(model):
            raise InputError(f"a model cannot be named {model!r}", hint="leave out / : @ % and quotes")
        if json.dumps({"kind": "model"}) not in self._others:
            raise InputError(f"the run {self.key} has no model to register", hint="call Journal.model first")

    def _keep(self, name: str, content: bytes) -> None:
        """`name`: of the artifact, with its folder."""
        if not _NAME.fullmatch(name) or name == MODEL or name.startswith(f"{MODEL}/"):
            raise InputError(f"an artifact cannot be named {name!r}", hint="use a relative name of plain characters")
        sha256 = hashlib.sha256(content).hexdigest()
        record = {"kind": "file", "name": name, "sha256": sha256}
        if self._files.get(name) != sha256:
            atomic_write(stored(self.directory, record), content)
            self._append(record)

    def _tell(self, kind: str, values: Mapping[str, str]) -> None:
        if values:
            self._append({"kind": kind, "values": dict(values)})

    def _tell_once(self, record: Record) -> None:
        if json.dumps(record, sort_keys=True) not in self._others:
            self._append(record)

    def _append(self, record: Record, *, durable: bool = True) -> None:
        """One line, whole or torn; a torn one is cut off when the journal is opened again."""
        if self._last.startswith("finish") and record["kind"] not in ("finish", "reopen"):
            self._append({"kind": "reopen"})
        self._file.write(json.dumps({"at": round(self._clock() * 1000), **record}).encode("utf-8") + b"\n")
        self._file.flush()
        if durable:
            os.fsync(self._file.fileno())
        self._note(record)

    def _note(self, record: Record) -> None:
        """Remember what was told, so that it is not told again."""
        kind = record["kind"]
        self._last = f"finish {record['status']}" if kind == "finish" else kind
        if kind == "params":
            self._params |= record["values"]
        elif kind == "tags":
            self._tags |= record["values"]
        elif kind == "metrics":
            self._metrics |= {(name, record["step"]) for name in record["values"]}
        elif kind == "file":
            self._files[record["name"]] = record["sha256"]
        else:
            if kind == "register":
                self._registered.add(record["model"])
            self._others.add(
                json.dumps({name: value for name, value in record.items() if name != "at"}, sort_keys=True)
            )


def stored(directory: Path, record: Record) -> Path:
    """Where the copy of a file of the journal in `directory` lies; its own name is the artifact's."""
    return directory / FILES / str(record["sha256"])[:16] / str(record["name"]).rpartition("/")[2]


def parse(log: Path) -> tuple[list[Record], int]:
    """The whole records of a log, and how many bytes they take; a last line that a kill tore is not among them."""
    lines = log.read_bytes().splitlines(keepends=True)
    records, size = [], 0
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            record = None
        if not isinstance(record, dict):
            if number == len(lines):
                break
            raise IntegrityError(f"{log} is damaged in line {number}", hint="delete its directory: the run is lost")
        records.append(record)
        size += len(line)
    return records, size


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        raise InputError(f"MLflow takes no name like {name!r}", hint="use letters, digits and _-. :/")
    return name
