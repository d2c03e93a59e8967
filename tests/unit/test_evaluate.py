"""Evaluations, what they decide between two versions, and the tools for golden sets; without a database."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.config import GateConfig
from pipelines.errors import InputError
from pipelines.evaluate import Answer, Evaluation, Hit, Query, compare, evaluate, gate, missing_documents, read_golden
from pipelines.evaluate.check import check
from pipelines.evaluate.draft import add, from_evaluation, from_headings
from pipelines.evaluate.metrics import shown_metrics
from pipelines.evaluate.page import Subject, histogram, page
from pipelines.evaluate.results import Asked

QUERIES = [
    Query("found", "where is the port?", {"a.md": 1}, 1),
    Query("late", "who pays?", {"b.md": 1}, 2),
    Query("lost", "what is drayage?", {"gone.md": 1}, 3),
    Query("none", "who won?", {}, 4),
    Query("refused", "<b>who lost?</b>", {}, 5),
]


def search(text: str, k: int) -> Answer:
    hits = [
        Hit("a.md", "The port\n<script>alert(1)</script>", ("Ports",), 0.9),
        Hit("a.md", "again"),
        Hit("b.md", "pay"),
    ]
    return Answer(hits[:k], "lost" in text)


@pytest.fixture
def found() -> Evaluation:
    return evaluate(QUERIES, search, as_reader=lambda text: None)


def scored(*values: float) -> Evaluation:
    asked = [Asked(f"q{n:03}", f"question {n}", True, False, {"ndcg@10": v}, [], []) for n, v in enumerate(values)]
    return Evaluation({"ndcg@10": sum(values) / max(1, len(values))}, {}, asked)


def test_every_query_says_what_was_expected_and_what_was_returned(found: Evaluation) -> None:
    assert [each.id for each in found.worst_first("ndcg@10")] == ["lost", "late", "found", "none", "refused"]
    assert [each.id for each in found.failed("ndcg@10")] == ["lost", "late"]
    lost = found.asked[2]
    assert (lost.expected, [hit.document for hit in lost.returned]) == (["gone.md"], ["a.md", "b.md"])
    assert (lost.returned[0].section, lost.returned[0].score) == (("Ports",), 0.9)
    assert found.metrics["precision@1"] == pytest.approx(1 / 3)
    assert (found.metrics["abstain_precision"], found.metrics["abstain_recall"]) == (1.0, 0.5)
    assert missing_documents(QUERIES, {"a.md", "b.md"}) == ["gone.md"]


def test_what_applies_to_no_query_has_no_number() -> None:
    answered = evaluate([Query("q", "question", {"a.md": 1})], search).metrics
    assert "abstain_recall" not in answered and "abstain_precision" not in answered
    assert shown_metrics(answered) == answered | {"abstain_precision": None, "abstain_recall": None}
    unanswered = evaluate([Query("q", "question", {})], search).metrics
    assert unanswered == {"abstain_recall": 0.0}


def test_latency_is_of_a_reader_on_a_sample() -> None:
    seen: list[str] = []
    queries = [Query(str(n), f"question {n}", {"a.md": 1}) for n in range(120)]
    metrics = evaluate(queries, search, as_reader=seen.append).metrics
    assert len(seen) == 40 and seen[:2] == ["question 0", "question 3"]
    assert metrics["latency_p95_ms"] >= metrics["latency_p50_ms"]
    assert "latency_p50_ms" not in evaluate(queries, search).metrics


# -- the gate


@pytest.mark.parametrize(
    ("before", "after", "outcome", "passed"),
    [
        ([1.0] * 40, [1.0] * 40, "pass", True),
        ([1.0] * 40, [1.0] * 20 + [0.0] * 20, "fail", False),
        ([0.5] * 40, [0.5] * 39 + [1.0], "pass", True),
        ([1.0] * 5, [0.0] * 5, "undecided", False),
        ([1.0] * 5, [1.0] * 5, "undecided", True),
        ([0.5] * 20, [0.0] * 10 + [1.0] * 10, "undecided", True),
        ([], [], "undecided", True),
    ],
)
def test_outcomes(before: list[float], after: list[float], outcome: str, passed: bool) -> None:
    decision = gate(scored(*after), scored(*before), GateConfig())
    assert (decision["outcome"], decision["passed"]) == (outcome, passed)
    assert decision["reason"]
    json.dumps(decision)


@pytest.mark.parametrize(("undecided", "passed"), [("difference", False), ("publish", True), ("refuse", False)])
def test_what_happens_where_the_gate_cannot_tell(undecided: str, passed: bool) -> None:
    config = GateConfig.model_validate({"undecided": undecided, "tolerance": 0.1})
    decision = gate(scored(*[0.0] * 5), scored(*[1.0] * 5), config)
    assert decision["passed"] is passed
    assert "5 queries cannot tell" in decision["reason"]


def test_a_comparison_counts_wins_and_shows_what_changed_most() -> None:
    compared = compare(scored(1.0, 0.5, 0.5, 0.2), scored(0.0, 0.5, 0.9, 0.2), "ndcg@10")
    assert (compared.wins, compared.losses, compared.ties, compared.queries) == (1, 1, 2, 4)
    assert [each.after.id for each in compared.changed] == ["q000", "q002"]
    assert compared.difference["ndcg@10"] == pytest.approx(-0.15)


# -- the page


def test_the_page_escapes_what_comes_from_documents_and_loads_nothing(found: Evaluation) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    subject = Subject("handbook", 2, "ab" * 32, now, 3, 9, "minilm", "<i>.jsonl", "cd" * 32, "hybrid", 10, now)
    compared = compare(found, found, "ndcg@10")
    html = page(subject, found, "ndcg@10", missing=["<u>.md"], against=1, compared=compared)
    assert not any(tag in html for tag in ("<script", "<b>who", "<i>", "<u>", "http"))
    assert "&lt;script&gt;alert(1)" in html and "&lt;b&gt;who lost?" not in html
    for said in ("handbook v2", "abababababab", "gone.md", "Against v1", "what is drayage?", "1 of 2"):
        assert said in html


def test_the_distribution_counts_every_query_once() -> None:
    assert histogram([0.0, 0.05, 0.1, 0.3, 0.999, 1.0]) == [2, 1, 0, 1, 0, 0, 0, 0, 0, 2]


# -- golden sets


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_check_names_the_lines(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "golden.jsonl",
        {"question": "Where is the port?", "documents": ["a.md"]},
        {"question": "where is the PORT", "documents": ["a.md"]},
        {"question": "Who pays?", "documents": ["gone.md"]},
        {"question": "How much?", "documents": ["a.md#12 euros"]},
        {"question": "the port is north", "documents": ["a.md#port"]},
        {"question": "Drafted?", "documents": ["a.md"], "draft": True},
    )
    others = {"train": [Query("t", "who pays", {"a.md": 1})]}
    found = check(read_golden(path, drafts=True), {"a.md": ["So: the port", "is north."]}, GateConfig(), others)
    assert [(each.level, each.line, each.kind) for each in found] == [
        ("error", 2, "duplicate"),
        ("error", 3, "document"),
        ("error", 3, "split"),
        ("error", 4, "chunk"),
        ("warning", 5, "leakage"),
        ("error", 6, "draft"),
        ("warning", 0, "few"),
        ("warning", 0, "unanswerable"),
    ]


def test_drafts_are_spread_and_refused_until_somebody_judged_them(tmp_path: Path) -> None:
    sections = [(f"{name}.md", ["Guide", f"Part {n} of {name}"]) for name in "abc" for n in range(3)] * 2
    rows = from_headings([*sections, ("d.md", [])], 4)
    assert rows == from_headings(sections[::-1], 4)
    assert [len({row["documents"][0] for row in rows[:3]}), len(rows)] == [3, 4]
    path = tmp_path / "golden.jsonl"
    assert len(add(path, rows)) == 4 and add(path, rows) == []
    with pytest.raises(InputError, match=r"golden\.jsonl:1 is a draft, one of 4") as caught:
        read_golden(path)
    assert "draft" in caught.value.hint
    judged = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    lines(path, *({**row, "draft": False} for row in judged))
    assert len(read_golden(path)) == 4


@pytest.mark.parametrize(
    ("heading", "question"),
    [("How to ask", "How to ask?"), ("Who pays?", "Who pays?"), ("Limits.", "What does Guide say about Limits?")],
)
def test_a_heading_becomes_a_question(heading: str, question: str) -> None:
    assert from_headings([("a.md", ["Guide", heading])], 1)[0]["question"] == question


def test_a_golden_set_grows_by_what_went_wrong(tmp_path: Path, found: Evaluation) -> None:
    from dataclasses import asdict

    loaded = json.loads(json.dumps({"per_query": [asdict(each) for each in found.worst_first("ndcg@10")]}))
    path = lines(tmp_path / "golden.jsonl", {"question": "Who pays", "documents": ["b.md"]})
    added = add(path, from_evaluation(loaded, "ndcg@10", 10))
    assert [row["question"] for row in added] == ["what is drayage?", "who won?"]
    assert [query.draft for query in read_golden(path, drafts=True)] == [False, True, True]
    with pytest.raises(InputError, match="not an evaluation with its queries"):
        from_evaluation({"metrics": {}}, "ndcg@10", 10)
