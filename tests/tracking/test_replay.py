"""Journals to a real MLflow store: everything, once, whatever is cut."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import EmbedConfig
from pipelines.errors import ConfigError, ConflictError, ServiceUnavailable
from pipelines.failpoints import EXIT_CODE
from pipelines.files import Workspace
from pipelines.models import resolve_model
from pipelines.tracking import Journal, champion, open_journal, promote, steps, sync, synced, track
from tests.tracking.stored import aliases, content

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
KEY = "KEYKEY"  # stands in the template for the key of a copy
STEPS = 4


class Wire:
    """A client whose change number `at` fails before it, after it, or is sent twice, as a lost answer has it.

    What only reads is not counted: a replay that is cut there is one that was cut before the next change.
    """

    def __init__(self, client: Any, at: int = -1, how: str = "before") -> None:
        self._client, self._at, self._how = client, at, how
        self.calls = 0
        self.tracking_uri = client.tracking_uri

    def __getattr__(self, name: str) -> Callable[..., Any]:
        real = getattr(self._client, name)

        if name.startswith(("get_", "search_")):
            return real  # type: ignore[no-any-return]

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            cut = self.calls - 1 == self._at
            if cut and self._how == "before":
                raise ConnectionError("nobody there")
            answer = real(*arguments, **named)
            if cut and self._how == "twice":
                return real(*arguments, **named)
            if cut:
                raise ConnectionError("the answer is lost")
            return answer

        return call


@pytest.fixture(scope="module", autouse=True)
def small_requests() -> Iterator[None]:
    """Few records make many requests."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, limit in {"params": 2, "tags": 2, "metrics": 7}.items():
            patch.setitem(steps.BATCH, kind, limit)
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, model: tuple[Path, Any]) -> Path:
    """A workspace with one journal that has everything in it, more than a batch of parameters and of metrics."""
    workspace = Workspace(tmp_path_factory.mktemp("template"))
    ticks = iter(range(1, 10_000))
    with open_journal(workspace, KEY, experiment=KEY, name="tuned", clock=lambda: next(ticks)) as journal:
        fill(journal, model, KEY)
    return workspace.root


def fill(journal: Journal, model: tuple[Path, Any], name: str) -> None:
    journal.params({f"p{n}": n for n in range(3)})
    journal.tags({"git_commit": "abc", "snapdex.snapshot": "def"})
    journal.dataset("pairs", "d" * 64, 100, "training", {"dvc_md5": "e"})
    for step in range(STEPS):
        journal.metrics({"loss": 1 / (step + 1), "grad_norm": float("nan"), "ndcg@10": float("inf")}, step)
        if step == 1:
            journal.tags({"phase": "second"})
    journal.metrics({f"system/m{n}": float(n) for n in range(9)}, 0)
    journal.text("gate.txt", "passed")
    journal.text("plots/curve.csv", "1,2")
    journal.finish("FAILED")
    journal.model(*model)
    journal.register(name, "# Card", {"snapdex.gate": "passed"})
    journal.promote(name, None)
    journal.finish("FINISHED")


def copied(template: Path, root: Path, key: str) -> Workspace:
    """The journal of the template as that of another run."""
    place = root / ".snapdex" / "tracking" / key
    shutil.copytree(template / ".snapdex" / "tracking" / KEY, place)
    log = place / "log.jsonl"
    log.write_text(log.read_text().replace(KEY, key))
    return Workspace(root)


@pytest.fixture(scope="module")
def unbroken(client: Any, template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any]]:
    """How many changes a replay makes, and what the store has then."""
    wire = Wire(client)
    workspace = copied(template, tmp_path_factory.mktemp("unbroken"), "unbroken")
    (report,) = sync(workspace, client=wire)
    assert report.finished and report.problem is None
    return wire.calls, content(client, "unbroken", "unbroken")


def test_a_journal_becomes_a_run_with_a_model_that_opens(unbroken: tuple[int, dict[str, Any]]) -> None:
    _, stored = unbroken
    (run,) = stored["runs"]
    assert (run["status"], run["outputs"], len(run["params"])) == ("FINISHED", 1, 3)
    assert run["tags"]["phase"] == "second"
    assert [step for step, _, _ in run["metrics"]["loss"]] == list(range(STEPS))
    assert len(run["metrics"]) == 3 + 9
    assert [(name, tags) for name, _, _, tags in run["inputs"]] == [("pairs", [("mlflow.data.context", "training")])]
    assert {"gate.txt", "plots/curve.csv"} == set(run["artifacts"])
    assert stored["versions"] == [
        {
            "version": 1,
            "description": "# Card",
            "tags": {"snapdex.gate": "passed", "snapdex.promotion": "version 1 is the champion"},
        }
    ]
    assert stored["aliases"] == {"champion": "1"}
    assert [(model["status"], model["versions"]) for model in stored["models"]] == [("READY", 1)]


