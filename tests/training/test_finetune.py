"""Training: it learns, it goes on after a kill as if nothing had happened, and leaves a model or none."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import failpoints, finetune
from pipelines.config import load_config
from pipelines.embed import score_pairs
from pipelines.errors import ConfigError, InputError
from pipelines.evaluate_model import ModelReport
from pipelines.evaluate_model import run as evaluate_model
from pipelines.finetune import FinetuneReport, model_folder, trainer
from pipelines.finetune.checkpoints import last_whole
from pipelines.finetune.teacher import with_margins
from pipelines.models import resolve_model, resolve_reranker
from pipelines.pairs.stage import run as make_pairs
from tests.forked import Forks, forks
from tests.index.state import State
from tests.small_models import cross_encoder
from tests.training.world import SETTINGS, WIDTH, WINDOW, WORDS, make_world, write_off_domain

BRIEF = ("finetune.epochs=2", "finetune.evaluations=2")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, databases) -> State:  # type: ignore[no-untyped-def]
    """A world whose pairs are made; tests copy its files."""
    with databases() as url, pytest.MonkeyPatch.context() as patched:
        patched.setenv("SNAPDEX_DATABASE_URL", url)
        world = make_world(State.make(tmp_path_factory.mktemp("world") / "workspace", url))
        world.run()
        make_pairs(world.config, world.workspace, "handbook")
    return world


@pytest.fixture
def world(learned: State, tmp_path: Path) -> State:
    return copied(learned, tmp_path)


@pytest.fixture(scope="module")
def taught(learned: State, tmp_path_factory: pytest.TempPathFactory) -> State:
    world = copied(learned, tmp_path_factory.mktemp("taught"))
    assert train(world).trained
    return world


@pytest.fixture
def trained(taught: State, tmp_path: Path) -> State:
    """The world with a model that has learned from its pairs."""
    return copied(taught, tmp_path)


def copied(world: State, place: Path) -> State:
    root = place / "workspace"
    shutil.copytree(world.root, root)
    return State(root, "", load_config(root / "params.yaml", [*SETTINGS, f"embed.model=path:{root / 'base'}"]))


def changed(world: State, *settings: str) -> State:
    return world.with_settings(*SETTINGS, f"embed.model=path:{world.root / 'base'}", *settings)


def train(world: State) -> FinetuneReport:
    return finetune.run(world.config, world.workspace, "handbook")


def weights(world: State) -> str:
    path = model_folder(world.workspace, "handbook") / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def judged(world: State) -> ModelReport:
    return evaluate_model(world.config, world.workspace, "handbook")


def test_it_learns_what_the_base_does_not_know(trained: State) -> None:
    report = train(trained)
    assert report.facts.history[str(report.facts.best_step)]["ndcg@10"] == max(
        each["ndcg@10"] for each in report.facts.history.values()
    )
    found = judged(trained).found
    assert found["outcome"] == "pass"
    golden = found["corpora"]["golden.jsonl"]
    assert golden["before"] < 0.1
    assert golden["after"] > 0.25
    assert golden["low"] > 0
    page = (trained.root / "data/metrics/models/handbook.md").read_text("utf-8")
    assert page.index("| 9 | 0.") < page.index("| 18 | 0.") < page.index("| 81 | 0.")
    assert "## Questions that got better" in page


def test_the_same_again_is_nothing_to_do_and_other_pairs_are(trained: State) -> None:
    first = weights(trained)
    assert not train(trained).trained
    assert not (trained.workspace.state / "finetune" / "handbook").exists() or not any(
        (trained.workspace.state / "finetune" / "handbook").iterdir()
    )
    shutil.rmtree(model_folder(trained.workspace, "handbook"))
    assert train(trained).trained
    assert weights(trained) == first  # same seed, same machine
    assert train(changed(trained, "finetune.seed=1", *BRIEF)).trained
    assert weights(trained) != first


def test_the_model_keeps_the_window_and_the_form_of_its_base(world: State) -> None:
    short = changed(world, "finetune.max_tokens=16", *BRIEF)
    train(short)
    base = resolve_model(short.config.embed, short.workspace)
    made = resolve_model(
        short.config.embed.with_model(f"path:{model_folder(short.workspace, 'handbook')}"), short.workspace
    )
    assert (made.max_tokens, made.dimension, made.normalised) == (WINDOW, base.dimension, base.normalised)
    assert made.tokenizer_fingerprint == base.tokenizer_fingerprint  # chunks stay as they are
    assert made.space != base.space


POINTS = {"step": 12, "checkpoint": 1, "checkpointed": 1, "saved": 1, "removed": 1, "put": 1}  # and how often


def test_killed_again_and_again_it_ends_with_the_same_weights(world: State, tmp_path: Path, programs: Forks) -> None:
    unbroken = State(tmp_path / "unbroken", "", world.config)
    shutil.copytree(world.root, unbroken.root)
    assert _in_a_process(programs, unbroken, "") == 0
    for point, times in POINTS.items():
        assert _in_a_process(programs, world, f"finetune.{point}:{times}") == failpoints.EXIT_CODE, point
    assert _in_a_process(programs, world, "") == 0
    assert weights(world) == weights(unbroken)
    assert not list((world.workspace.state / "finetune").glob("*/*"))


def test_a_kill_leaves_the_model_of_before(trained: State, programs: Forks) -> None:
    first = weights(trained)
    assert _in_a_process(programs, trained, "finetune.step:15", "finetune.seed=1") == failpoints.EXIT_CODE
    assert weights(trained) == first


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forks(["pipelines.finetune.trainer"], tmp_path_factory.mktemp("forks")) as running:
        yield running


def _in_a_process(programs: Forks, world: State, place: str, *settings: str) -> int:
    """The exit code of the stage, ended at the fail point `place`."""
    settings = (*SETTINGS, *BRIEF, f"embed.model=path:{world.root / 'base'}", *settings)
    words = [word for each in settings for word in ("--set", each)]
    line = ["pipelines.finetune", "--model", "handbook", "--workspace", str(world.root), *words]
    ended = programs.run(*line, SNAPDEX_FAILPOINT=place)
    assert ended.code in (0, failpoints.EXIT_CODE), ended.stderr
    return ended.code


def test_a_checkpoint_that_was_not_written_to_its_end_is_not_used(tmp_path: Path) -> None:
    for step in (5, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-5" / "whole").touch()
    assert last_whole(tmp_path) == tmp_path / "checkpoint-5"
    assert not (tmp_path / "checkpoint-10").exists()


def test_lora_leaves_a_whole_model_that_is_as_the_adapted_one(world: State) -> None:
    lora = changed(world, "finetune.method=lora", "finetune.lora_rank=16", "finetune.learning_rate=0.02")
    facts = train(lora).facts
    assert max(each["ndcg@10"] for each in facts.history.values()) > 1.2 * facts.history["9"]["ndcg@10"]
    assert not list(model_folder(world.workspace, "handbook").rglob("adapter*"))

    model = trainer.open_model(world.root / "base")
    settings = trainer._lora(model, lora.config.finetune)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.add_adapter(settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.3)
    texts = ["baton deton", "havel"]
    adapted = model.eval().encode(texts)
    merged = trainer._merged(model, world.root / "base", settings).encode(texts)
    plain = trainer.open_model(world.root / "base").encode(texts)
    assert np.allclose(merged, adapted, atol=1e-5)
    assert not np.allclose(merged, plain, atol=1e-2)


def test_lora_goes_on_after_a_kill(world: State, tmp_path: Path, programs: Forks) -> None:
    settings = ("finetune.method=lora", "finetune.lora_rank=16")
    unbroken = State(tmp_path / "unbroken", "", world.config)
    shutil.copytree(world.root, unbroken.root)
    assert _in_a_process(programs, unbroken, "", *settings) == 0
    assert _in_a_process(programs, world, "finetune.step:15", *settings) == failpoints.EXIT_CODE
    assert _in_a_process(programs, world, "", *settings) == 0
    assert weights(world) == weights(unbroken)


def test_shorter_vectors_can_be_learned_too(world: State) -> None:
    train(changed(world, "finetune.dimensions=[8, 16]"))
    assert judged(world).found["corpora"]["golden.jsonl"]["after"] > 0.15


def test_the_scores_of_a_cross_encoder_can_be_learned(world: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that likes what is not the answer: whoever learns from it does, too."""
    cross_encoder(world.root / "teacher", WORDS, width=WIDTH)
    told = changed(world, f"finetune.teacher=path:{world.root / 'teacher'}", "finetune.epochs=2")
    plain = changed(world, "finetune.epochs=2")
    assert finetune.fingerprint(told.config, told.workspace, "handbook") != finetune.fingerprint(
        plain.config, plain.workspace, "handbook"
    )
    rows = [{"query": "bavel", "positive": "baton", "negative_1": "deton", "negative_2": "fiton"}]
    (labelled,) = with_margins(rows, told.config, told.workspace)
    model = resolve_reranker(told.config.finetune.teacher, told.workspace)
    best, first, second = score_pairs(model, "bavel", ["baton", "deton", "fiton"])
    assert [margin > 0 for margin in labelled["label"]] == [best > first, best > second]
    assert train(told).trained
    first_weights = weights(told)
    assert train(plain).trained
    assert weights(plain) != first_weights


