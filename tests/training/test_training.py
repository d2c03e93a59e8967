"""From judgements to what readers get: trained, registered, promoted, published, and taken back."""

import json
import re
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import operate, training
from pipelines.errors import ConflictError
from pipelines.failpoints import EXIT_CODE
from pipelines.index import open_index
from pipelines.progress import Progress, Silent
from pipelines.prune import prune
from tests.forked import Forks, forks
from tests.index.state import State
from tests.tracking.client import client_of
from tests.training.world import SETTINGS, make_world

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "finetuning.md"
Command = Callable[..., tuple[dict[str, Any] | None, str]]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, databases: Any) -> Iterator[State]:
    """A world whose first version is published, of which each test gets a copy."""
    with databases() as url, pytest.MonkeyPatch.context() as patched:
        patched.setenv("SNAPDEX_DATABASE_URL", url)
        world = make_world(State.make(tmp_path_factory.mktemp("shelf") / "workspace", url))
        world.run()
        yield world


@pytest.fixture
def world(shelf: State, tmp_path: Path, databases: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    with databases(like=shelf.url) as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        copied = shelf.copy(tmp_path / "workspace", url)
        yield copied.with_settings(*settings_of(copied))


def settings_of(world: State) -> list[str]:
    return [*SETTINGS, f"embed.model=path:{world.root / 'base'}"]


def train(world: State, progress: Progress | None = None) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return training.run(world.config, world.workspace, "handbook", progress=progress)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forks(["pipelines.finetune.trainer", "pipelines.cli.finetune"], tmp_path_factory.mktemp("forks")) as running:
        yield running


@pytest.fixture
def command(world: State, programs: Forks) -> Command:
    """`snapdex finetune embedding` with these parameters: what it printed, and what it said."""

    def run(*settings: str, code: int = 0, **environment: str) -> tuple[dict[str, Any] | None, str]:
        words = [word for each in settings for word in ("--set", each)]
        places = {"SNAPDEX_DATABASE_URL": world.url, "SNAPDEX_HOME": str(world.root)}
        ended = programs.run(
            "pipelines.cli", "finetune", "embedding", "--json", *words, cwd=world.root, **places, **environment
        )
        assert ended.code == code, ended.stderr
        return json.loads(ended.stdout) if ended.stdout else None, ended.stderr

    return run


def runs(client: Any) -> list[Any]:
    found = client.get_experiment_by_name("handbook models")
    return list(client.search_runs([found.experiment_id])) if found else []


def nearest(world: State, query: str, at: str) -> str:
    with open_index("handbook", workspace=world.root, config=world.config) as reader:
        return reader.search(query, at=at, mode="dense", k=1).hits[0].document


def committed(root: Path) -> str:
    """The commit of a workspace under git."""
    for words in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "Parameters"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=root, check=True)
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def ways_of_the_documentation(commit: str) -> Iterator[tuple[str, Any]]:
    """What the lines of docs/finetuning.md that begin with `mlflow.` find, by where they lead from."""
    import mlflow

    for start, line in re.findall(
        r"^\| ([^|]+) \| [^|]+ \| `(mlflow\.[^`]+)`", DOCUMENTATION.read_text("utf-8"), re.MULTILINE
    ):
        yield start, eval(line.replace("...", commit).replace('"2"', '"1"'), {"mlflow": mlflow})


def vectors(world: State) -> list[int]:
    """How many there are in each space."""
    with world.connect() as connection:
        schema = connection.execute("SELECT snapdex._schema(id) FROM snapdex.index").fetchone()
        assert schema is not None
        every = (f"SELECT count(*) FROM {schema[0]}.vectors_{space}" for space in (1, 2))
        counted = [connection.execute(each.encode()).fetchone() for each in every]
    return [count for row in counted if row for count in row]


