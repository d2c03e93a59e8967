"""finetune: an embedding model that has learned from pairs.

    data/pairs/NAME + base model  -->  data/models/NAME

Training goes on from its last whole checkpoint after any interruption and ends with the same weights as without one.
The model is there whole or not at all.

- `trainer.py`: the training itself, with sentence-transformers
- `checkpoints.py`: which checkpoint is whole
- `teacher.py`: scores of a stronger model, to be learned
- `teller.py`: what is told while it goes on
- `facts.py`: what `data/models/NAME/training.json` says
"""

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.config import Config
from pipelines.errors import ConfigError, InputError
from pipelines.failpoints import failpoint
from pipelines.files import Workspace, file_sha256, sync_directory
from pipelines.finetune.facts import FILE, Facts, read_facts, write_facts
from pipelines.finetune.log import Log, Unlogged
from pipelines.model import canonical_json, digest
from pipelines.models import EmbeddingModel, resolve_model, resolve_reranker
from pipelines.pairs import HELD_OUT, TRAIN, check_for, pairs_folder, read_pairs, refuse
from pipelines.progress import Progress, Silent

__all__ = [
    "FILE",
    "Facts",
    "FinetuneReport",
    "Log",
    "base_of",
    "checkpoints_folder",
    "fingerprint",
    "make_room",
    "model_folder",
    "opened",
    "put",
    "read_facts",
    "run",
]

ROOM = 6  # times the weights: two checkpoints with the optimizer's state, and the model


@dataclass(frozen=True)
class FinetuneReport:
    """What became of it. `trained`: False where the model was there already, made of the same things."""

    directory: Path
    trained: bool
    facts: Facts
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {"trained": self.trained, "seconds": self.seconds, **asdict(self.facts)}


def model_folder(workspace: Workspace, name: str) -> Path:
    return workspace.root / "data" / "models" / name


def base_of(config: Config, workspace: Workspace) -> EmbeddingModel:
    """The model that training begins with. Raises `ConfigError` for one without weights."""
    model = resolve_model(config.base, workspace)
    if model.directory is None:
        raise ConfigError(
            f"{config.base.model} cannot be fine-tuned: it has no weights here",
            hint="set finetune.base, for instance to minilm",
        )
    return model


def fingerprint(config: Config, workspace: Workspace, name: str) -> str:
    """64 hex digits over everything that decides the weights: pairs, models and parameters."""
    hashes = []
    for file in (TRAIN, HELD_OUT):
        path = pairs_folder(workspace, name) / file
        if not path.exists():
            raise InputError(f"there is no {path}", hint=f"make it with: python -m pipelines.pairs --model {name}")
        hashes.append(file_sha256(path))
    revisions = [base_of(config, workspace).revision]
    if config.finetune.teacher:
        revisions.append(resolve_reranker(config.finetune.teacher, workspace).revision)
    params = config.finetune.model_dump(exclude={"base", "teacher"})
    return digest("finetune 1", *hashes, *revisions, canonical_json(params)).hex()


def run(
    config: Config,
    workspace: Workspace,
    name: str,
    *,
    log: Log | None = None,
    progress: Progress | None = None,
) -> FinetuneReport:
    """Train `data/models/NAME` from its pairs; nothing to do where it was made of the same things before.

    Raises `InputError` for pairs with errors, before anything is trained.
    """
    began = time.perf_counter()
    base = base_of(config, workspace)
    made_of = fingerprint(config, workspace, name)
    target = model_folder(workspace, name)
    known = read_facts(target)
    if known is not None and known.fingerprint == made_of:
        shutil.rmtree(checkpoints_folder(workspace, name, made_of), ignore_errors=True)  # of a kill after the last step
        return FinetuneReport(target, False, known, time.perf_counter() - began)
    train, held_out = (pairs_folder(workspace, name) / file for file in (TRAIN, HELD_OUT))
    refuse(train, check_for(train, base, against=held_out))
    place = checkpoints_folder(workspace, name, made_of)
    make_room(base.directory, place)

    try:
        from pipelines.finetune.trainer import train as training  # torch
    except ModuleNotFoundError as error:
        raise ConfigError(f"training needs {error.name}", hint="pip install 'snapdex[train]'") from error

    trained = training(
        base,
        list(read_pairs(train)),
        list(read_pairs(held_out)),
        config,
        workspace,
        place,
        log or Unlogged(),
        progress or Silent(),
    )
    facts = Facts(
        name=name,
        fingerprint=made_of,
        base=base.name,
        base_revision=base.revision,
        parameters=config.finetune.model_dump(mode="json"),
        pairs=trained.pairs,
        steps=trained.steps,
        best_step=trained.best_step,
        history=trained.history,
        seconds=round(trained.seconds, 1),
    )
    put(trained.directory, target, facts)
    shutil.rmtree(place)
    return FinetuneReport(target, True, facts, time.perf_counter() - began)


def checkpoints_folder(workspace: Workspace, name: str, made_of: str) -> Path:
    """Where training keeps its checkpoints: another one for other weights, and only one of each model."""
    place = workspace.state / "finetune" / name / made_of[:16]
    for other in place.parent.glob("*") if place.parent.is_dir() else ():
        if other != place:
            shutil.rmtree(other)
    return place


def put(made: Path, target: Path, facts: Facts) -> None:
    """The whole model in the place of the old one."""
    write_facts(made, facts)
    failpoint("finetune.saved")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    failpoint("finetune.removed")
    shutil.move(made, target)
    sync_directory(target.parent)
    failpoint("finetune.put")


def make_room(base: Path | None, place: Path) -> None:
    """Make the directory of the checkpoints. Raises `InputError` where the disk is too full for the model `base`."""
    assert base is not None
    place.mkdir(parents=True, exist_ok=True)
    needed = ROOM * sum(path.stat().st_size for path in base.rglob("*.safetensors"))
    free = shutil.disk_usage(place).free
    if free < needed:
        raise InputError(
            f"training needs {needed / 2**20:.0f} MiB in {place}, {free / 2**20:.0f} are free", hint="make room"
        )


def opened(directory: Path) -> Any:
    """The model in memory, as sentence-transformers has it; loads torch."""
    from pipelines.finetune.trainer import open_model

    return open_model(directory)
