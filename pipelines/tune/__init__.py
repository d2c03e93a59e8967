"""tune: a language model that has learned a behaviour from examples.

    data/examples/NAME + base model  -->  data/models/NAME

What `pipelines.finetune` does for embedding models, and as it does it: training goes on from its last whole checkpoint
and ends with the same weights as without an interruption, and the model is there whole or not at all. A base model at a
server is trained there; what lies in `data/models/NAME` then says what the server calls the result.

- `trainer.py`: the training itself, with TRL and PEFT
- `hosted.py`: the training at a server, by way of `server.py`, its files and fine-tuning jobs
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipelines.config import BehaviourConfig, Config
from pipelines.examples import HELD_OUT, TRAIN, Kind, examples_folder, read_examples, section_of
from pipelines.files import Workspace, atomic_write
from pipelines.finetune import FinetuneReport, Log, Trained, already_made, hashes_of, make, training_libraries
from pipelines.finetune.log import Unlogged
from pipelines.model import canonical_json, digest
from pipelines.models import Generator, resolve_generator
from pipelines.models.folder import ADAPTER
from pipelines.progress import Progress, Silent
from pipelines.tune import hosted

__all__ = ["base_of", "fingerprint", "run", "unused"]

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
    """The model that training begins with, here or at a server. Raises `ConfigError` where none is named."""
    if base := section_of(config, kind).base:
        return resolve_generator(config.generate.with_model(base), workspace, key=f"{kind}.base")
    return resolve_generator(config.generate, workspace)


def unused(base: Generator) -> set[str]:
    """The parameters of a section that the training of such a model knows nothing of."""
    return set(hosted.NOT_SENT) if base.kind == "endpoint" else set()


def fingerprint(config: Config, workspace: Workspace, name: str, kind: Kind) -> str:
    """64 hex digits over everything that decides the weights: examples, base and parameters."""
    hashes = hashes_of(examples_folder(workspace, name), f"python -m pipelines.examples --model {name} --kind {kind}")
    base = base_of(config, workspace, kind)
    if base.kind == "endpoint":
        return hosted.fingerprint(config, examples_folder(workspace, name), kind, base)
    params = section_of(config, kind).model_dump(exclude=JUDGING | DATA)
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

    kind: `sft` or `dpo`, the section with the parameters. Raises `InputError` where there is nothing to learn from, and
    where a server did not do it, `ServiceUnavailable` where it does not answer.
    """
    began = time.perf_counter()
    settings, base = section_of(config, kind), base_of(config, workspace, kind)
    made_of = fingerprint(config, workspace, name, kind)
    if (known := already_made(workspace, name, made_of)) is not None:
        return known
    examples = examples_folder(workspace, name)
    train: Callable[[Path, Log, Progress], Trained]
    if base.kind == "endpoint":
        parameters = hosted.parameters(settings, kind)
        train = partial(hosted.train, base, config, kind, name, made_of, examples)
    else:
        parameters = settings.model_dump(mode="json")
        train = partial(_train_here, base, settings, config.generate.threads, examples)

    def training(place: Path) -> Trained:
        return train(place, log or Unlogged(), progress or Silent())

    return make(workspace, name, made_of, base, parameters, training, began=began)


def _train_here(
    base: Generator,
    settings: BehaviourConfig,
    threads: int,
    examples: Path,
    place: Path,
    log: Log,
    progress: Progress,
) -> Trained:
    with training_libraries():
        from pipelines.tune.trainer import train
    rows, held_out = (list(read_examples(examples / file)) for file in (TRAIN, HELD_OUT))
    trained = train(base, rows, held_out, settings, threads, place, log, progress)
    _name_base(trained.directory, base)
    return trained


def _name_base(made: Path, base: Generator) -> None:
    """Let an adapter name its base as our parameters do, instead of by a directory of this machine."""
    path = made / ADAPTER
    if path.exists():
        config = json.loads(path.read_text("utf-8"))
        atomic_write(path, json.dumps(config | {"base_model_name_or_path": base.name}, indent=1) + "\n")
