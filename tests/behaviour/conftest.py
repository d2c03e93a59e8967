"""What the tests of behaviour share: a small model, and what became of it by fine-tuning, made once."""

import shutil
from pathlib import Path

import pytest
import torch

from pipelines import tune
from pipelines.examples import HELD_OUT, TRAIN, examples_folder
from pipelines.files import Workspace
from tests.behaviour.world import chats, config_of, small_model, talk, write_rows


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return small_model(tmp_path_factory.mktemp("causal") / "base")


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """A workspace whose model `house` has learned to answer in JSON; tests copy it."""
    root = tmp_path_factory.mktemp("taught")
    shutil.copytree(base, root / "base")
    folder = examples_folder(Workspace(root), "house")
    rows = chats()
    write_rows(folder / TRAIN, rows[:160])
    write_rows(folder / HELD_OUT, rows[160:200])
    (root / "general.txt").write_text("\n".join(talk()), "utf-8")
    tune.run(config_of(), Workspace(root), "house", "sft")
    return root


@pytest.fixture
def workspace(taught: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(taught, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")
