"""What answers are worth: each number is one that can be checked by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines import evaluate_answers
from pipelines.evaluate import read_golden
from pipelines.evaluate_answers import AnswersReport
from tests.ask.world import with_model
from tests.http_server import Server, says
from tests.index.state import State

GOLDEN = [
    {"question": "How much may a standby lag?", "documents": ["standby.md"], "answer": "16 MiB"},
    {"question": "Which port has Printbridge?", "documents": ["printer.md"], "answer": "17845"},
    {"question": "Who approves refunds?", "documents": ["refunds.md"]},
    {"question": "Who painted the ceiling?", "documents": [], "answerable": False},
]
SAID = {
    "lag?": "A standby may lag by 16 MiB.",
    "Printbridge?": "Refunds above 50 euros need a second person. It was always so in Rome.",
    "refunds?": "I do not know.",
    "ceiling?": "Printbridge listens on local port 17845.",
}


def golden(root: Path) -> Path:
    path = root / "golden.jsonl"
    path.write_text("\n".join(map(json.dumps, GOLDEN)), "utf-8")
    return path


def scored(state: State, chat: Server, **more: Any) -> AnswersReport:
    queries = read_golden(golden(state.root))
    return evaluate_answers.run(with_model(state, chat).config, state.workspace, queries, 1, **more)


@pytest.fixture
def speaker(chat: Server) -> Server:
    chat.right = lambda body: says(SAID[body["messages"][-1]["content"].split()[-1]])
    return chat


def test_every_number_is_what_it_says(handbook: State, speaker: Server) -> None:
    report = scored(handbook, speaker)
    assert report.metrics["answered"] == pytest.approx(2 / 3)
    assert report.metrics["faithfulness"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert report.metrics["citation_precision"] == pytest.approx((1 + 0) / 2)
    assert report.metrics["citation_recall"] == pytest.approx((1 + 0) / 2)
    assert report.metrics["contains"] == pytest.approx((1 + 0) / 2)
    assert report.metrics["abstain_precision"] == report.metrics["abstain_recall"] == 0.0
    (first, *_) = read_golden(golden(handbook.root))
    alone = evaluate_answers.run(with_model(handbook, speaker).config, handbook.workspace, [first], 1)
    assert "abstain_precision" not in alone.metrics and "abstain_recall" not in alone.metrics
    assert report.metrics["tokens"] > 10
    assert [each.problem for each in report.scored] == [
        "",
        "unsupported",
        "refused, and there is an answer",
        "answered, and there is none",
    ]
    assert report.problems == dict.fromkeys(
        ("refused, and there is an answer", "answered, and there is none", "unsupported"), 1
    )


def test_a_judge_reads_what_cannot_be_counted(handbook: State, speaker: Server) -> None:
    def judge(body: dict[str, Any]) -> Any:
        said = body["messages"][-1]["content"]
        if body["model"] != "judge":
            return says(SAID[said.split()[-1]])
        return says("Yes." if "16 MiB" in said.partition("<answer>")[2].partition("</answer>")[0] else "no")

    speaker.right = judge
    report = scored(handbook, speaker, judge="openai:judge")
    assert report.metrics["relevance"] == pytest.approx(1 / 3)
    assert report.metrics["judged_right"] == pytest.approx(1 / 2)
    assert "relevance" not in report.scored[2].metrics  # an abstention


def test_without_a_model_quotations_are_judged(handbook: State) -> None:
    report = evaluate_answers.run(handbook.config, handbook.workspace, read_golden(golden(handbook.root)), 1)
    assert (report.model, report.metrics["faithfulness"], report.metrics["answered"]) == ("extractive", 1.0, 1.0)
