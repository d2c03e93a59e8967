"""A cross-encoder after hybrid search on SciFact: trained on the 809 training claims, judged on the 300 test claims.

No weights of a cross-encoder could be fetched where this was measured. So one is trained from those of MiniLM: the best
chunk of each judged abstract is right, and chunks of other abstracts that hybrid search finds for the claim are wrong.
It reads the first hits of hybrid search over two versions: of MiniLM, and of the model that `benchmarks finetune` makes
with LoRA, where a workspace was kept. `mixed`: half its score and half that of search, both scaled to 0..1 per query.
"""

import random
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.corpora import real_data
from benchmarks.report import Options, Report
from benchmarks.scifact import documents_of, ndcg_at
from benchmarks.workspaces import config_of, kept_or_fresh, say
from pipelines import finetune, ingest
from pipelines.config import Config
from pipelines.embed import score_pairs
from pipelines.evaluate import Query, read_golden
from pipelines.files import Workspace
from pipelines.index import Hit, open_index
from pipelines.models import resolve_model, resolve_reranker

READ = 20  # hits that the cross-encoder puts in order
DEPTH = 50  # hits that a reader asks for
WRONG = 3  # passages for each right one
EPOCHS, BATCH, RATE, TOKENS = 2, 16, 5e-5, 256


def measure(options: Options) -> Report:
    report = Report("rerank", f"SciFact, 300 test claims, the first {READ} hits of hybrid search; nDCG@10 in percent")
    with real_data("scifact", options.data) as claims, kept_or_fresh(options.keep, "scifact") as workspace:
        models = {"minilm": "minilm"}
        if (finetune.model_folder(workspace, "lora") / "config.json").exists():
            models["lora"] = f"path:{finetune.model_folder(workspace, 'lora')}"
        versions = {name: _indexed(_config(model), workspace, claims) for name, model in models.items()}
        learned = read_golden(claims, "train")
        target = workspace.root / "data" / "models" / "reranker"
        if not (target / "config.json").exists():
            _train(_config("minilm"), workspace, learned[:60] if options.quick else learned, versions["minilm"], target)
        asked = [query for query in read_golden(claims) if query.answerable]
        asked = asked[:20] if options.quick else asked
        for name, version in versions.items():
            _judge(report, name, _config(models[name]), workspace, asked, version, target)
    return report


def _config(model: str) -> Config:
    return config_of(index={"name": "scifact"}, embed={"model": model}, search={"dense_weight": 0.5, "cache": 0})


def _indexed(config: Config, workspace: Workspace, claims: Path) -> int:
    done = ingest.run(config, workspace, sources=[str(claims / "corpus.jsonl")], base=Path("/"))
    return int(done["version"])


def _found(config: Config, workspace: Workspace, queries: Sequence[Query], version: int) -> dict[str, list[Hit]]:
    with open_index("scifact", workspace=workspace.root, config=config) as reader:
        return {query.id: reader.search(query.text, k=DEPTH, at=version).hits for query in queries}


def _train(config: Config, workspace: Workspace, queries: Sequence[Query], version: int, target: Path) -> None:
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    choose = random.Random(0)
    rows: list[dict[str, Any]] = []
    for query, hits in zip(queries, _found(config, workspace, queries, version).values(), strict=True):
        right = {hit.document: hit for hit in reversed(hits) if hit.document in query.relevant}
        wrong = [hit for hit in hits if hit.document not in query.relevant]
        for hit in right.values():
            chosen = [(hit, 1.0), *((each, 0.0) for each in choose.sample(wrong[:READ], WRONG))]
            rows += [{"query": query.text, "passage": each.passage, "label": label} for each, label in chosen]
    say(f"rerank: {len(rows):,} pairs to learn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = resolve_model(config.embed, workspace).directory
        model = CrossEncoder(str(base), num_labels=1, max_length=TOKENS, local_files_only=True)
        place = workspace.state / "reranker"
        arguments = CrossEncoderTrainingArguments(
            output_dir=str(place),
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            warmup_steps=0.1,
            seed=0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=50,
        )
        loss = BinaryCrossEntropyLoss(model)
        CrossEncoderTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows), loss=loss).train()
        model.save_pretrained(str(target))
        shutil.rmtree(place, ignore_errors=True)


def _judge(
    report: Report,
    name: str,
    config: Config,
    workspace: Workspace,
    queries: Sequence[Query],
    version: int,
    reranker: Path,
) -> None:
    model = resolve_reranker(f"path:{reranker}", workspace)
    found = _found(config, workspace, queries, version)
    orders: dict[str, list[float]] = {"hybrid": [], "reranked": [], "mixed": []}
    for query in queries:
        hits = found[query.id]
        read = score_pairs(model, query.text, [hit.passage for hit in hits[:READ]])
        mixed = [sum(both) / 2 for both in zip(_scaled(read), _scaled([hit.score for hit in hits[:READ]]), strict=True)]
        for label, order in (("hybrid", hits), ("reranked", _by(hits, read)), ("mixed", _by(hits, mixed))):
            ranking = documents_of(hit.document for hit in order)
            orders[label].append(ndcg_at(10, ranking, query.relevant))
    for label, values in orders.items():
        report.add(f"{name}: {label}", 100 * mean(values), "", ">= 74" if label == "reranked" else "")


def _by(hits: Sequence[Hit], scores: Sequence[float]) -> list[Hit]:
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    return [*(hits[place] for place in order), *hits[len(scores) :]]


def _scaled(scores: Sequence[float]) -> list[float]:
    low, high = min(scores), max(scores)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]
