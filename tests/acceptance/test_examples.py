"""Examples for a language model: checked by the command that users type, divided by DVC."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

COLOURS = ("red", "green", "blue")


def chat(number, **more):
    said = json.dumps({"colour": COLOURS[number % 3], "number": number})
    spoken = [{"role": "user", "content": f"What is {number}?"}, {"role": "assistant", "content": said}]
    return {"messages": spoken, "group": f"shelf {number // 5}"} | more


@pytest.fixture(scope="module")
def workspace(new_workspace):
    snapdex = new_workspace("examples")
    snapdex.write = lambda name, rows: (snapdex.root / name).write_text(
        "".join(json.dumps(row) + "\n" for row in rows), "utf-8"
    )
    return snapdex


def test_chats_are_told_from_pairs_and_checked(workspace):
    workspace.write("chats.jsonl", [chat(1), chat(2, checks={"max_words": 1}), {"text": "x"}, chat(3)])
    workspace.write("judged.jsonl", [chat(3, group="")])
    (workspace.root / "checks.json").write_text('{"json_schema": {"properties": {"number": {"maximum": 2}}}}')
    words = ("finetune", "check", "chats.jsonl", "--against", "judged.jsonl", "--checks", "checks.json")
    said = workspace(*words, code=3)
    assert "chats.jsonl:2 error: constraint: the answer has 4 words, more than 1" in said.stdout
    found = json.loads(workspace.ending(*words, "--json").stdout)
    assert [(each["line"], each["kind"]) for each in found["findings"]] == [
        (2, "constraint"),
        (3, "key"),
        (4, "format"),
        (4, "leakage"),
        (0, "few"),
    ]
    assert (found["model"], found["errors"], found["statistics"]["rows"]) == ("", 4, 3)


def test_tokens_are_those_of_the_model_and_personal_data_is_masked(workspace):
    made = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    (workspace.root / "model").mkdir()
    made.save(str(workspace.root / "model" / "tokenizer.json"))
    answers = [[{"role": "assistant", "content": text}] for text in ("Ask jo.berg@posten.no", "Ask")]
    workspace.write("two.jsonl", [{"prompt": "Who knows?", "chosen": answers[0], "rejected": answers[1]}])
    words = ("--model", "path:model", "--pii", "--set", "dpo.max_tokens=16")
    found = workspace.json("finetune", "check", "two.jsonl", *words)
    assert (found["model"], found["counts"]) == ("path:model", {"personal": 1, "few": 1})
    assert found["statistics"]["prompt_tokens_max"] == 3
    assert "posten" not in json.dumps(found)


def test_pairs_have_no_checks(workspace):
    workspace.write("pairs.jsonl", [{"query": "who?", "positive": "nobody"}])
    assert "leave out --checks and --pii" in workspace("finetune", "check", "pairs.jsonl", "--pii", code=2).stderr


def dvc(root, *words):
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True, timeout=120)


def test_dvc_divides_the_data_of_each_language_model_once(workspace):
    """No model, no stage; a second time, nothing; a change of the data is seen."""
    assert "examples@" not in dvc(workspace.root, "stage", "list", "--all").stdout
    workspace.write("notes.jsonl", [chat(number) for number in range(60)])
    workspace.edit_params(
        lambda text: text.replace("language_models: { }", "language_models: {notes: {kind: sft, data: notes.jsonl}}")
    )
    train = workspace.root / "data" / "examples" / "notes" / "train.jsonl"
    assert "Running stage 'examples@notes'" in dvc(workspace.root, "repro", "examples@notes").stdout
    before = train.read_bytes()
    assert "didn't change, skipping" in dvc(workspace.root, "repro", "examples@notes").stdout
    workspace.write("notes.jsonl", [chat(number) for number in range(120)])
    assert "Running stage 'examples@notes'" in dvc(workspace.root, "repro", "examples@notes").stdout
    assert train.read_bytes() != before
