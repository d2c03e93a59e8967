"""Two small models, taught once: one that reads and answers tersely, and the same fine-tuned to answer in JSON."""

from pathlib import Path

import pytest
import torch

from tests.compare.copying import formed, taught, terse


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return taught(tmp_path_factory.mktemp("reader"), terse, steps=200)


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory, reader: Path) -> Path:
    return taught(tmp_path_factory.mktemp("tuned"), formed, steps=200, base=reader)
