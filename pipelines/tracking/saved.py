"""A model as MLflow keeps it: its files beside an `MLmodel` that says how they are opened."""

import filecmp
import importlib.metadata
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.models.folder import check_folder, shaping_files
from pipelines.models.hosted import HOSTED
from pipelines.tracking.saved_causal import save_causal, save_hosted

PINNED = ("sentence-transformers", "transformers", "torch")
WRITING = ("transformers", "torch", "accelerate")  # what a language model needs
CARD = "README.md"


def save(directory: Path, loaded: Any, target: Path, requirements: Sequence[str] | None = None) -> None:
    """Make `target`: an MLflow model with the flavours `sentence_transformers` and `python_function`.

    directory: the model as it was saved; its files come into `target` byte for byte, so both have one embedding space,
    and nothing that is not data comes with them: no pickle of an optimizer. loaded: the same model in memory, which
    MLflow describes. requirements: pinned packages; without them MLflow would find out in a process of 20 seconds.

    Raises `InputError` for a directory that Snapdex would refuse to open.
    """
    if (directory / HOSTED).is_file():
        save_hosted(directory, target)
        return
    if not (directory / "modules.json").is_file():
        save_causal(directory, target, list(requirements or pinned_requirements(WRITING)))
        return
    check_folder(directory)
    wanted = [*shaping_files(directory), *([CARD] if (directory / CARD).is_file() else [])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's own code, on import
        import mlflow.sentence_transformers

        mlflow.sentence_transformers.save_model(
            loaded, str(target), pip_requirements=list(requirements or pinned_requirements())
        )
    inner = target / mlflow.sentence_transformers.SENTENCE_TRANSFORMERS_DATA_PATH
    for path in files_below(inner):
        if path.relative_to(inner).as_posix() not in wanted:
            path.unlink()
    for name in wanted:
        if not (inner / name).is_file() or not filecmp.cmp(directory / name, inner / name, shallow=False):
            (inner / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / name, inner / name)
    for path in files_below(target):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def pinned_requirements(names: Sequence[str] = PINNED) -> list[str]:
    """The installed releases, without the part after `+` that names a build: an index has only the release."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]


def files_below(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())
