"""The training of a language model at a server with OpenAI's files and fine-tuning jobs, read from top to bottom.

    examples  --upload-->  two files  --create-->  a job  --wait-->  the name of a model at that server

A job costs money and goes on without us. So every id is noted as soon as it is known, and where it is not, the server
is asked what it has: the name of a file and the metadata of a job carry the fingerprint of what is trained.
"""

import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.config import BehaviourConfig, Config, DpoConfig
from pipelines.errors import ConfigError, InputError
from pipelines.examples import HELD_OUT, TRAIN, Chat, Example, Kind, read_examples, section_of
from pipelines.examples.rows import plain
from pipelines.failpoints import failpoint
from pipelines.files import atomic_write, file_sha256
from pipelines.finetune.facts import Trained
from pipelines.finetune.log import Log
from pipelines.model import canonical_json, digest
from pipelines.models import Generator
from pipelines.models.hosted import Hosted, write_hosted
from pipelines.models.service import base_url, without_password
from pipelines.progress import Progress
from pipelines.tune.server import CANCELLED, ENDED, MARK, SUCCEEDED, FineTuning, Job

SENT = ("epochs", "batch", "beta", "seed")
NOT_SENT = ("method", "lora_rank", "learning_rate", "warmup", "max_tokens", "evaluations", "patience")  # no such thing
NOTES = "job.json"
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0  # between two looks at a job, which takes minutes to hours
TOLD = {
    "train_loss": "loss",
    "train_mean_token_accuracy": "token_accuracy",
    "valid_loss": "held_out/batch_loss",  # of a few rows; the next two of all, once an epoch
    "full_valid_loss": "held_out/loss",
    "full_valid_mean_token_accuracy": "held_out/token_accuracy",
}


def parameters(settings: BehaviourConfig, kind: Kind) -> dict[str, Any]:
    """Those that a server takes. Raises `ConfigError` for what somebody asked for that would not happen there."""
    for key in NOT_SENT:
        value, default = getattr(settings, key), type(settings).model_fields[key].default
        if value != default:
            raise ConfigError(
                f"{kind}.{key} is {value}, and a server does not let anybody choose it",
                hint=f"leave out {kind}.{key}, or begin with a model that has its weights here",
            )
    if settings.metric == "preferred":
        raise ConfigError(
            f"{kind}.metric is preferred, and a server does not tell how likely it finds an answer",
            hint=f"set {kind}.metric to exact_match, f1, rouge_l, format or constraints",
        )
    if settings.general:
        raise ConfigError(
            f"{kind}.general cannot be measured: a server does not tell the perplexity of texts",
            hint=f"set {kind}.general_chats instead",
        )
    return {key: getattr(settings, key) for key in SENT if key in type(settings).model_fields}


def fingerprint(config: Config, examples: Path, kind: Kind, base: Generator) -> str:
    """64 hex digits over what a job is made of: the rows to learn as they are sent, base, server and parameters.

    What is held out is no part of it: a server looks at it and learns nothing from it, and another job costs money.
    """
    rows = hashlib.sha256()
    for row in _rows(examples / TRAIN):
        rows.update(row)
    sent = canonical_json(parameters(section_of(config, kind), kind))
    place = without_password(base_url(config.generate.endpoint))
    return digest("tune at a server 1", kind, rows.hexdigest(), base.revision, place, sent).hex()


def train(
    base: Generator,
    config: Config,
    kind: Kind,
    name: str,
    made_of: str,
    examples: Path,
    place: Path,
    log: Log,
    progress: Progress,
) -> Trained:
    """Let the server train, or wait for what it is training already.

    examples: the directory of them; place: where it is noted how far this is. Raises `InputError` where the job failed
    or was cancelled: the next call begins another one.
    """
    settings = section_of(config, kind)
    with FineTuning(config.generate, base.at_server, f"{kind}.base" if settings.base else "generate.model") as server:
        notes = _read(place)
        rows = {file: _write(examples / file, place / file) for file in (TRAIN, HELD_OUT)}
        if not rows[TRAIN]:
            raise InputError(f"{examples / TRAIN} is empty", hint="there is nothing to learn from")
        if not notes["job"]:
            files = {}
            for file in [file for file, count in rows.items() if count]:
                called = _named(made_of, place / file)
                files[file] = server.file(place / file, called, notes["files"].get(called, ""))
                failpoint("hosted.uploaded")
                notes["files"][called] = files[file]
                _note(place, notes)
            notes["job"] = server.create(_body(base, settings, kind, name, made_of, files)).id
            failpoint("hosted.created")
            _note(place, notes)
        told = _Told(log, progress)
        job = _ended(server, notes["job"], told)
        if job.status != SUCCEEDED:
            _note(place, {**notes, "job": ""})
            raise _in_vain(server, job)
    made = place / "model"
    made.mkdir(exist_ok=True)
    uploaded = list(notes["files"].values())
    write_hosted(made, Hosted(job.model, base.at_server, server.shown, job.id, uploaded))
    return Trained(made, rows[TRAIN], told.steps, told.steps, told.history(), job.seconds)


