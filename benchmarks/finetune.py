"""Fine-tuning MiniLM on the 809 training claims of SciFact: what is gained on the 300 test claims, what is forgotten.

Judged as `snapdex finetune embedding` judges: nDCG@10 of documents, every distance computed, over the chunks of the
index. Other domains: paragraphs of SQuAD with 300 questions, and the chunks of 20 quarterly reports with 195. Three
seeds, one of them with LoRA, too. At the end the index is embedded with the model of the first seed and with that of
LoRA, and the ladder of dense and hybrid search is climbed in each version.
"""

import json
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.abstain import Article
from benchmarks.corpora import real_data
from benchmarks.report import Options, Report
from benchmarks.workspaces import config_of, kept_or_fresh, say
from pipelines import evaluate_model, finetune, ingest
from pipelines.config import Config
from pipelines.evaluate import read_golden
from pipelines.files import Workspace
from pipelines.manifests import read_chunks
from pipelines.model import Revision
from pipelines.pairs.stage import run as make_pairs
from pipelines.quality import evaluate_version

QUESTIONS, PARAGRAPHS = 300, 2000  # of SQuAD
SETTINGS: dict[str, Any] = {"epochs": 3, "batch": 16, "learning_rate": 3e-5, "evaluations": 1}
LORA: dict[str, Any] = {**SETTINGS, "method": "lora", "learning_rate": 5e-4}


def measure(options: Options) -> Report:
    report = Report("finetune", "minilm on SciFact train, judged on the 300 test claims; nDCG@10 in percent")
    with (
        real_data("scifact", options.data) as claims,
        real_data("squad", options.data) as squad,
        real_data("kg-rag", options.data) as filings,
        kept_or_fresh(options.keep, "scifact") as workspace,
    ):
        config = _config(claims, SETTINGS, seed=0)
        ingest.run(config, workspace, sources=[str(claims / "corpus.jsonl")], base=Path("/"))
        _squad(squad, workspace.root / "squad")
        _filings(filings / "sec-10-q", workspace)
        seeds = (0,) if options.quick else (0, 1, 2)
        found = [_trained(report, _config(claims, SETTINGS, seed=seed), workspace, f"seed-{seed}") for seed in seeds]
        gains = [each["test"]["difference"] for each in found]
        report.add("gain, mean of the seeds", 100 * mean(gains), "", ">= 6")
        report.add("gain, spread of the seeds", 100 * (max(gains) - min(gains)))
        report.add("lost on other domains, mean", 100 * mean(each["forgetting"] for each in found), "", "<= 0.5")
        if not options.quick:
            lora = _trained(report, _config(claims, LORA, seed=0), workspace, "lora")
            report.add(
                "gain with LoRA, share of the full one", 100 * lora["test"]["difference"] / gains[0], "%", ">= 95"
            )
        _ladder(report, config, workspace, claims, ("seed-0",) if options.quick else ("seed-0", "lora"))
    return report


def _config(claims: Path, settings: Mapping[str, Any], *, seed: int, **more: dict[str, Any]) -> Config:
    return config_of(
        index={"name": "scifact"},
        embed={"model": "minilm"},
        gate={"golden": str(claims)},
        pairs={"judgements": str(claims), "mined": 0, "held_out": 0.05},
        finetune={**settings, "seed": seed},
        evaluate_model={"off_domain": ["squad", "filings"]},
        **more,
    )


