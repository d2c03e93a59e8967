"""Fine-tuning at a server: one job whatever happens, and a model that is judged, registered and used like any other."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import failpoints, training, tune
from pipelines.cli.__main__ import run as run_program
from pipelines.config import Config, load_config
from pipelines.errors import ConfigError, InputError, ServiceUnavailable
from pipelines.examples import HELD_OUT, TRAIN, examples_folder
from pipelines.files import Workspace
from pipelines.finetune import model_folder, read_facts
from pipelines.generate import Message, load_generator
from pipelines.models import resolve_generator
from tests.behaviour.hosted_server import BASE, POLITE, HostedServer
from tests.behaviour.world import SYSTEM, chats, commands, write_rows
from tests.forked import forks

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

KEY = "sk-canary-41fe"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("pipelines.tune.hosted.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("pipelines.models.service.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("pipelines.models.service.ATTEMPTS", 3)


@pytest.fixture
def server() -> Iterator[HostedServer]:
    with HostedServer() as running:
        yield running


@pytest.fixture
def workspace(server: HostedServer, tmp_path: Path) -> Workspace:
    """Chats and preferences in files, and examples of `house` that are divided already."""
    found = Workspace(tmp_path / "workspace")
    rows = [{**row, "group": f"g{place}"} for place, row in enumerate(chats())]
    write_rows(found.root / "chats.jsonl", rows)
    write_rows(found.root / "preferences.jsonl", preferences())
    write_rows(examples_folder(found, "house") / TRAIN, rows[:40])
    write_rows(examples_folder(found, "house") / HELD_OUT, rows[200:])
    sections = {
        "index": {"name": "handbook"},
        "generate": {"endpoint": server.url},
        "sft": {"base": f"openai:{BASE}", "data": "chats.jsonl", "held_out": 0.2, "epochs": 2},
        "dpo": {
            "base": "path:data/models/house",
            "data": "preferences.jsonl",
            "held_out": 0.2,
            "metric": "exact_match",
        },
    }
    found.params.write_text(json.dumps(sections), "utf-8")  # JSON is YAML, too
    return found


def preferences() -> list[dict]:
    """Short answers are better."""
    return [
        {
            "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}],
            "chosen": [{"role": "assistant", "content": " ".join(answer.values())}],
            "rejected": [{"role": "assistant", "content": json.dumps(answer)}],
        }
        for asked, answer in commands()
    ]


def config_of(workspace: Workspace, *settings: str) -> Config:
    return load_config(workspace.params, list(settings))


def tuned(workspace: Workspace, *settings: str) -> bool:
    """Whether anything had to be trained."""
    return tune.run(config_of(workspace, *settings), workspace, "house", "sft").trained


def answer(workspace: Workspace, model: str, asked: str) -> str:
    config = config_of(workspace).generate.with_model(model)
    with load_generator(resolve_generator(config, workspace), config) as speaker:
        (said,) = speaker.complete([[Message("system", SYSTEM), Message("user", asked)]])
    return said.text


def rows_of(server: HostedServer, file: str) -> list[dict]:
    return [json.loads(line) for line in server.contents[file].splitlines()]


# -- what is right -----------------------------------------------------------------------------------------------------


def test_it_is_judged_registered_and_used_by_name_like_a_model_that_runs_here(
    server: HostedServer, workspace: Workspace, mlflow: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    report = training.run(config_of(workspace), workspace, "house", "sft")
    assert report["passed"], report["evaluation"]["reason"]
    found = report["evaluation"]["metrics"]["format"]
    assert (found["before"], found["after"]) == (0, 1)
    assert report["tracking"]["promotion"]["promoted"]
    (run,) = mlflow.search_runs([mlflow.get_experiment_by_name("handbook models").experiment_id])
    assert [each.value for each in mlflow.get_metric_history(run.info.run_id, "loss")][:3] == [1, 1 / 2, 1 / 3]
    assert (run.data.params["sft.epochs"], "sft.lora_rank" in run.data.params) == ("2", False)
    facts = read_facts(model_folder(workspace, "house"))
    assert facts is not None
    assert (facts.base, facts.pairs, facts.steps, facts.seconds) == (
        f"openai:{BASE}",
        report["examples"]["train"],
        6,
        600,
    )
    assert facts.parameters == {"epochs": 2, "batch": 8, "seed": 0}
    assert facts.history == {"3": {"loss": 0.5 / 3}, "6": {"loss": 0.5 / 6}}

    (body,) = server.bodies
    assert body["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 8}}}
    assert (body["model"], body["suffix"]) == (BASE, "house")
    sent = rows_of(server, body["training_file"])
    assert len(sent) == facts.pairs
    assert {frozenset(row) for row in sent} == {frozenset({"messages"})}

    named = f"ft:{BASE}:acme:house:3"
    expected = {"device": "lamp", "room": "hall", "state": "on"}
    for model in (f"openai:{named}", "path:data/models/house", "mlflow:house@champion"):
        assert json.loads(answer(workspace, model, "hall: lamp on")) == expected
    assert answer(workspace, f"openai:{BASE}", "hall: lamp on") == POLITE

    asked = len(server.posts)
    again = training.run(config_of(workspace), workspace, "house", "sft")
    assert (again["training"]["trained"], again["evaluation"]["measured"]) == (False, False)
    assert len(server.posts) == asked

    polite = training.run(config_of(workspace), workspace, "polite", "dpo")
    assert polite["passed"], polite["evaluation"]["reason"]
    assert server.bodies[-1]["model"] == named
    assert server.bodies[-1]["method"]["dpo"]["hyperparameters"] == {"n_epochs": 1, "batch_size": 8, "beta": 0.1}
    row = rows_of(server, server.bodies[-1]["training_file"])[0]
    assert row["input"]["messages"][0] == {"role": "system", "content": SYSTEM}
    assert [row[side][0]["role"] for side in ("preferred_output", "non_preferred_output")] == ["assistant"] * 2

    assert server.keys == {f"Bearer {KEY}"}
    assert KEY not in caplog.text + json.dumps([report, again, polite])
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_another_job_is_begun_for_what_makes_another_model_and_for_nothing_else(
    server: HostedServer, workspace: Workspace
) -> None:
    assert tuned(workspace)
    assert not tuned(workspace, "sft.metric=f1", "sft.judged=10", "sft.lora_rank=16")
    rows = chats()[:40]
    write_rows(examples_folder(workspace, "house") / TRAIN, [{**row, "checks": {"max_words": 9}} for row in rows])
    write_rows(examples_folder(workspace, "house") / HELD_OUT, chats()[100:])
    assert not tuned(workspace)
    assert tuned(workspace, "sft.epochs=1")
    write_rows(examples_folder(workspace, "house") / TRAIN, rows[1:])
    assert tuned(workspace)
    with HostedServer() as other:
        assert tuned(workspace, f"generate.endpoint={other.url}")
    assert len(server.ours) == 3


# -- nothing is paid twice ---------------------------------------------------------------------------------------------

POINTS = [("uploaded", 1), ("noted", 1), ("uploaded", 2), ("noted", 2), ("created", 1), ("noted", 3), ("waited", 1)]


def test_killed_anywhere_it_goes_on_with_the_same_job(
    server: HostedServer, workspace: Workspace, tmp_path: Path
) -> None:
    places = [f"hosted.{point}:{times}" for point, times in POINTS]
    line = ["pipelines.tune", "--model", "house", "--kind", "sft", "--workspace", str(workspace.root)]
    with forks(["pipelines.tune"], tmp_path) as programs:
        for place in [*places, "finetune.saved", "finetune.removed", "finetune.put"]:
            ended = programs.run(*line, SNAPDEX_FAILPOINT=place)
            assert ended.code == failpoints.EXIT_CODE, (place, ended.stderr)
        assert programs.run(*line).code == 0
    assert server.posts == ["/files", "/files", "/fine_tuning/jobs"]
    assert not tuned(workspace)
    assert answer(workspace, "path:data/models/house", "hall: lamp on") != POLITE
    assert not list((workspace.state / "finetune").glob("*/*"))


@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_a_lost_answer_and_a_lost_workspace_make_nothing_twice(
    keeps_metadata: bool, server: HostedServer, workspace: Workspace
) -> None:
    server.keeps_metadata = keeps_metadata
    server.lost = {"/files": 2, "/fine_tuning/jobs": 1}
    assert tuned(workspace)
    server.let_others_train()
    shutil.rmtree(workspace.state)
    shutil.rmtree(model_folder(workspace, "house"))
    assert tuned(workspace)
    assert server.posts == ["/files", "/files", "/fine_tuning/jobs"]


def test_a_server_that_goes_away_keeps_the_job(server: HostedServer, workspace: Workspace) -> None:
    def leave() -> None:
        server.away = len(server.events[server.ours[0]["id"]]) > 1

    server.when_looked_at = leave
    with pytest.raises(ServiceUnavailable, match="does not answer with fine-tuning: status 503"):
        tuned(workspace)
    server.away, server.when_looked_at = False, lambda: None
    assert tuned(workspace)
    assert len(server.ours) == 1


def test_ctrl_c_leaves_the_job_running_and_says_so(
    server: HostedServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNAPDEX_HOME", str(workspace.root))
    server.when_looked_at = lambda: os.kill(os.getpid(), signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # other tests may have left another one
    try:
        assert run_program(["finetune", "sft", "house"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    said = capfd.readouterr().err
    assert f"the job ftjob-3 goes on at {server.url}\nhint: finished work is kept: the same command" in said
    server.when_looked_at = lambda: None
    assert run_program(["finetune", "sft", "house"]) == 0
    assert f"model       {model_folder(workspace, 'house')}" in capfd.readouterr().out
    assert len(server.ours) == 1


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_job_that_fails_says_why_and_the_next_run_begins_another_one(
    server: HostedServer, workspace: Workspace
) -> None:
    write_rows(examples_folder(workspace, "house") / TRAIN, chats()[:5])
    for count in (1, 2):
        with pytest.raises(InputError, match=r"job ftjob-\d failed: the training file has 5 example") as caught:
            tuned(workspace)
        assert "the next run begins another job" in caught.value.hint
        assert KEY not in f"{caught.value!r} {caught.value.context}"
        assert (len(server.ours), server.posts.count("/files")) == (count, 2)
    server.cancels = True
    write_rows(examples_folder(workspace, "house") / HELD_OUT, chats()[190:])
    with pytest.raises(InputError, match=r"was cancelled at http://127\.0\.0\.1"):
        tuned(workspace)
    assert len({body["validation_file"] for body in server.bodies}) == 2
    server.cancels = False
    write_rows(examples_folder(workspace, "house") / TRAIN, chats()[:15])
    assert tuned(workspace)
    assert not (model_folder(workspace, "house") / "job.json").exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("sft.method=full", "sft.method is full, and a server does not let"),
        ("sft.learning_rate=0.5", "sft.learning_rate is 0.5, and a server does not let"),
        ("sft.metric=preferred", "does not tell how likely it finds an answer"),
        ("sft.general=general.txt", "sft.general cannot be measured"),
        ("generate.endpoint=localhost", "generate.endpoint is not a URL"),
        ("generate.endpoint=https://api.openai.com/v1", "OpenAI needs a key"),
    ],
)
def test_what_would_not_happen_there_is_refused_before_anything_is_sent(
    setting: str, said: str, server: HostedServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match=said):
        tuned(workspace, setting)
    assert server.keys == set()


def test_a_server_without_such_jobs_is_named_with_the_parameter(workspace: Workspace, server: HostedServer) -> None:
    with pytest.raises(ConfigError, match=f"has no fine-tuning of '{BASE}': status 404") as caught:
        tuned(workspace, f"generate.endpoint={server.url}/none")
    assert "check generate.endpoint and sft.base" in caught.value.hint
    (workspace.root / "odd").mkdir()
    (workspace.root / "odd" / "hosted.json").write_text('{"model": ""}')
    with pytest.raises(InputError, match="names no model"):
        resolve_generator(config_of(workspace).generate.with_model("path:odd"), workspace)