def _body(
    base: Generator, settings: BehaviourConfig, kind: Kind, name: str, made_of: str, files: dict[str, str]
) -> dict[str, Any]:
    """The job as it is asked for."""
    values: dict[str, float] = {"n_epochs": settings.epochs, "batch_size": settings.batch}
    values |= {"beta": settings.beta} if isinstance(settings, DpoConfig) else {}
    method = {"sft": "supervised", "dpo": "dpo"}[kind]
    return {
        "model": base.at_server,
        "training_file": files[TRAIN],
        **({"validation_file": files[HELD_OUT]} if HELD_OUT in files else {}),
        "suffix": re.sub(r"[^a-z0-9-]", "-", name),  # part of the model's name
        "seed": settings.seed,
        "method": {"type": method, method: {"hyperparameters": values}},
        "metadata": {MARK: made_of},
    }


def _ended(server: FineTuning, job: str, told: "_Told") -> Job:
    """The job once it has ended; what it tells meanwhile is passed on."""
    pause = FIRST_PAUSE_SECONDS
    try:
        while True:
            found = server.job(job)
            told.tell(server.events(job, told.known))
            if found.status in ENDED:
                return found
            failpoint("hosted.waited")
            time.sleep(pause)
            pause = min(LONGEST_PAUSE_SECONDS, 1.5 * pause)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted, and the job {job} goes on at {server.shown}") from None


def _in_vain(server: FineTuning, job: Job) -> InputError:
    if job.status == CANCELLED:
        return InputError(f"the job {job.id} was cancelled at {server.shown}", hint="run it again to begin another one")
    return InputError(
        f"{server.shown} did not fine-tune, the job {job.id} failed: {job.problem or 'it does not say why'}",
        hint="correct what it names; the next run begins another job",
    )


class _Told:
    """What a server told of a job: passed on to the log, shown as progress, and kept as a curve by step."""

    def __init__(self, log: Log, progress: Progress) -> None:
        self.known: set[str] = set()
        self.steps = 0
        self._curve: dict[int, dict[str, float]] = {}
        self._log, self._progress = log, progress
        self._started = False

    def tell(self, events: Sequence[dict[str, Any]]) -> None:
        for event in events:
            self.known.add(event["id"])
            data = event.get("data")
            step = data.get("step") if isinstance(data, dict) else None
            if not isinstance(data, dict) or not isinstance(step, int):
                continue
            values = {name: float(data[key]) for key, name in TOLD.items() if _is_number(data.get(key))}
            if values:
                self._log.metrics(values, step)
                self._curve[step] = self._curve.get(step, {}) | values
            self._show(step, data.get("total_steps"))

    def history(self) -> dict[str, dict[str, float]]:
        """The loss on what was held out by step: on all of it, else on as much as the server looked at."""
        for name in ("held_out/loss", "held_out/batch_loss"):
            found = {str(step): {"loss": values[name]} for step, values in self._curve.items() if name in values}
            if found:
                return found
        return {}

    def _show(self, step: int, total: object) -> None:
        if not self._started and isinstance(total, int):
            self._progress.start("finetune", total)
            self._started = True
        if step > self.steps:
            self._progress.advance(step - self.steps)
            self.steps = step


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _rows(path: Path) -> Iterator[bytes]:
    """The examples as the server takes them: what is said in them alone, without checks and groups."""
    return (canonical_json(_row(each)).encode("utf-8") + b"\n" for each in read_examples(path))


def _row(example: Example) -> dict[str, Any]:
    if isinstance(example, Chat):
        return {"messages": plain(example.messages)}
    better, worse = ([{"role": "assistant", "content": text}] for text in (example.chosen, example.rejected))
    return {"input": {"messages": plain(example.prompt)}, "preferred_output": better, "non_preferred_output": worse}


def _write(path: Path, target: Path) -> int:
    """Write the rows of `path` as they are uploaded, and say how many."""
    count = 0
    with target.open("wb") as file:
        for row in _rows(path):
            file.write(row)
            count += 1
    return count


def _named(made_of: str, path: Path) -> str:
    """What the server shall call a file: by the fingerprint of the job and by its content."""
    return f"snapdex-{made_of[:16]}-{file_sha256(path)[:12]}.jsonl"


def _read(place: Path) -> dict[str, Any]:
    """What is noted: ids of files by their names at the server, and of the job."""
    try:
        return dict(json.loads((place / NOTES).read_text("utf-8")))
    except FileNotFoundError:
        return {"files": {}, "job": ""}


def _note(place: Path, notes: dict[str, Any]) -> None:
    atomic_write(place / NOTES, json.dumps(notes, indent=1) + "\n")
    failpoint("hosted.noted")
