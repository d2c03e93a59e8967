"""An index whose model has an alias in MLflow's registry: the alias moves, and every version stays searchable."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import ConfigError
from pipelines.index import open_index
from pipelines.progress import Silent
from tests.index.state import State
from tests.small_models import sentence_model
from tests.tracking.client import client_of

QUERY = "when the gate opens"


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow with two versions of `encoder`; the first is its champion."""
    client = client_of(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    client.create_registered_model("encoder")
    for seed in (1, 2):
        client.create_model_version("encoder", sentence_model(tmp_path / f"model{seed}", seed=seed).as_uri())
    client.set_registered_model_alias("encoder", "champion", "1")
    return client


@pytest.fixture
def fine_tuned(state: State) -> State:
    state.write({"gate.md": "The gate opens at six.\n", "tea.md": "Tea is at four.\n"})
    return state.with_settings("embed.model=mlflow:encoder@champion")


def test_an_old_version_is_searched_after_the_champion_moved(
    state: State, fine_tuned: State, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine_tuned.run()
    registry.set_registered_model_alias("encoder", "champion", "2")
    fine_tuned.run()

    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # both models are in the workspace: a search needs no registry
    with open_index(state.name, workspace=state.root, config=fine_tuned.config) as reader:
        assert reader.search(QUERY, mode="dense", at="v1").hits
        assert reader.search(QUERY, mode="dense", at="v2").hits
    assert [version.model for version in state.versions()] == ["mlflow:encoder@1", "mlflow:encoder@2"]
    with pytest.raises(ConfigError, match="needs a registry"):
        fine_tuned.run()


def test_a_run_keeps_the_model_that_it_began_with(fine_tuned: State, registry: Any) -> None:
    class Meanwhile(Silent):
        def start(self, stage: str, total: int) -> None:
            if stage == "chunk":
                registry.set_registered_model_alias("encoder", "champion", "2")

    fine_tuned.run(progress=Meanwhile())
    assert fine_tuned.version("active").model == "mlflow:encoder@1"
