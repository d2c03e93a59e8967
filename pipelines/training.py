"""Fine-tuning a model, from examples to a registered model: make, train, measure, register.

The stages of `jobs.py` in order, as plain functions; `flows/finetune.py` runs the same ones as Prefect tasks. What
happens goes into a journal, which `pipelines.tracking` sends to MLflow when it is there.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pipelines import evaluate_model, finetune, jobs, tracking
from pipelines.config import Config
from pipelines.errors import ConflictError, GateFailed, ServiceUnavailable
from pipelines.evaluate_model import ModelReport
from pipelines.files import Workspace, file_sha256, flocked
from pipelines.finetune import FinetuneReport
from pipelines.jobs import Kind, Made
from pipelines.model import digest
from pipelines.pairs import HELD_OUT, TRAIN
from pipelines.progress import Progress
from pipelines.record import commit_stages
from pipelines.tracking import Journal
from pipelines.tracking.provenance import provenance


def run(
    config: Config,
    workspace: Workspace,
    name: str,
    kind: Kind = "embedding",
    *,
    prefect_run: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The whole job in this process; the model is registered as `candidate`, and as `champion` if it is better.

    Interrupted, the same command goes on; where nothing has changed it does nothing. Raises what a stage raises, and
    `ConflictError` when this model is being trained already. A model that is not better is no error here: see
    `refuse_if_worse`. Nor is an MLflow that does not answer: the report says so, and the next sync sends what it lacks.
    """
    began = time.monotonic()
    with turn(workspace, name):
        config = jobs.with_pinned_models(config, kind)
        made = jobs.make(config, workspace, name, kind, progress=progress)
        key = journal_key(config, workspace, name, kind)
        with open_run(config, workspace, name, kind, key, made, prefect_run=prefect_run) as log:
            trained = jobs.train(config, workspace, name, kind, log=log, progress=progress)
            measured = jobs.measure(config, workspace, name, kind, progress=progress)
            conclude(workspace, name, kind, log, trained, measured)
    synced, away = [], ""
    if tracking.is_configured():
        try:
            synced = tracking.sync(workspace, progress=progress)
        except ServiceUnavailable as error:
            away = str(error)
    seconds = time.monotonic() - began
    return report_of(workspace, name, kind, key, made, trained, measured, synced, away=away, seconds=seconds)


@contextmanager
def turn(workspace: Workspace, name: str) -> Iterator[None]:
    """One training of a model at a time. The kernel frees the lock of a killed one."""
    jobs.check_name(name)
    place = workspace.state / "finetune"
    place.mkdir(parents=True, exist_ok=True)
    with (place / f"{name}.lock").open("w") as file:
        if not flocked(file):
            raise ConflictError(f"{name} is being trained by another process", hint="wait for it to end")
        yield


@dataclass(frozen=True)
class RunLog:
    """What training tells goes to the journal, with what the machine does at that time."""

    journal: Journal

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.journal.metrics({**values, **tracking.system_metrics()}, step)


def journal_key(config: Config, workspace: Workspace, name: str, kind: Kind) -> str:
    """The same for the same training, measured under the same conditions: those before it begins, since a sync may
    move the champion that it is compared with."""
    return f"{name}-{digest(*jobs.made_of(config, workspace, name, kind)).hex()[:16]}"


@contextmanager
def open_run(
    config: Config, workspace: Workspace, name: str, kind: Kind, key: str, made: Made, *, prefect_run: str | None
) -> Iterator[RunLog | None]:
    """The journal of this training, with where everything came from; None where all of it was told before."""
    first = jobs.stages_of(kind)[0]
    commit_stages(workspace, [f"{first}@{name}"])
    if tracking.is_ended(workspace, key):
        yield None
        return
    _give_up_others(workspace, name, key)
    data = f"data/{first}/{name}"
    came_from = provenance(
        workspace,
        index=config.index.name,
        version=getattr(made, "version", None),
        snapshot=getattr(made, "snapshot", None),
        data=data,
        prefect_run=prefect_run,
    )
    with tracking.open_journal(workspace, key, experiment=f"{config.index.name} models", name=name) as journal:
        journal.params(jobs.parameters(config, workspace, name, kind))
        journal.tags(came_from)
        for file, rows, context in ((TRAIN, made.train, "training"), (HELD_OUT, made.held_out, "validation")):
            sha256 = file_sha256(jobs.data_folder(workspace, name, kind) / file)
            tags = {"dvc_md5": came_from.get("dvc_md5", ""), "sha256": sha256}
            journal.dataset(f"{data}/{file}", sha256[:32], rows, context, tags)
        journal.text(f"{first}.json", json.dumps(made.to_json(), indent=1, ensure_ascii=False))
        try:
            yield RunLog(journal)
        except Exception:
            journal.finish("FAILED")
            raise
        journal.finish("FINISHED")


def _give_up_others(workspace: Workspace, name: str, key: str) -> None:
    """Trainings that were killed and will not go on, because there is something else to learn from now."""
    for other in tracking.open_keys(workspace):
        if other != key and re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{16}}", other):
            with tracking.open_journal(workspace, other, experiment="", name="") as journal:
                journal.finish("FAILED")


def conclude(
    workspace: Workspace, name: str, kind: Kind, log: RunLog | None, trained: FinetuneReport, measured: ModelReport
) -> None:
    """Tell what came of it. A model that is better becomes the champion as soon as MLflow has all this, unless another
    one became it since the models were compared."""
    commit_stages(workspace, [f"{stage}@{name}" for stage in jobs.stages_of(kind)])
    if log is None:
        return
    journal = log.journal
    journal.metrics(measured.metrics(), step=trained.facts.steps)
    decision = {"gate": measured.found["outcome"], "reason": measured.found["reason"]}
    journal.tags(decision)
    for path in (evaluate_model.metrics_file(workspace, name), trained.directory / finetune.FILE):
        journal.file(path)
    card = evaluate_model.card_file(workspace, name).read_text("utf-8")
    journal.text("model.md", card)
    journal.model(trained.directory, jobs.loaded(trained.directory, kind))
    journal.register(name, card, decision)
    if measured.passed:
        champion = re.fullmatch(rf"mlflow:{re.escape(name)}@([0-9]+)", measured.against)
        journal.promote(name, champion[1] if champion else None)


def report_of(
    workspace: Workspace,
    name: str,
    kind: Kind,
    key: str,
    made: Made,
    trained: FinetuneReport,
    measured: ModelReport,
    synced: Sequence[tracking.Synced],
    *,
    away: str = "",
    seconds: float,
) -> dict[str, Any]:
    """What `snapdex finetune ... --json` prints. `away`: why MLflow could not be told."""
    told = next((each for each in synced if each.key == key), None) or tracking.synced(workspace, key)
    if told and away:
        told = replace(told, problem=away)
    return {
        "model": name,
        "directory": str(trained.directory),
        jobs.stages_of(kind)[0]: made.to_json(),
        "training": trained.to_json(),
        "evaluation": measured.to_json(),
        "passed": measured.passed,
        "tracking": told.to_json() if told else None,
        "seconds": round(seconds, 1),
    }


def refuse_if_worse(report: dict[str, Any]) -> None:
    """Raise `GateFailed` where the model was not found to be better than the one in use."""
    found = report["evaluation"]
    if not found["passed"]:
        raise GateFailed(
            f"{report['model']} is not promoted ({found['outcome']}): {found['reason']}",
            hint=f"read data/metrics/models/{report['model']}.md; what is in use is unchanged",
        )
