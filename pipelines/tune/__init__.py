"""tune: a language model that has learned a behaviour from examples.

    data/examples/NAME + base model  -->  data/models/NAME

What `pipelines.finetune` does for embedding models, and as it does it: training goes on from its last whole checkpoint
and ends with the same weights as without an interruption, and the model is there whole or not at all.

- `trainer.py`: the training itself, with TRL and PEFT
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.config import Config
from pipelines.errors import ConfigError
from pipelines.examples import HELD_OUT, TRAIN, Kind, examples_folder, read_examples, section_of
from pipelines.files import Workspace, atomic_write
from pipelines.finetune import FinetuneReport, Log, already_made, hashes_of, make, training_libraries
from pipelines.finetune.log import Unlogged
from pipelines.model import canonical_json, digest
from pipelines.models import Generator, resolve_generator
from pipelines.models.folder import ADAPTER
from pipelines.progress import Progress, Silent

if TYPE_CHECKING:
    from pipelines.finetune.facts import Trained

__all__ = ["base_of", "fingerprint", "run"]

JUDGING = {
    "metric",
    "judged",
    "answer_tokens",
    "general",
    "general_chats",
    "forgetting",
}  # parameters that the weights do not depend on
DATA = {"data", "evaluation", "checks", "held_out", "base"}  # and those that are hashed by what they name


def base_of(config: Config, workspace: Workspace, kind: Kind) -> Generator:
    """The model that training begins with. Raises `ConfigError` for one without weights here."""
    name = section_of(config, kind).base or config.generate.model
    model = resolve_generator(config.generate.with_model(name), workspace)
    if model.directory is None:
        raise ConfigError(f"{name} cannot be fine-tuned: it has no weights here", hint=f"set {kind}.base to path:DIR")
    return model


def fingerprint(config: Config, workspace: Workspace, name: str, kind: Kind) -> str:
    """64 hex digits over everything that decides the weights: examples, base and parameters."""
    hashes = hashes_of(examples_folder(workspace, name), f"python -m pipelines.examples --model {name} --kind {kind}")
    params = section_of(config, kind).model_dump(exclude=JUDGING | DATA)
    base = base_of(config, workspace, kind)
    return digest("tune 1", kind, *hashes, base.revision, canonical_json(params)).hex()


def run(
    config: Config,
    workspace: Workspace,
    name: str,
    kind: Kind,
    *,
    log: Log | None = None,
    progress: Progress | None = None,
) -> FinetuneReport:
    """Train `data/models/NAME` from its examples; nothing to do where it was made of the same things before.

    kind: `sft` or `dpo`, the section with the parameters. Raises `InputError` where there is nothing to learn from.
    """
    began = time.perf_counter()
    settings, base = section_of(config, kind), base_of(config, workspace, kind)
    made_of = fingerprint(config, workspace, name, kind)
    if (known := already_made(workspace, name, made_of)) is not None:
        return known

    with training_libraries():
        from pipelines.tune.trainer import train

    def training(place: Path) -> "Trained":
        files = (examples_folder(workspace, name) / file for file in (TRAIN, HELD_OUT))
        examples, held_out = (list(read_examples(path)) for path in files)
        threads = config.generate.threads
        trained = train(base, examples, held_out, settings, threads, place, log or Unlogged(), progress or Silent())
        _name_base(trained.directory, base)
        return trained

    return make(workspace, name, made_of, base, settings.model_dump(mode="json"), training, began=began)


def _name_base(made: Path, base: Generator) -> None:
    """Let an adapter name its base as our parameters do, instead of by a directory of this machine."""
    path = made / ADAPTER
    if path.exists():
        config = json.loads(path.read_text("utf-8"))
        atomic_write(path, json.dumps(config | {"base_model_name_or_path": base.name}, indent=1) + "\n")
