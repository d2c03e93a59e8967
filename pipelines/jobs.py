"""What can be fine-tuned: for each kind of model, its three stages and what MLflow shall know of them.

embedding    pairs     finetune   evaluate_model
sft, dpo     examples  tune       evaluate_behaviour
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from pipelines import evaluate_behaviour, evaluate_model, finetune, tune
from pipelines.config import MODEL_NAME, Config
from pipelines.errors import ConfigError
from pipelines.evaluate_model import ModelReport
from pipelines.examples import examples_folder, section_of
from pipelines.examples import stage as examples
from pipelines.files import Workspace
from pipelines.finetune import FinetuneReport, Log
from pipelines.ingest import locked, with_pinned_model
from pipelines.models import pinned, resolve_model
from pipelines.pairs import pairs_folder
from pipelines.pairs import stage as pairs
from pipelines.progress import Progress

Kind = Literal["embedding", "sft", "dpo"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Made(Protocol):
    """What the first stage reports."""

    @property
    def train(self) -> int: ...

    @property
    def held_out(self) -> int: ...

    def to_json(self) -> dict[str, Any]: ...


def check_name(name: str) -> None:
    """Raise `ConfigError` for what cannot be the name of a model."""
    if not re.fullmatch(MODEL_NAME, name):
        raise ConfigError(
            f"a model cannot be named {name!r}", hint="use small letters, digits and -._, 63 at most, such as triage-2"
        )


def stages_of(kind: Kind) -> tuple[str, str, str]:
    """Their names in `dvc.yaml`."""
    return (
        ("pairs", "finetune", "evaluate_model") if kind == "embedding" else ("examples", "tune", "evaluate_behaviour")
    )


def data_folder(workspace: Workspace, name: str, kind: Kind) -> Path:
    return pairs_folder(workspace, name) if kind == "embedding" else examples_folder(workspace, name)


def with_pinned_models(config: Config, kind: Kind) -> Config:
    """The parameters with the versions that their models have now: the stages of a training agree about them, also
    where an alias moves meanwhile."""
    if kind == "embedding":
        named = {key: pinned(getattr(config.finetune, key), f"finetune.{key}") for key in ("base", "teacher")}
        return with_pinned_model(config.model_copy(update={"finetune": config.finetune.model_copy(update=named)}))
    section = getattr(config, kind)
    generate = config.generate.with_model(pinned(config.generate.model, "generate.model"))
    base = {"base": pinned(section.base, f"{kind}.base")}
    return config.model_copy(update={"generate": generate, kind: section.model_copy(update=base)})


def make(config: Config, workspace: Workspace, name: str, kind: Kind, *, progress: Progress | None = None) -> Made:
    """What is learned from. Pairs are made while no run changes the manifests that they come from."""
    check_name(name)
    if kind != "embedding":
        return examples.run(config, workspace, name, kind, progress=progress)
    with locked(workspace):
        return pairs.run(config, workspace, name, progress=progress)


def train(
    config: Config,
    workspace: Workspace,
    name: str,
    kind: Kind,
    *,
    log: Log | None = None,
    progress: Progress | None = None,
) -> FinetuneReport:
    """`data/models/NAME`."""
    if kind == "embedding":
        return finetune.run(config, workspace, name, log=log, progress=progress)
    return tune.run(config, workspace, name, kind, log=log, progress=progress)


def measure(
    config: Config, workspace: Workspace, name: str, kind: Kind, *, progress: Progress | None = None
) -> ModelReport:
    """`data/metrics/models/NAME.json`, which says whether the model is promoted."""
    if kind == "embedding":
        return evaluate_model.run(config, workspace, name, progress=progress)
    return evaluate_behaviour.run(config, workspace, name, kind, progress=progress)


def made_of(config: Config, workspace: Workspace, name: str, kind: Kind) -> tuple[str, str]:
    """What decides the weights, and what decides the judgement."""
    if kind == "embedding":
        return finetune.fingerprint(config, workspace, name), evaluate_model.conditions(config, workspace, name)
    return (
        tune.fingerprint(config, workspace, name, kind),
        evaluate_behaviour.conditions(config, workspace, name, kind),
    )


def parameters(config: Config, workspace: Workspace, name: str, kind: Kind) -> Mapping[str, Any]:
    """Those of the training, as MLflow shows them; with the models that take part."""
    if kind == "embedding":
        base, serving = finetune.base_of(config, workspace), resolve_model(config.embed, workspace)
        told = {f"finetune.{key}": value for key, value in config.finetune.model_dump().items()}
        told |= {f"pairs.{key}": value for key, value in config.pairs.model_dump().items()}
        return {**told, "base": base.name, "base_revision": base.revision, "serving": serving.name}
    begun, serves = tune.base_of(config, workspace, kind), evaluate_behaviour.serving_of(config, workspace, kind)
    settings = section_of(config, kind, name).model_dump(exclude=tune.unused(begun))
    told = {f"{kind}.{key}": value for key, value in settings.items()}
    return {**told, "base": begun.name, "base_revision": begun.revision, "serving": serves.name}


def loaded(directory: Path, kind: Kind) -> Any:
    """The model as MLflow wants to see it; of a language model it reads the files alone."""
    return finetune.opened(directory) if kind == "embedding" else None
