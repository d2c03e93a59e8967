"""Fine-tuning of a language model: it behaves as its examples do, goes on after a kill, and forgetting is seen."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import evaluate_behaviour, failpoints, tune
from pipelines.errors import ConfigError, InputError
from pipelines.examples import HELD_OUT, TRAIN, Chat, Message, Preference, examples_folder, read_examples
from pipelines.files import Workspace
from pipelines.finetune import model_folder
from pipelines.generate import load_generator
from pipelines.generate.local import plain
from pipelines.models import resolve_generator
from pipelines.tune.trainer import open_tokenizer
from tests.behaviour.world import SYSTEM, chats, config_of, preferences, write_rows
from tests.forked import Forks, forks


def weights(workspace: Workspace, name: str = "house") -> str:
    return hashlib.sha256((model_folder(workspace, name) / "model.safetensors").read_bytes()).hexdigest()


def judged(workspace: Workspace, **settings: object) -> dict:
    return evaluate_behaviour.run(config_of(**settings), workspace, "house", "sft").found


def test_it_answers_in_the_format_of_its_examples(workspace: Workspace) -> None:
    found = judged(workspace)
    assert found["outcome"] == "pass", found["reason"]
    assert found["metrics"]["format"]["before"] < 0.05
    assert found["metrics"]["format"]["after"] >= 0.95
    assert found["metrics"]["exact_match/room"]["after"] > found["metrics"]["exact_match/room"]["before"]
    assert found["problems"]["before"] == {"wrong format": 40}
    perplexity = found["regression"]["perplexity"]
    assert perplexity["before"] < perplexity["after"]
    page = (workspace.root / "data/metrics/models/house.md").read_text("utf-8")
    assert "| format | 40 | 0.000 |" in page
    assert "Perplexity of general texts" in page
    again = evaluate_behaviour.run(config_of(), workspace, "house", "sft")
    assert not again.measured
    assert again.found == found


def test_what_it_forgot_keeps_it_from_being_promoted(workspace: Workspace) -> None:
    found = judged(workspace, forgetting=0.1)
    assert found["outcome"] == "fail"
    assert "perplexity of general texts grew from" in found["reason"]


def test_what_it_forgot_is_seen_in_chats_too(workspace: Workspace) -> None:
    others = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Sure, here you are"}]}
        for text in ("turn the lamp in the hall on", "study: fan off")
    ]
    write_rows(workspace.root / "others.jsonl", others)
    found = judged(workspace, general="", general_chats="others.jsonl", forgetting=0.2)
    assert found["regression"]["chats"]["before"] > 0.9
    assert found["outcome"] == "fail"
    assert "general chats lost" in found["reason"]


def test_a_model_that_is_no_better_is_not_promoted(workspace: Workspace) -> None:
    same = config_of(base="path:data/models/house")
    found = evaluate_behaviour.run(same, workspace, "house", "sft").found
    assert found["outcome"] == "undecided"
    assert "no gain" in found["reason"]


def test_the_same_again_is_nothing_to_do_and_how_it_is_judged_changes_no_weights(workspace: Workspace) -> None:
    first = weights(workspace)
    assert not tune.run(config_of(), workspace, "house", "sft").trained
    assert not tune.run(config_of(metric="f1", forgetting=0.0), workspace, "house", "sft").trained
    assert tune.run(config_of(epochs=1, seed=1), workspace, "house", "sft").trained
    assert weights(workspace) != first


def test_preferences_move_it_towards_the_chosen_answers(workspace: Workspace) -> None:
    """Of two ways to write an answer it now likes the other one."""
    folder = examples_folder(workspace, "polite")
    write_rows(folder / TRAIN, preferences()[:80])
    write_rows(folder / HELD_OUT, preferences()[160:190])
    config = config_of("dpo", base="path:data/models/house", epochs=2, learning_rate=1e-3, metric="preferred")
    assert tune.run(config, workspace, "polite", "dpo").trained
    found = evaluate_behaviour.run(config, workspace, "polite", "dpo").found
    assert found["metrics"]["preferred"]["difference"] >= 0.1, found["reason"]
    assert found["metrics"]["preferred"]["low"] > 0


def test_an_adapter_is_merged_into_weights_that_can_be_used_alone(workspace: Workspace) -> None:
    config = config_of(method="lora", epochs=1, learning_rate=1e-2)
    _copied(workspace, "light")
    assert tune.run(config, workspace, "light", "sft").trained
    model = resolve_generator(config.generate.model_copy(update={"model": "path:data/models/light"}), workspace)
    assert model.adapter is None
    assert not list(model_folder(workspace, "light").glob("adapter*"))
    with load_generator(model, config.generate) as speaker:
        (said,) = speaker.complete([[Message("system", SYSTEM), Message("user", "hall: lamp on")]], 20)
    assert said.completion_tokens


def test_it_goes_on_from_an_adapter(workspace: Workspace) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(str(workspace.root / "base"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the two libraries, about each other
        adapted = get_peft_model(whole, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    adapted.save_pretrained(str(workspace.root / "adapter"))
    _copied(workspace, "further")
    config = config_of(base="path:adapter", epochs=1)
    assert tune.run(config, workspace, "further", "sft").facts.base == "path:adapter"
    assert (model_folder(workspace, "further") / "model.safetensors").is_file()


def test_every_answer_of_a_conversation_is_learned_and_too_long_ones_are_left_out(workspace: Workspace) -> None:
    long = {
        "messages": [
            {"role": "user", "content": "hall: lamp on " * 60},
            {"role": "assistant", "content": "{}"},
        ]
    }
    turns = [{"role": role, "content": "hall: fan off"} for role in ("user", "assistant", "user", "assistant")]
    folder = examples_folder(workspace, "turns")
    write_rows(folder / TRAIN, [{"messages": turns}] * 8 + [long])
    write_rows(folder / HELD_OUT, chats()[:5])
    report = tune.run(config_of(epochs=1), workspace, "turns", "sft")
    assert report.facts.pairs == 16
    write_rows(folder / TRAIN, [long])
    with pytest.raises(InputError, match="more than 128 tokens"):
        tune.run(config_of(epochs=1), workspace, "turns", "sft")


def test_what_cannot_be_trained_is_said_before_anything_is_loaded(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="there is no model that writes"):
        tune.run(config_of(base=""), workspace, "house", "sft")
    with pytest.raises(InputError, match=r"there is no .*other/train\.jsonl"):
        tune.run(config_of(), workspace, "other", "sft")
    with pytest.raises(ConfigError, match="qlora needs"):
        tune.run(config_of(method="qlora"), workspace, "house", "sft")
    assert (model_folder(workspace, "house") / "model.safetensors").is_file()


POINTS = {"step": 3, "checkpoint": 1, "checkpointed": 1, "saved": 1, "put": 1}  # and how often


def test_killed_again_and_again_it_ends_with_the_same_weights(
    workspace: Workspace, tmp_path: Path, programs: Forks
) -> None:
    _copied(workspace, "brief")
    parameters = config_of(epochs=2).model_dump(mode="json", exclude_defaults=True)
    workspace.params.write_text(json.dumps(parameters), "utf-8")  # JSON is YAML, too
    unbroken = Workspace(tmp_path / "unbroken")
    shutil.copytree(workspace.root, unbroken.root)
    assert _in_a_process(programs, unbroken, "") == 0
    for point, times in POINTS.items():
        assert _in_a_process(programs, workspace, f"finetune.{point}:{times}") == failpoints.EXIT_CODE, point
    assert _in_a_process(programs, workspace, "") == 0
    assert weights(workspace, "brief") == weights(unbroken, "brief")
    assert not list((workspace.state / "finetune").glob("*/*"))


def test_rows_are_read_as_they_were_written(workspace: Workspace) -> None:
    folder = examples_folder(workspace, "house")
    first = next(iter(read_examples(folder / TRAIN)))
    assert isinstance(first, Chat)
    assert json.loads(first.answer).keys() == {"device", "room", "state"}
    write_rows(folder / TRAIN, preferences()[:1])
    (only,) = read_examples(folder / TRAIN)
    assert isinstance(only, Preference)
    assert json.loads(only.rejected) == json.loads(only.chosen)


def _copied(workspace: Workspace, name: str) -> None:
    """Fewer examples under another name."""
    folder = examples_folder(workspace, name)
    write_rows(folder / TRAIN, chats()[:32])
    write_rows(folder / HELD_OUT, chats()[160:168])


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forks(["pipelines.tune.trainer"], tmp_path_factory.mktemp("forks")) as running:
        yield running


def _in_a_process(programs: Forks, workspace: Workspace, place: str) -> int:
    """The exit code of the training, ended at the fail point `place`."""
    line = ["pipelines.tune", "--model", "brief", "--kind", "sft", "--workspace", str(workspace.root)]
    ended = programs.run(*line, SNAPDEX_FAILPOINT=place)
    assert ended.code in (0, failpoints.EXIT_CODE), ended.stderr
    return ended.code


def test_a_model_without_a_template_is_asked_as_it_was_taught(workspace: Workspace) -> None:
    said = [
        Message("system", SYSTEM),
        Message("user", "hall: fan off"),
        Message("assistant", "{}"),
        Message("user", "?"),
    ]
    tokenizer = open_tokenizer(workspace.root / "base")
    rows = [{"role": each.role, "content": each.content} for each in said]
    taught = tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
    assert taught.replace(tokenizer.eos_token, "") == plain(said)
