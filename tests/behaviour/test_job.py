"""From chats to a registered model that others use by name; killed on the way; refused where it forgot too much."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.failpoints import EXIT_CODE
from pipelines.files import Workspace
from pipelines.generate import Message, load_generator
from pipelines.models import resolve_generator
from tests.behaviour.world import SCHEMA, SYSTEM, chats, config_of, preferences, talk, write_rows
from tests.forked import Forks, forks
from tests.index.tcp import free_port

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture
def home(base: Path, tmp_path: Path) -> Path:
    """A workspace with chats without checks of their own, a file of checks, and a model."""
    root = tmp_path / "workspace"
    shutil.copytree(base, root / "base")
    write_rows(root / "chats.jsonl", [{"messages": row["messages"]} for row in chats()[:200]])
    write_rows(root / "preferences.jsonl", preferences()[:150])
    (root / "checks.json").write_text(json.dumps({"json_schema": SCHEMA}), "utf-8")
    (root / "general.txt").write_text("\n".join(talk()), "utf-8")
    section = config_of(data="chats.jsonl", checks="checks.json", held_out=0.2, judged=30).sft
    parameters = config_of().model_dump(mode="json", exclude_defaults=True)
    parameters |= {"index": {"name": "handbook"}, "sft": section.model_dump(mode="json", exclude_defaults=True)}
    parameters["dpo"] = {**parameters["sft"], "data": "preferences.jsonl", "checks": "", "metric": "preferred"}
    parameters["dpo"] |= {"base": "path:data/models/house", "learning_rate": 1e-3, "epochs": 2}
    (root / "params.yaml").write_text(json.dumps(parameters), "utf-8")  # JSON is YAML, too
    return root


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    preload = ["pipelines.tune.trainer", "pipelines.cli.finetune"]
    with forks(preload, tmp_path_factory.mktemp("forks")) as running:
        yield running


@pytest.fixture
def snapdex(programs: Forks, home: Path) -> Callable[..., Any]:
    """The command in `home`: what it printed as JSON, or what it said where it ended otherwise."""

    def run(*words: str, code: int = 0, **environment: str) -> Any:
        ended = programs.run("pipelines.cli", *words, "--json", cwd=home, SNAPDEX_HOME=str(home), **environment)
        assert ended.code == code, ended.stderr
        return json.loads(ended.stdout) if code == 0 else ended.stderr

    return run


def answer(home: Path, model: str, asked: str) -> str:
    config = config_of().generate.model_copy(update={"model": model})
    with load_generator(resolve_generator(config, Workspace(home)), config) as speaker:
        (said,) = speaker.complete([[Message("system", SYSTEM), Message("user", asked)]], 60)
    return said.text


def test_a_model_that_behaves_better_becomes_the_champion_and_is_used_by_name(
    home: Path, mlflow: Any, snapdex: Any
) -> None:
    killed = {"SNAPDEX_FAILPOINT": "finetune.checkpointed"}
    snapdex("finetune", "sft", "house", code=EXIT_CODE, **killed)
    report = snapdex("finetune", "sft", "house")
    assert report["evaluation"]["metrics"]["format"]["after"] >= 0.95
    assert report["examples"]["kind"] == "sft"
    assert report["tracking"]["promotion"]["promoted"]
    (run,) = mlflow.search_runs([mlflow.get_experiment_by_name("handbook models").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["sft.epochs"] == "5"
    assert run.data.metrics["format/after"] == report["evaluation"]["metrics"]["format"]["after"]
    assert run.data.metrics["perplexity/after"] > run.data.metrics["perplexity/before"]
    assert len(mlflow.get_metric_history(run.info.run_id, "loss")) > 5
    names = [each.dataset.name for each in run.inputs.dataset_inputs]
    assert names == ["data/examples/house/train.jsonl", "data/examples/house/held-out.jsonl"]

    said = answer(home, "mlflow:house@champion", "hall: lamp on")
    assert json.loads(said).keys() == {"device", "room", "state"}
    assert said == answer(home, "path:data/models/house", "hall: lamp on")

    again = snapdex("finetune", "sft", "house")
    assert (again["training"]["trained"], again["evaluation"]["measured"]) == (False, False)
    assert len(mlflow.search_model_versions("name = 'house'")) == 1

    polite = snapdex("finetune", "dpo", "polite", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{free_port()}")
    assert polite["evaluation"]["metrics"]["preferred"]["difference"] >= 0.1
    assert polite["tracking"]["run_id"] is None
    assert "does not answer" in polite["tracking"]["problem"]
    (sent,) = snapdex("finetune", "sync")
    assert sent["versions"] == {"polite": "1"}
    assert snapdex("finetune", "sync") == []
    assert [run.info.status for run in mlflow.search_runs([run.info.experiment_id])] == ["FINISHED", "FINISHED"]


def test_mlflow_opens_the_model_by_itself(taught: Path, tmp_path: Path) -> None:
    from pipelines.tracking.saved import save

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        save(taught / "data" / "models" / "house", None, tmp_path / "kept")
        opened = mlflow.pyfunc.load_model(str(tmp_path / "kept"))
        (said,) = opened.predict([f"{SYSTEM}\n\nUser: hall: lamp on\n\nAssistant:"])
    assert '{"device": ' in said
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.suffix in (".bin", ".pkl", ".pt")]


def test_one_that_forgot_too_much_is_not_promoted(mlflow: Any, snapdex: Any) -> None:
    settings = ["sft.forgetting=0.1", "sft.epochs=2"]
    words = [word for each in settings for word in ("--set", each)]
    said = snapdex("finetune", "sft", "house", *words, code=7)
    assert "perplexity of general texts grew" in said
    assert mlflow.get_registered_model("house").aliases.keys() == {"candidate"}


def test_what_is_wrong_with_the_chats_is_said_before_anything_is_trained(home: Path, snapdex: Any) -> None:
    broken = json.loads((home / "chats.jsonl").read_text("utf-8").splitlines()[0])
    broken["messages"][-1]["content"] = '{"device": "toaster"}'
    with (home / "chats.jsonl").open("a") as file:
        file.write(json.dumps(broken) + "\n")
    said = snapdex("finetune", "sft", "house", code=3)
    assert "line 201" in said
    assert not (home / "data" / "models").exists()
    for name in ("../chats", "a b", "Ä"):
        assert "cannot be named" in snapdex("finetune", "sft", name, code=2)
    made = snapdex("finetune", "dpo", "polite", "--dry-run")
    assert (made["kind"], made["train"] + made["held_out"]) == ("dpo", 150)