def test_a_better_model_is_promoted_published_and_taken_back_and_a_worse_one_is_not(
    world: State, mlflow: Any, command: Command
) -> None:
    commit = committed(world.root)
    report = train(world)
    assert report["passed"]
    assert report["tracking"]["promotion"]["promoted"]
    (run,) = runs(mlflow)
    assert run.info.status == "FINISHED"
    assert run.data.params["finetune.epochs"] == "10"
    assert run.data.tags["snapdex.version"] == "1"
    golden = report["evaluation"]["corpora"]["golden.jsonl"]
    assert run.data.metrics["golden.jsonl/after"] == pytest.approx(golden["after"])
    assert len(mlflow.get_metric_history(run.info.run_id, "loss")) > 5
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert [each.dataset.name for each in run.inputs.dataset_inputs] == [
        "data/pairs/handbook/train.jsonl",
        "data/pairs/handbook/held-out.jsonl",
    ]

    again = train(world)  # of the same things: nothing is done, and nothing is logged
    assert (again["training"]["trained"], again["evaluation"]["measured"]) == (False, False)
    assert len(runs(mlflow)) == len(mlflow.search_model_versions("name = 'handbook'")) == 1

    fine_tuned = world.with_settings(*SETTINGS, "embed.model=mlflow:handbook@champion")
    published = fine_tuned.run()
    assert (published["version"], published["published"], published["gate"]["outcome"]) == (2, True, "pass")
    assert (published["parsed"], published["embedded"]) == (0, 220)  # only vectors are new
    assert vectors(world) == [220, 220]
    told = dict(ways_of_the_documentation(commit))
    assert list(told["a commit"].run_id) == [run.info.run_id] == [told["a model version"]]
    assert run.data.tags["git_commit"] == commit and run.data.tags["snapdex.snapshot"] == world.version(1).snapshot
    question = json.loads((world.root / "golden.jsonl").read_text("utf-8").splitlines()[0])["question"]
    assert [version.model.partition(":")[0] for version in world.versions()] == ["path", "mlflow"]
    assert world.version("active").model == "mlflow:handbook@1"  # a number, whatever the champion will be
    before, after = (nearest(fine_tuned, question, at) for at in ("v1", "v2"))
    assert nearest(fine_tuned, question, "active") == after != before
    fine_tuned.rollback()
    assert nearest(fine_tuned, question, "active") == before
    fine_tuned.publish(2)

    worse = ("embed.model=mlflow:handbook@champion", "finetune.learning_rate=5", "finetune.patience=9")
    told, said = command(*SETTINGS, *worse, code=7)
    assert "is not promoted (fail)" in said
    assert told and told["evaluation"]["corpora"]["golden.jsonl"]["difference"] < 0
    aliases = {
        name: str(mlflow.get_model_version_by_alias("handbook", name).version) for name in ("champion", "candidate")
    }
    assert aliases == {"champion": "1", "candidate": "2"}
    assert world.version("active").model == "mlflow:handbook@1"

    kept = fine_tuned.with_settings("retention.keep_last=1", "retention.keep_daily=0")
    operate.forget(kept.config, kept.workspace)
    prune(kept.config, kept.workspace)
    assert vectors(world) == [0, 220]  # a retired space goes as a whole


def test_killed_it_goes_on_in_its_run_and_what_will_not_go_on_has_failed(
    world: State, mlflow: Any, command: Command
) -> None:
    settings = settings_of(world)
    command(*settings, "finetune.seed=5", code=EXIT_CODE, SNAPDEX_FAILPOINT="finetune.step:20")
    command(*settings, code=EXIT_CODE, SNAPDEX_FAILPOINT="finetune.step:50")
    assert runs(mlflow) == []
    report, _ = command(*settings)
    assert report
    failed, run = sorted(runs(mlflow), key=lambda run: str(run.info.status))
    assert (failed.info.status, run.info.status) == ("FAILED", "FINISHED")
    steps = [each.step for each in mlflow.get_metric_history(run.info.run_id, "held_out/ndcg_at_10")]
    assert steps == sorted(set(steps))
    assert report["training"]["steps"] == max(steps)
    assert len(mlflow.search_model_versions("name = 'handbook'")) == 1


def test_without_mlflow_the_model_is_there_and_the_log_waits(
    world: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with training.turn(world.workspace, "handbook"), pytest.raises(ConflictError, match="being trained"):
        train(world)
    report = train(world)
    assert report["passed"]
    assert report["tracking"]["run_id"] is None
    client = client_of(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    (synced,) = training.tracking.sync(world.workspace)
    assert synced.promotion and synced.promotion.promoted
    assert len(runs(client)) == 1
    assert training.tracking.sync(world.workspace) == []


def with_champion(world: State, client: Any) -> State:
    """The same, where the model in use is the champion, which knows what the base knows; version 2 is another one."""
    client.create_registered_model("handbook")
    for _ in range(2):
        client.create_model_version("handbook", (world.root / "base").as_uri())
    client.set_registered_model_alias("handbook", "champion", "1")
    base = f"finetune.base=path:{world.root / 'base'}"
    return world.with_settings(*SETTINGS, "embed.model=mlflow:handbook@champion", base)


def test_who_beat_the_champion_takes_its_place_and_the_report_says_so(world: State, mlflow: Any) -> None:
    report = train(with_champion(world, mlflow))
    assert report["evaluation"]["corpora"]["golden.jsonl"]["against"] == "mlflow:handbook@1"
    told = report["tracking"]
    assert told is not None
    assert (told["finished"], told["versions"]) == (True, {"handbook": "3"})
    assert (told["promotion"]["promoted"], told["promotion"]["champion"]) == (True, "3")


def test_a_champion_that_is_set_while_a_model_learns_stays(world: State, mlflow: Any) -> None:
    class Meanwhile(Silent):
        def start(self, stage: str, total: int) -> None:
            if stage == "finetune":
                mlflow.set_registered_model_alias("handbook", "champion", "2")

    report = train(with_champion(world, mlflow), Meanwhile())
    assert report["evaluation"]["corpora"]["golden.jsonl"]["against"] == "mlflow:handbook@1"
    promotion = report["tracking"]["promotion"]
    assert (promotion["promoted"], promotion["champion"]) == (False, "2")
    assert "the gate compared with 1" in promotion["reason"]
