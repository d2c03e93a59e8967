"""eval, golden, and publishing what did not pass its gate, as users type them."""

import json
import re

import pytest

GOLDEN = [
    {"question": "how much may support refund?", "documents": ["guides/refunds.md"]},
    {"question": "what is drayage?", "documents": ["notes/glossary.txt"]},
    {"question": "what is demurrage <b>?", "documents": ["notes/lost.md"]},
    {"question": "who won the cup?", "documents": [], "answerable": False},
]


@pytest.fixture(scope="module")
def published(new_workspace, handbook, write_tree, tmp_path_factory):
    """A workspace with version 1, version 2 that the gate refused, and `golden.jsonl`."""
    snapdex = new_workspace("evaluation")
    golden = "".join(json.dumps(row) + "\n" for row in GOLDEN)
    (snapdex.root / "golden.jsonl").write_text(golden, "utf-8")
    sources = write_tree(tmp_path_factory.mktemp("tree"), handbook)
    snapdex("run", sources)
    (sources / "notes/glossary.txt").unlink()
    snapdex.refused = snapdex("run", sources, code=7)
    return snapdex


def test_eval_shows_the_worst_and_what_is_missing(published):
    said = published("eval", "--golden", "golden.jsonl", "--worst", "1").stdout
    assert "not in v1: 1 document of the golden set: notes/lost.md" in said
    assert "0.000  what is demurrage" in said
    assert "answered although unanswerable: 1 of 1" in said
    assert "per_query" not in published.json("eval", "--golden", "golden.jsonl")


def test_the_golden_set_of_the_gate_is_what_is_asked(published):
    named, other = published.json("eval", "--golden", "golden.jsonl"), published.json("eval")
    assert (other["queries"], other["golden"]) == (named["queries"], str(published.root / "golden.jsonl"))
    assert published.json("gate", "v1", "v1", code=0)["outcome"] in ("pass", "undecided")
    nameless = published("eval", "--set", "gate.golden=", code=2)
    assert "--golden" in nameless.hint
    assert published("eval", "--golden", "nowhere.jsonl", code=3).error == "there is no golden set nowhere.jsonl"


def test_what_the_gate_refused_is_reported(published, tmp_path):
    """The same JSON as of any run, beside the error and its code."""
    (tmp_path / "refunds.md").write_text("# Nothing\n", "utf-8")
    ending = published.ending("run", tmp_path, "--allow-mass-delete", "--json")
    assert ending.code == 7 and "it is not published" in ending.error
    report = json.loads(ending.stdout)
    assert (report["published"], report["gate"]["passed"], report["gate"]["version"]) == (False, False, 3)
    assert report["documents"]["total"] == 1 and report["seconds"]["total"] > 0


def test_eval_compares_and_writes_a_page(published):
    page = published.root / "page.html"
    words = ("eval", "v2", "--against", "v1", "--golden", "golden.jsonl", "--html", page, "--queries")
    found = published.json(*words)
    assert (found["against"]["version"], found["against"]["losses"]) == (1, 1)
    assert [each["question"] for each in found["per_query"]][-1] == "who won the cup?"
    assert found["missing_documents"] == ["notes/glossary.txt", "notes/lost.md"]
    html = page.read_text("utf-8")
    assert "Against v1" in html and "what is demurrage &lt;b&gt;?" in html


def test_answers_are_scored_and_on_the_page(published):
    page = published.root / "answers.html"
    (published.root / "answerable.jsonl").write_text("".join(json.dumps(row) + "\n" for row in GOLDEN[:3]), "utf-8")
    words = ("eval", "v1", "--golden", "answerable.jsonl", "--answers", "--html", page)
    found = published.json(*words)
    assert found["metrics"]["abstain_recall"] is None and found["answers"]["metrics"]["abstain_recall"] is None
    html = page.read_text("utf-8")
    assert "Answers by extractive" in html and "<td>faithfulness</td>" in html
    assert "cites other documents" in html and html.count("what is demurrage &lt;b&gt;?") == 2
    said = published(*words).stdout
    assert said.count("abstain_recall") == 2 and re.search(r"^abstain_recall +-$", said, re.MULTILINE)


def test_a_version_that_did_not_pass_is_published_with_a_reason_only(published):
    assert "to insist: snapdex publish 2 --override REASON" in published.refused.hint
    assert "undecided" in published.json("show", "v2")["gate"]["outcome"]
    assert "did not pass its gate" in published("publish", "v2", code=7).error
    published("publish", "v2", "--override", "the glossary is withdrawn")
    (move, _) = published.json("log", "--moves")
    assert move["kind"] == "publish"
    assert move["reason"] == "overrides the gate (undecided): the glossary is withdrawn"


def test_golden_sets_are_checked_drafted_and_grown(published):
    checked = published.ending("golden", "check", "golden.jsonl", "--at", "v1", "--json")
    assert checked.code == 3
    (error,) = [each for each in json.loads(checked.stdout)["findings"] if each["level"] == "error"]
    assert (error["line"], error["kind"]) == (3, "document")
    assert published.json("golden", "draft", "drafts.jsonl", "-n", "3")["added"] == 3
    assert "is a draft" in published("eval", "--golden", "drafts.jsonl", code=3).error
    evaluation = published.root / "eval.json"
    evaluation.write_text(published("eval", "--golden", "golden.jsonl", "--queries", "--json").stdout, "utf-8")
    grown = published.json("golden", "grow", "drafts.jsonl", "--from", evaluation)
    assert grown["added"] >= 2
    assert published.json("golden", "grow", "drafts.jsonl", "--from", evaluation)["added"] == 0
