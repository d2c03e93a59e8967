"""Fine-tuning an embedding model, from judgements to a registered model: pairs, finetune, evaluate_model, register.

The stages in order, as plain functions; `flows/finetune.py` runs the same ones as Prefect tasks. What happens goes into
a journal, which `pipelines.tracking` sends to MLflow when it is there.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipelines import evaluate_model, finetune, tracking
from pipelines.config import Config
from pipelines.errors import ConflictError, GateFailed
from pipelines.evaluate_model import ModelReport
from pipelines.files import Workspace, file_sha256, flocked
from pipelines.finetune import FinetuneReport, base_of
from pipelines.ingest import locked, with_pinned_model
from pipelines.model import digest
from pipelines.models import pinned, resolve_model
from pipelines.pairs import HELD_OUT, TRAIN, pairs_folder
from pipelines.pairs import stage as pairs
from pipelines.pairs.stage import PairsReport
from pipelines.progress import Progress
from pipelines.record import commit_stages
from pipelines.tracking import Journal
from pipelines.tracking.provenance import provenance

STAGES = ("pairs", "finetune", "evaluate_model")


def run(
    config: Config, workspace: Workspace, name: str, *, prefect_run: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """The whole job in this process; the model is registered as `candidate`, and as `champion` if it is better.

    Interrupted, the same command goes on; where nothing has changed it does nothing. Raises what a stage raises, and
    `ConflictError` when this model is being trained already. A model that is not better is no error here: see
    `refuse_if_worse`.
    """
    began = time.monotonic()
    with turn(workspace, name):
        config = with_pinned_models(config)
        made = make_pairs(config, workspace, name, progress=progress)
        key = journal_key(config, workspace, name)
        with open_run(config, workspace, name, key, made, prefect_run=prefect_run) as log:
            trained = finetune.run(config, workspace, name, log=log, progress=progress)
            measured = evaluate_model.run(config, workspace, name, progress=progress)
            conclude(workspace, name, log, trained, measured)
    synced = tracking.sync(workspace, progress=progress) if tracking.is_configured() else []
    return report_of(workspace, name, key, made, trained, measured, synced, seconds=time.monotonic() - began)


@contextmanager
def turn(workspace: Workspace, name: str) -> Iterator[None]:
    """One training of a model at a time. The kernel frees the lock of a killed one."""
    place = workspace.state / "finetune"
    place.mkdir(parents=True, exist_ok=True)
    with (place / f"{name}.lock").open("w") as file:
        if not flocked(file):
            raise ConflictError(f"{name} is being trained by another process", hint="wait for it to end")
        yield


def with_pinned_models(config: Config) -> Config:
    """The parameters with the versions that their models have now: the stages of a training agree about them, also
    where an alias moves meanwhile."""
    named = {key: pinned(getattr(config.finetune, key), f"finetune.{key}") for key in ("base", "teacher")}
    return with_pinned_model(config.model_copy(update={"finetune": config.finetune.model_copy(update=named)}))


def make_pairs(config: Config, workspace: Workspace, name: str, *, progress: Progress | None = None) -> PairsReport:
    """The stage `pairs`, while no run changes the manifests that it reads."""
    with locked(workspace):
        return pairs.run(config, workspace, name, progress=progress)


@dataclass(frozen=True)
class RunLog:
    """What training tells goes to the journal, with what the machine does at that time."""

    journal: Journal

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.journal.metrics({**values, **tracking.system_metrics()}, step)


def journal_key(config: Config, workspace: Workspace, name: str) -> str:
    """The same for the same training, measured under the same conditions: those before it begins, since a sync may
    move the champion that it is compared with."""
    made_of = digest(finetune.fingerprint(config, workspace, name), evaluate_model.conditions(config, workspace, name))
    return f"{name}-{made_of.hex()[:16]}"


@contextmanager
def open_run(
    config: Config, workspace: Workspace, name: str, key: str, made: PairsReport, *, prefect_run: str | None
) -> Iterator[RunLog | None]:
    """The journal of this training, with where everything came from; None where all of it was told before."""
    commit_stages(workspace, [f"pairs@{name}"])
    if tracking.is_ended(workspace, key):
        yield None
        return
    _give_up_others(workspace, name, key)
    data = f"data/pairs/{name}"
    came_from = provenance(
        workspace,
        index=config.index.name,
        version=made.version,
        snapshot=made.snapshot,
        data=data,
        prefect_run=prefect_run,
    )
    base, serving = base_of(config, workspace), resolve_model(config.embed, workspace)
    with tracking.open_journal(workspace, key, experiment=f"{config.index.name} models", name=name) as journal:
        journal.params({f"finetune.{field}": value for field, value in config.finetune.model_dump().items()})
        journal.params({f"pairs.{field}": value for field, value in config.pairs.model_dump().items()})
        journal.params({"base": base.name, "base_revision": base.revision, "serving": serving.name})
        journal.tags(came_from)
        for file, rows, context in ((TRAIN, made.train, "training"), (HELD_OUT, made.held_out, "validation")):
            sha256 = file_sha256(pairs_folder(workspace, name) / file)
            tags = {"dvc_md5": came_from.get("dvc_md5", ""), "sha256": sha256}
            journal.dataset(f"{data}/{file}", sha256[:32], rows, context, tags)
        journal.text("pairs.json", json.dumps(made.to_json(), indent=1, ensure_ascii=False))
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
    workspace: Workspace, name: str, log: RunLog | None, trained: FinetuneReport, measured: ModelReport
) -> None:
    """Tell what came of it. A model that is better becomes the champion as soon as MLflow has all this, unless another
    one became it since the models were compared."""
    commit_stages(workspace, [f"{stage}@{name}" for stage in STAGES])
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
    journal.model(trained.directory, finetune.opened(trained.directory))
    journal.register(name, card, decision)
    if measured.passed:
        champion = re.fullmatch(rf"mlflow:{re.escape(name)}@([0-9]+)", measured.against)
        journal.promote(name, champion[1] if champion else None)


def report_of(
    workspace: Workspace,
    name: str,
    key: str,
    made: PairsReport,
    trained: FinetuneReport,
    measured: ModelReport,
    synced: Sequence[tracking.Synced],
    *,
    seconds: float,
) -> dict[str, Any]:
    """What `snapdex finetune embedding --json` prints."""
    told = next((each for each in synced if each.key == key), None) or tracking.synced(workspace, key)
    return {
        "model": name,
        "directory": str(trained.directory),
        "pairs": made.to_json(),
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
            hint=f"read data/metrics/models/{report['model']}.md; the index is unchanged",
        )
