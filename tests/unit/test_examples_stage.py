"""The stage `examples`: what is learned, what is held out, and that nobody learns what they are asked later."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Config, LanguageModel
from pipelines.errors import ConfigError, InputError
from pipelines.examples import Chat, Example, Message, Preference, examples_folder, read_examples, write_examples
from pipelines.examples.stage import ExamplesReport, run
from pipelines.files import Workspace

COLOURS = ("red", "green", "blue", "grey", "white")


def chat(number: int, *, group: str = "", answer: str = "", **checks: Any) -> Chat:
    said = answer or json.dumps({"colour": COLOURS[number % 5], "number": number})
    spoken = (Message("user", f"What is thing {number}?"), Message("assistant", said))
    return Chat(spoken, checks, group or f"shelf {number // 10}")


def preference(number: int) -> Preference:
    return Preference((Message("user", f"What is thing {number}?"),), f"{number}", "I cannot say that.")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    write_examples(tmp_path / "chats.jsonl", map(chat, range(600)))
    return Workspace(tmp_path)


def settings(kind: str = "sft", **values: Any) -> Config:
    section = getattr(Config(), kind).model_copy(update={"data": "chats.jsonl", "held_out": 0.2} | values)
    return Config().model_copy(update={kind: section})


def made(workspace: Workspace, config: Config) -> tuple[ExamplesReport, list[Example], list[Example]]:
    report = run(config, workspace, "notes", "sft")
    folder = examples_folder(workspace, "notes")
    return report, list(read_examples(folder / "train.jsonl")), list(read_examples(folder / "held-out.jsonl"))


def rows(examples: Iterable[Example]) -> set[str]:
    return {example.prompt[-1].content for example in examples}


def test_groups_stay_on_one_side_and_nothing_is_lost(workspace: Workspace) -> None:
    report, train, held_out = made(workspace, settings())
    assert (len(train), len(held_out)) == (report.train, report.held_out)
    assert len(train) + len(held_out) == 600
    assert {row.group for row in train}.isdisjoint({row.group for row in held_out})
    assert 60 <= len(held_out) <= 180
    assert rows(train) | rows(held_out) == rows(read_examples(workspace.root / "chats.jsonl"))
    _, _, others = made(workspace, settings(seed=1))
    assert rows(others) != rows(held_out)


def test_without_groups_the_same_prompt_stays_on_one_side(workspace: Workspace) -> None:
    asked = [replace(chat(number // 3, answer=f"answer {number}"), group="") for number in range(600)]
    write_examples(workspace.root / "chats.jsonl", asked)
    _, train, held_out = made(workspace, settings())
    assert train and held_out and rows(train).isdisjoint(rows(held_out))


def test_the_same_input_gives_the_same_bytes(workspace: Workspace) -> None:
    folder = examples_folder(workspace, "notes")
    seen = []
    for _ in range(2):
        run(settings(), workspace, "notes", "sft")
        seen.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert seen[0] == seen[1]
    assert set(seen[0]) == {"train.jsonl", "held-out.jsonl", "check.json"}


def test_repeated_rows_are_left_out(workspace: Workspace) -> None:
    write_examples(workspace.root / "chats.jsonl", [chat(number % 590) for number in range(600)])
    report, train, held_out = made(workspace, settings())
    assert report.dropped == {"repeated": 10}
    assert len(train) + len(held_out) == 590


def test_prompts_that_nearly_agree_with_held_out_ones_are_left_out(workspace: Workspace) -> None:
    story = [f"word{number}" for number in range(60)]
    nearly = [chat(number, answer="x") for number in range(1000, 1010)]
    for place, row in enumerate(nearly):
        asked = Message("user", " ".join([*story[: 5 * place], "and", *story[5 * place :]]))
        nearly[place] = replace(row, messages=(asked, row.messages[-1]), group="")
    write_examples(workspace.root / "chats.jsonl", [*map(chat, range(600)), *nearly])
    report, train, held_out = made(workspace, settings(held_out=0.5))
    stories = [sum("word7" in row.prompt[-1].content for row in side) for side in (train, held_out)]
    assert 0 < stories[1] < 10 and stories[0] == 0
    assert report.dropped == {"too near to held-out ones": 10 - stories[1]}


def test_an_evaluation_file_is_the_held_out_side(workspace: Workspace) -> None:
    evaluation = [chat(5), chat(5), chat(9000, group="shelf 30"), chat(9001)]
    write_examples(workspace.root / "judged.jsonl", evaluation)
    report, train, held_out = made(workspace, settings(evaluation="judged.jsonl"))
    assert rows(held_out) == {"What is thing 5?", "What is thing 9000?", "What is thing 9001?"}
    assert report.dropped == {"in the evaluation": 20}  # the groups of shelf 0 and shelf 30
    assert (len(train), len(held_out)) == (580, 3)


def test_checks_of_the_file_are_written_into_the_rows(workspace: Workspace) -> None:
    (workspace.root / "checks.json").write_text(json.dumps({"json_schema": {"required": ["colour"]}}))
    own = chat(7, required=["blue"])
    write_examples(workspace.root / "chats.jsonl", [own, *map(chat, range(100, 700))])
    _, train, held_out = made(workspace, settings(checks="checks.json"))
    found = {row.prompt[-1].content: row.checks for row in [*train, *held_out]}
    assert found.pop("What is thing 7?") == {"required": ["blue"]}
    assert all(checks == {"json_schema": {"required": ["colour"]}} for checks in found.values())


def test_errors_are_refused_by_line_and_nothing_is_written(workspace: Workspace) -> None:
    wrong = [chat(number, forbidden=["grey"]) if number == 3 else chat(number) for number in range(600)]
    write_examples(workspace.root / "chats.jsonl", wrong)
    with (workspace.root / "chats.jsonl").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(InputError, match=r"2 errors: line 4: constraint: .*; line 601: key:") as caught:
        run(settings(), workspace, "notes", "sft")
    assert caught.value.exit_code == 3
    assert not examples_folder(workspace, "notes").exists()


def test_no_data_and_data_of_the_other_kind_are_refused(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"dpo\.data names no file") as caught:
        run(settings(), workspace, "notes", "dpo")
    assert "preferences" in caught.value.hint
    with pytest.raises(InputError, match="holds chats: dpo learns from preferences"):
        run(settings("dpo"), workspace, "notes", "dpo")
    with pytest.raises(InputError, match="No such file"):
        run(settings(data="none.jsonl"), workspace, "notes", "sft")
    write_examples(workspace.root / "chats.jsonl", [])
    with pytest.raises(InputError, match="no line is an example"):
        run(settings(), workspace, "notes", "sft")


def test_preferences_are_divided_too_and_a_model_can_have_its_own_data(workspace: Workspace) -> None:
    write_examples(workspace.root / "preferences.jsonl", map(preference, range(100)))
    named = {"notes": LanguageModel(kind="dpo", data="preferences.jsonl")}
    report = run(settings("dpo").model_copy(update={"language_models": named}), workspace, "notes", "dpo")
    assert report.train + report.held_out == 100
    assert [each.partition(":")[0] for each in report.warnings] == ["few", "preamble"]
    told = json.loads((examples_folder(workspace, "notes") / "check.json").read_text("utf-8"))
    assert (told["counts"], told["statistics"]["rows"]) == ({"few": 1, "preamble": 1}, 100)