@pytest.mark.parametrize(("how", "every"), [("before", 4), ("after", 1), ("twice", 1)])
def test_a_replay_that_is_cut_at_any_call_ends_as_an_unbroken_one(
    client: Any, template: Path, tmp_path: Path, unbroken: tuple[int, dict[str, Any]], how: str, every: int
) -> None:
    calls, expected = unbroken
    for at in range(0, calls, every):
        key = f"cut-{how}-{at}"
        workspace = copied(template, tmp_path / key, key)
        if how != "twice":
            with pytest.raises(ServiceUnavailable) as caught:
                sync(workspace, client=Wire(client, at, how))
            assert "finetune sync" in caught.value.hint
        else:
            sync(workspace, client=Wire(client, at, how))
        sync(workspace, client=client)
        assert content(client, key, key) == expected, f"{how} call {at}"
        assert sync(workspace, client=Wire(client, 0)) == [], "what MLflow has is not sent"


def test_metrics_that_are_there_are_not_left_to_the_store_to_refuse(client: Any, workspace: Workspace) -> None:
    with open_journal(workspace, "again", experiment="again", name="again") as journal:
        journal.metrics({"loss": 1.0, "norm": float("nan")}, 0)
        sync(workspace, client=client)
        (workspace.state / "tracking" / "again" / "sent.json").unlink()
        journal.metrics({"loss": 0.5}, 1)
    sent: list[Any] = []

    class Listening(Wire):
        def __getattr__(self, name: str) -> Callable[..., Any]:
            if name == "log_batch":
                return lambda _, metrics: sent.extend((each.key, each.step) for each in metrics)
            return super().__getattr__(name)

    sync(workspace, client=Listening(client))
    assert sent == [("loss", 1)]


@pytest.mark.parametrize("place", ["sent", "noted"])
def test_a_replay_that_is_killed_goes_on(
    client: Any, template: Path, tmp_path: Path, unbroken: tuple[int, dict[str, Any]], place: str, mlflow_uri: str
) -> None:
    key = f"killed-{place}"
    workspace = copied(template, tmp_path, key)
    program = (
        "from pathlib import Path; from pipelines.files import Workspace; from pipelines.tracking import sync;"
        f"sync(Workspace(Path({str(tmp_path)!r})))"
    )
    environment = {**os.environ, "SNAPDEX_FAILPOINT": f"track.{place}:7"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], env=environment, check=False, timeout=120)
    assert done.returncode == EXIT_CODE
    assert 0 < synced(workspace, key).sent < synced(workspace, key).records  # type: ignore[union-attr]
    sync(workspace)
    assert content(client, key, key) == unbroken[1]


def test_the_disk_is_given_back_when_all_is_sent(client: Any, template: Path, tmp_path: Path) -> None:
    workspace = copied(template, tmp_path, "disk")
    place = tmp_path / ".snapdex" / "tracking" / "disk"
    assert (place / "model").is_dir()
    sync(workspace, client=client)
    assert {path.name for path in place.iterdir()} == {"log.jsonl", "sent.json"}
    with open_journal(workspace, "disk", experiment="disk", name="tuned") as journal:
        journal.model(Path("/nonexistent"), None)  # it is there already
        journal.metrics({"late": 1.0}, 9)
    (report,) = sync(workspace, client=client)
    assert not report.finished, "it goes on"
    assert client.get_run(report.run_id).info.status == "RUNNING"


def test_the_candidate_in_the_registry_is_the_model_of_the_directory(
    client: Any, template: Path, tmp_path: Path, model: tuple[Path, Any], mlflow_uri: str
) -> None:
    import mlflow

    workspace = copied(template, tmp_path, "space")
    sync(workspace)
    client.set_registered_model_alias("space", "candidate", 1)
    here = resolve_model(EmbedConfig(model=f"path:{model[0]}"), workspace)
    there = resolve_model(EmbedConfig(model="mlflow:space@candidate"), workspace)
    assert (there.name, there.revision, there.space) == ("mlflow:space@1", here.revision, here.space)
    mlflow.set_tracking_uri(mlflow_uri)
    try:
        served = mlflow.pyfunc.load_model("models:/space@candidate")
    finally:
        mlflow.set_tracking_uri(None)
    assert abs(served.predict(["gate opens"]) - model[1].encode(["gate opens"])).max() < 1e-6


# -- the registry ------------------------------------------------------------------------------------------------------


def test_a_champion_is_replaced_only_by_who_beat_it(
    client: Any, template: Path, tmp_path: Path, mlflow_uri: str
) -> None:
    sync(copied(template, tmp_path / "a", "rivals"))
    assert champion("rivals") == "1"
    for _ in range(2):
        client.create_model_version("rivals", client.get_model_version("rivals", "1").source)
    client.set_registered_model_alias("rivals", "candidate", "3")
    assert promote("rivals", 2, against=1).promoted
    late = promote("rivals", 3, against="1")
    assert (late.promoted, late.champion, champion("rivals")) == (False, "2", "2")
    assert "another champion was set meanwhile: version 2" in late.reason
    assert client.get_model_version("rivals", "3").tags["snapdex.promotion"] == late.reason
    assert client.get_model_version_by_alias("rivals", "candidate").version in (3, "3")
    assert promote("rivals", 3, against=2).promoted
    assert promote("rivals", 3, against=2).promoted, "again changes nothing"
    assert aliases(client, "rivals") == {"champion": "3"}
    assert champion("nobody") is None