def test_a_model_that_got_worse_is_not_passed(trained: State) -> None:
    good = model_folder(trained.workspace, "handbook")
    shutil.copytree(good, trained.root / "good")
    wild = trained.with_settings(
        *SETTINGS,
        f"embed.model=path:{trained.root / 'good'}",
        "finetune.learning_rate=5",
        "finetune.patience=9",
        "pairs.held_out=0",
    )
    train(wild)
    found = judged(wild).found
    assert (found["outcome"], found["passed"]) == ("fail", False)
    assert found["corpora"]["golden.jsonl"]["difference"] < -0.1


def test_what_it_forgot_counts(trained: State) -> None:
    """Numbers are another domain: the base finds them because they are the same words in question and text."""
    texts = {str(number): f"{number} {number} {number}" for number in range(10)}
    place = write_off_domain(trained.root / "numbers", texts, {f"{number}": str(number) for number in range(10)})
    allowed = changed(trained, f"evaluate_model.off_domain=[{place.name}]", "evaluate_model.forgetting=1")
    found = judged(allowed).found
    assert found["outcome"] == "pass"
    assert found["corpora"]["numbers"]["before"] > 0.9
    lost = found["forgetting"]
    assert lost == pytest.approx(found["corpora"]["numbers"]["before"] - found["corpora"]["numbers"]["after"])
    text = json.loads((trained.root / "data/metrics/models/handbook.json").read_text("utf-8"))
    assert text == found
    strict = changed(
        trained, f"evaluate_model.off_domain=[{place.name}]", f"evaluate_model.forgetting={max(lost, 0) / 2}"
    )
    outcome = judged(strict).found["outcome"]
    assert outcome == ("fail" if lost > 0 else "pass")


