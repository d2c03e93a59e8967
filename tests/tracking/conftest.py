"""A real MLflow store in SQLite for all tests of tracking, and one small model."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.files import Workspace
from tests.small_models import sentence_model
from tests.tracking.client import client_of


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return client_of(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A saved model, and the same in memory."""
    from sentence_transformers import SentenceTransformer

    directory = sentence_model(tmp_path_factory.mktemp("small") / "model")
    (directory / "README.md").write_text("# Its card\n", "utf-8")
    return directory, SentenceTransformer(str(directory), device="cpu")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def mlflow_uri(client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    return str(client.tracking_uri)
