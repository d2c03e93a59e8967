"""How well a version knows what it does not have: SQuAD v2, half of its articles indexed, minilm.

The rule is learned on half of the answerable questions about the indexed articles, as `run` learns it from a golden
set. Then it is asked: the other half; questions about articles that are not there; and unanswerable questions about
paragraphs that are (the harder case: they were written to look answerable).
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.corpora import real_data
from benchmarks.report import Options, Report
from benchmarks.workspaces import config_of, kept_or_fresh, say
from pipelines import ingest
from pipelines.evaluate.calibration import Evidence, learn_threshold
from pipelines.index import open_index

QUESTIONS = 600  # of each kind
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)

Article = dict[str, Any]


def measure(options: Options) -> Report:
    most = 100 if options.quick else QUESTIONS
    report = Report("abstain", f"SQuAD v2, every other article indexed, minilm, up to {most} questions of each kind")
    config = config_of(index={"name": "squad"}, embed={"model": "minilm"})
    with real_data("squad", options.data) as collection, kept_or_fresh(options.keep, "squad") as workspace:
        articles = json.loads((collection / "squad-v2.json").read_text("utf-8"))["data"]
        corpus = workspace.root / "corpus.jsonl"
        _write(articles[::2], corpus)
        ingest.run(config, workspace, sources=[str(corpus)], base=Path("/"))
        with open_index("squad", workspace=workspace.root, config=config) as reader:

            def evidence(questions: Sequence[str]) -> list[Evidence]:
                return [Evidence(*reader.evidence(question)) for question in questions]

            here = _questions(articles[::2], answerable=True)[: 2 * most]
            learned_on, answerable = evidence(here[: len(here) // 2]), evidence(here[len(here) // 2 :])
            say("abstain: answerable questions asked")
            absent = evidence(_questions(articles[1::2], answerable=True)[:most])
            hard = evidence(_questions(articles[::2], answerable=False)[:most])
    for share in SHARES:
        rule = learn_threshold(learned_on, share)
        assert rule is not None
        refused = [100 * float(np.mean([_refused(rule, each) for each in kind])) for kind in (answerable, absent, hard)]
        report.add(f"at {share:.0%}: answerable refused", refused[0], "%")
        report.add(f"at {share:.0%}: article absent, refused", refused[1], "%", ">= 80" if share == 0.05 else "")
        report.add(f"at {share:.0%}: paragraph present, no answer, refused", refused[2], "%")
    return report


def _refused(rule: dict[str, float], evidence: Evidence) -> bool:
    total = evidence.similarity / rule["similarity_spread"] + evidence.coverage / rule["coverage_spread"]
    return total < rule["threshold"]


def _questions(articles: Sequence[Article], *, answerable: bool) -> list[str]:
    found = [
        question["question"]
        for article in articles
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
        if question["is_impossible"] is not answerable
    ]
    random.Random(1).shuffle(found)
    return found


def _write(articles: Sequence[Article], target: Path) -> None:
    with target.open("w", encoding="utf-8") as file:
        for article in articles:
            title = article["title"]
            for number, paragraph in enumerate(article["paragraphs"]):
                text = {"_id": f"{title}/{number}", "title": title.replace("_", " "), "text": paragraph["context"]}
                file.write(json.dumps(text) + "\n")