def _trained(report: Report, config: Config, workspace: Workspace, name: str) -> dict[str, Any]:
    """Train and judge; returns the evaluation, with that of the test claims under `test`."""
    began = time.perf_counter()
    made = make_pairs(config, workspace, name)
    trained = finetune.run(config, workspace, name)
    minutes = (time.perf_counter() - began) / 60
    say(
        f"finetune: {name}: {made.train} pairs, {trained.facts.steps} steps, {minutes:.1f} min, {trained.facts.history}"
    )
    found = evaluate_model.run(config, workspace, name).found
    test = next(iter(found["corpora"].values()))
    say(f"finetune: {name}: {found['outcome']}: {found['reason']}")
    report.add(f"{name}: dense before", 100 * test["before"])
    report.add(f"{name}: dense after", 100 * test["after"])
    for part, values in (("gain", test), ("gain on claims about documents that training had not", test["unseen"])):
        report.add(f"{name}: {part}", 100 * values["difference"])
        report.add(f"{name}: {part}, 95 % from", 100 * values["low"])
        report.add(f"{name}: {part}, to", 100 * values["high"])
    for corpus in ("squad", "filings"):
        report.add(f"{name}: {corpus}", 100 * found["corpora"][corpus]["difference"])
    report.add(f"{name}: pairs and training", trained.facts.seconds / 60, "min", "< 40")
    return {**found, "test": test}


def _ladder(report: Report, config: Config, workspace: Workspace, claims: Path, trained: Sequence[str]) -> None:
    """Dense and hybrid search, and hybrid with a second look, before and after the index is embedded anew."""
    queries = [query for query in read_golden(claims) if query.answerable]
    models = {"minilm": "minilm"} | {name: f"path:{finetune.model_folder(workspace, name)}" for name in trained}
    for label, model in models.items():
        changed = config.with_model(model).model_copy(update={"gate": config.gate.model_copy(update={"golden": ""})})
        version = ingest.run(changed, workspace, sources=[str(claims / "corpus.jsonl")], base=Path("/"))["version"]
        for mode, again in (("dense", False), ("hybrid", False), ("hybrid", True)):
            search = changed.search.model_copy(update={"mode": mode, "rerank": again})
            asked = changed.model_copy(update={"search": search})
            metrics = evaluate_version(asked, workspace, queries, version, exact=True).metrics
            report.add(f"{label}, {mode}{', reranked' if again else ''}", 100 * metrics["ndcg@10"])


def _squad(collection: Path, target: Path) -> None:
    """Paragraphs of every other article as documents, and questions about them."""
    articles: list[Article] = json.loads((collection / "squad-v2.json").read_text("utf-8"))["data"][1::2]
    paragraphs = [each for article in articles for each in article["paragraphs"]]
    chosen = paragraphs[:: max(1, len(paragraphs) // PARAGRAPHS)][:PARAGRAPHS]
    asked = [
        (question["question"], str(number))
        for number, each in enumerate(chosen)
        for question in each["qas"][:1]
        if not question["is_impossible"]
    ]
    _beir(target, ((str(number), each["context"]) for number, each in enumerate(chosen)), asked[:QUESTIONS])


def _filings(collection: Path, workspace: Workspace) -> None:
    """The chunks of the reports, each under the name of its report."""
    config = config_of(index={"name": "filings"}, embed={"model": "minilm"})
    ingest.run(config, workspace, sources=[str(collection / "data" / "v1" / "docs")], base=Path("/"))
    _, rows = read_chunks(workspace, "filings")
    names = {row.revision_key: row.uri for row in rows}
    revisions = workspace.store("chunks").read(names)
    passages = (
        (names[key], chunk.embedded_text) for key, value in revisions for chunk in Revision.from_json(value).chunks
    )
    questions = [json.loads(line) for line in (collection / "golden.jsonl").read_text("utf-8").splitlines()]
    asked = [(each["question"], document) for each in questions for document in each["source_docs"]]
    _beir(workspace.root / "filings", passages, asked)


def _beir(target: Path, passages: Iterable[tuple[str, str]], asked: list[tuple[str, str]]) -> None:
    shutil.rmtree(target, ignore_errors=True)
    (target / "qrels").mkdir(parents=True)
    with (target / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for id, text in passages:
            file.write(json.dumps({"_id": id, "title": "", "text": text}) + "\n")
    ids = {question: str(number) for number, question in enumerate(dict.fromkeys(question for question, _ in asked))}
    rows = [{"_id": id, "text": question} for question, id in ids.items()]
    (target / "queries.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    judged = "".join(f"{ids[question]}\t{document}\t1\n" for question, document in asked)
    (target / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", "utf-8")