def test_a_candidate_does_not_go_back_to_an_earlier_version(
    client: Any, template: Path, tmp_path: Path, model: tuple[Path, Any]
) -> None:
    workspace = Workspace(tmp_path)
    for key in ("one", "two"):
        with open_journal(workspace, key, experiment="shared", name=key) as journal:
            journal.model(*model)
            journal.register("shared", key)
    first, second = sync(workspace, client=client)
    assert (first.versions, second.versions) == ({"shared": "1"}, {"shared": "2"})
    (tmp_path / ".snapdex" / "tracking" / "one" / "sent.json").unlink()
    (again,) = sync(workspace, client=client)
    assert (again.run_id, again.versions) == (first.run_id, {"shared": "1"})
    assert aliases(client, "shared") == {"candidate": "2"}


# -- what can be wrong -------------------------------------------------------------------------------------------------


def test_what_one_journal_is_refused_does_not_hold_up_another(client: Any, template: Path, tmp_path: Path) -> None:
    workspace = copied(template, tmp_path, "bad")
    log = tmp_path / ".snapdex" / "tracking" / "bad" / "log.jsonl"
    log.write_text(log.read_text().replace('"loss"', '"lo@ss"'))
    copied(template, tmp_path, "good")
    bad, good = sync(workspace, client=client)
    assert "lo@ss" in str(bad.problem) and not bad.finished
    assert good.finished and good.problem is None
    (bad,) = sync(workspace, client=client)
    assert bad.problem, "it is tried again"


def test_a_run_that_somebody_deleted_is_not_made_again(client: Any, workspace: Workspace) -> None:
    def told(step: int) -> None:
        with open_journal(workspace, "unwanted", experiment="unwanted", name="unwanted") as journal:
            journal.metrics({"loss": 1.0}, step)

    told(1)
    (report,) = sync(workspace, client=client)
    client.delete_run(report.run_id)
    told(2)
    (report,) = sync(workspace, client=client)
    assert report.problem == "the run was deleted in MLflow"
    assert sync(workspace, client=client) == []
    assert client.search_runs([client.get_experiment_by_name("unwanted").experiment_id]) == []


def test_another_store_behind_the_address_gets_everything(client: Any, workspace: Workspace) -> None:
    with open_journal(workspace, "moved", experiment="moved", name="moved") as journal:
        journal.metrics({"loss": 1.0}, 1)
        sync(workspace, client=client)
        other = Workspace(workspace.root.with_name("other"))
        shutil.copytree(workspace.state, other.state)
        sent = other.state / "tracking" / "moved" / "sent.json"
        (report,) = [synced(other, "moved")]
        sent.write_text(sent.read_text().replace(report.run_id, "0" * 32))  # type: ignore[union-attr,arg-type]
        client.rename_experiment(client.get_experiment_by_name("moved").experiment_id, "moved away")
        journal.metrics({"loss": 2.0}, 2)
    shutil.copy(journal.directory / "log.jsonl", sent.parent)
    (report,) = sync(other, client=client)
    assert [each.step for each in client.get_metric_history(report.run_id, "loss")] == [1, 2]


def test_without_an_address_or_an_answer_nothing_is_lost(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert sync(workspace) == []
    with open_journal(workspace, "away", experiment="away", name="away") as journal:
        journal.finish("FINISHED")
    with pytest.raises(ConfigError, match="no MLflow"):
        sync(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9 does not answer") as caught:
        sync(workspace)
    assert "secret" not in str(caught.value)
    with pytest.raises(ServiceUnavailable, match="does not take the run") as caught:
        track("away", "away", params={}, metrics={}, tags={})
    assert "secret" not in str(caught.value)
    assert synced(workspace, "away").sent == 0  # type: ignore[union-attr]
    assert synced(workspace, "nobody") is None


def test_two_replays_exclude_each_other(client: Any, template: Path, tmp_path: Path) -> None:
    workspace = copied(template, tmp_path, "alone")
    reached, go = threading.Event(), threading.Event()

    class Slow(Wire):
        def __getattr__(self, name: str) -> Callable[..., Any]:
            reached.set()
            go.wait(30)
            return super().__getattr__(name)

    other = threading.Thread(target=sync, args=[workspace], kwargs={"client": Slow(client)})
    other.start()
    assert reached.wait(30)
    with pytest.raises(ConflictError):
        sync(workspace, client=client, wait_seconds=0)
    go.set()
    other.join(60)
    assert sync(workspace, client=client, wait_seconds=0) == []
    assert len(content(client, "alone", "alone")["runs"]) == 1
