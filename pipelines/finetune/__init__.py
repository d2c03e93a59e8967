"""finetune: an embedding model that has learned from pairs.

    data/pairs/NAME + base model  -->  data/models/NAME

Training goes on from its last whole checkpoint after any interruption and ends with the same weights as without one.
The model is there whole or not at all.

- `trainer.py`: the training itself, with sentence-transformers
- `checkpoints.py`: which checkpoint is whole
- `teacher.py`: scores of a stronger model, to be learned
- `loop.py`: what it has in common with the training of a language model
- `facts.py`: what `data/models/NAME/training.json` says
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.config import Config
from pipelines.errors import ConfigError, InputError
from pipelines.failpoints import failpoint
from pipelines.files import Workspace, file_sha256, sync_directory
from pipelines.finetune.facts import FILE, Facts, Trained, read_facts, write_facts
from pipelines.finetune.log import Log, Unlogged
from pipelines.model import canonical_json, digest
from pipelines.models import EmbeddingModel, Generator, resolve_model, resolve_reranker
from pipelines.pairs import HELD_OUT, TRAIN, check_for, pairs_folder, read_pairs, refuse
from pipelines.progress import Progress, Silent

__all__ = [
    "FILE",
    "Facts",
    "FinetuneReport",
    "Log",
    "Trained",
    "already_made",
    "base_of",
    "fingerprint",
    "hashes_of",
    "make",
    "model_folder",
    "opened",
    "read_facts",
    "run",
    "training_libraries",
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
    model = resolve_model(config.base, workspace, key=config.base_key)
    if model.directory is None:
        raise ConfigError(
            f"{config.base.model} cannot be fine-tuned: it has no weights here",
            hint="set finetune.base, for instance to minilm",
        )
    return model


def fingerprint(config: Config, workspace: Workspace, name: str) -> str:
    """64 hex digits over everything that decides the weights: pairs, models and parameters."""
    hashes = hashes_of(pairs_folder(workspace, name), f"python -m pipelines.pairs --model {name}")
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
    if (known := already_made(workspace, name, made_of)) is not None:
        return known
    files = [pairs_folder(workspace, name) / file for file in (TRAIN, HELD_OUT)]
    refuse(files[0], check_for(files[0], base, against=files[1]))

    with training_libraries():
        from pipelines.finetune.trainer import train

    def training(place: Path) -> Trained:
        pairs, held_out = (list(read_pairs(file)) for file in files)
        return train(base, pairs, held_out, config, workspace, place, log or Unlogged(), progress or Silent())

    return make(workspace, name, made_of, base, config.finetune.model_dump(mode="json"), training, began=began)


def hashes_of(folder: Path, command: str) -> list[str]:
    """Those of the rows to learn and of the rows held out. command: what makes them where they are not there."""
    for path in (folder / TRAIN, folder / HELD_OUT):
        if not path.exists():
            raise InputError(f"there is no {path}", hint=f"make it with: {command}")
    return [file_sha256(folder / TRAIN), file_sha256(folder / HELD_OUT)]


def already_made(workspace: Workspace, name: str, made_of: str) -> FinetuneReport | None:
    """The model, where it is there and was made of the same things; what a kill after its last step left is removed."""
    began = time.perf_counter()
    target = model_folder(workspace, name)
    known = read_facts(target)
    if known is None or known.fingerprint != made_of:
        return None
    shutil.rmtree(_checkpoints(workspace, name, made_of), ignore_errors=True)
    return FinetuneReport(target, False, known, time.perf_counter() - began)


@contextmanager
def training_libraries() -> Iterator[None]:
    """Around their import. Raises `ConfigError` where one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(f"training needs {error.name}", hint="pip install 'snapdex[train]'") from error


def make(
    workspace: Workspace,
    name: str,
    made_of: str,
    base: EmbeddingModel | Generator,
    parameters: Mapping[str, Any],
    train: Callable[[Path], Trained],
    *,
    began: float,
) -> FinetuneReport:
    """Train with checkpoints in a directory that `train` is given, and put the model in its place.

    began: by `time.perf_counter()`.
    """
    place = _checkpoints(workspace, name, made_of)
    _make_room(base.directory, place)
    trained = train(place)
    facts = Facts(
        name=name,
        fingerprint=made_of,
        base=base.name,
        base_revision=base.revision,
        parameters=dict(parameters),
        pairs=trained.learned,
        steps=trained.steps,
        best_step=trained.best_step,
        history=trained.history,
        seconds=round(trained.seconds, 1),
    )
    target = model_folder(workspace, name)
    _put(trained.directory, target, facts)
    shutil.rmtree(place)
    return FinetuneReport(target, True, facts, time.perf_counter() - began)


def _checkpoints(workspace: Workspace, name: str, made_of: str) -> Path:
    """Where training keeps its checkpoints: another one for other weights, and only one of each model."""
    place = workspace.state / "finetune" / name / made_of[:16]
    for other in place.parent.glob("*") if place.parent.is_dir() else ():
        if other != place:
            shutil.rmtree(other)
    return place


def _put(made: Path, target: Path, facts: Facts) -> None:
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


def _make_room(base: Path | None, place: Path) -> None:
    """Make the directory of the checkpoints. Raises `InputError` where the disk is too full for the model `base`.

    base: None for one at a server.
    """
    place.mkdir(parents=True, exist_ok=True)
    needed = ROOM * sum(path.stat().st_size for path in base.rglob("*.safetensors")) if base else 0
    free = shutil.disk_usage(place).free
    if free < needed:
        raise InputError(
            f"training needs {needed / 2**20:.0f} MiB in {place}, {free / 2**20:.0f} are free", hint="make room"
        )


def opened(directory: Path) -> Any:
    """The model in memory, as sentence-transformers has it; loads torch."""
    from pipelines.finetune.trainer import open_model

    return open_model(directory)
