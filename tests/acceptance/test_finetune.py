"""finetune, as users type it."""

import json

import pytest

PAIRS = [
    {"query": "how much may support refund?", "positive": "A support agent may refund up to 250 euros."},
    {
        "query": "what is drayage?",
        "positive": "The short haul between port and warehouse.",
        "negatives": ["Demurrage."],
    },
    {"query": "what is demurrage?", "positive": "What a shipper pays when a container stays.", "group": "glossary.txt"},
]


@pytest.fixture(scope="module")
def workspace(new_workspace):
    snapdex = new_workspace("finetune")
    snapdex.write = lambda name, rows: (snapdex.root / name).write_text(
        "".join(json.dumps(row) + "\n" for row in rows), "utf-8"
    )
    return snapdex


def test_pairs_with_warnings_pass(workspace):
    workspace.write("pairs.jsonl", PAIRS)
    checked = workspace.json("finetune", "check", "pairs.jsonl")
    assert (checked["errors"], checked["warnings"], checked["counts"]) == (0, 1, {"few": 1})
    assert checked["model"] == "hash:384"
    statistics = checked["statistics"]
    assert (statistics["rows"], statistics["negatives_per_row"], statistics["query_tokens_max"]) == (3, 0.33, 6)
    said = workspace("finetune", "check", "pairs.jsonl").stdout.splitlines()
    assert said[0].startswith("pairs.jsonl warning: few: 3 rows")
    assert said[1].split() == ["pairs.jsonl"] and said[2].split() == ["rows", "3"]
    assert said[-1] == "0 errors, 1 warning"


def test_errors_name_lines_and_end_with_3(workspace):
    workspace.write("wrong.jsonl", [*PAIRS, {"query": "who\x1b[31m?"}, PAIRS[0] | {"positive": "who?", "query": "Who"}])
    workspace.write("held-out.jsonl", [PAIRS[1]])
    ended = workspace("finetune", "check", "wrong.jsonl", "--against", "held-out.jsonl", code=3)
    assert "wrong.jsonl:2 error: leakage: the query stands in line 1 of held-out.jsonl" in ended.stdout
    assert 'wrong.jsonl:4 error: key: has no "positive"' in ended.stdout
    assert "wrong.jsonl:5 error: same" in ended.stdout
    assert "wrong.jsonl has 4 errors" in ended.error
    found = json.loads(workspace.ending("finetune", "check", "wrong.jsonl", "--json").stdout)
    assert [(each["line"], each["kind"]) for each in found["findings"] if each["level"] == "error"] == [
        (4, "key"),
        (5, "same"),
    ]


def test_the_model_and_the_golden_set_can_be_named(workspace):
    workspace.write("pairs.jsonl", PAIRS)
    workspace.write("golden.jsonl", [{"question": "What is drayage", "documents": ["notes/glossary.txt"]}])
    words = ("finetune", "check", "pairs.jsonl", "--against", "golden.jsonl", "--model", "minilm", "--json")
    found = json.loads(workspace.ending(*words).stdout)
    assert (found["model"], found["counts"]) == ("minilm", {"leakage": 1, "few": 1})
    assert found["statistics"]["query_tokens_max"] >= 8
    workspace("finetune", "check", "none.jsonl", code=3)