def test_a_measurement_is_made_once_for_the_same_things(trained: State) -> None:
    assert judged(trained).measured
    assert not judged(trained).measured
    (trained.root / "golden.jsonl").write_text(
        "".join((trained.root / "golden.jsonl").read_text("utf-8").splitlines(keepends=True)[:30]), "utf-8"
    )
    again = judged(trained)
    assert again.measured
    assert again.found["corpora"]["golden.jsonl"]["queries"] == 30


def test_without_a_golden_set_the_held_out_pairs_decide(world: State) -> None:
    plain = changed(world, "gate.golden=")
    train(plain)
    found = judged(plain).found["corpora"]["held-out pairs"]
    assert found["after"] > found["before"]
    assert 5 <= found["queries"] <= 40


def test_what_cannot_be_trained_is_refused_before_it_costs_anything(world: State) -> None:
    with pytest.raises(ConfigError, match="has no weights"):
        train(changed(world, "finetune.base=hash:64"))
    path = world.root / "data" / "pairs" / "handbook" / "train.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:3], '{"query": "bavel"}\n', *lines[3:]]), "utf-8")
    with pytest.raises(InputError, match="line 4"):
        train(world)
    path.unlink()
    with pytest.raises(InputError, match=r"pipelines.pairs|there is no"):
        train(world)
