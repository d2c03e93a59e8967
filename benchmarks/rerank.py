"""A second look at what hybrid search finds, token by token (`search.reranker: late-interaction`), on SciFact.

The 300 test claims, and the 104 of them that share no document with the training split; with MiniLM, and with the model
that `benchmarks finetune` makes with LoRA, where a workspace was kept. A document scores by its best chunk.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.corpora import real_data
from benchmarks.report import Options, Report
from benchmarks.scifact import Claims, documents_of, ndcg_at, read_claims
from benchmarks.workspaces import config_of, kept_or_fresh, say
from pipelines import finetune, ingest
from pipelines.config import SearchConfig
from pipelines.files import Workspace
from pipelines.index import Reader, open_index

DEPTH = 50  # hits that a reader asks for
READ = SearchConfig().rerank_depth


def measure(options: Options) -> Report:
    report = Report(
        "rerank", f"SciFact, hybrid search with weight 0.5, the first {READ} hits looked at; nDCG@10 in percent"
    )
    with real_data("scifact", options.data) as collection, kept_or_fresh(options.keep, "scifact") as workspace:
        claims = read_claims(collection)
        asked = list(claims.texts)[:20] if options.quick else list(claims.texts)
        models = {"minilm": "minilm"}
        if (finetune.model_folder(workspace, "lora") / "config.json").exists():
            models["lora"] = f"path:{finetune.model_folder(workspace, 'lora')}"
        for name, model in models.items():
            _judge(report, name, model, workspace, collection, claims, asked)
    return report


def _judge(
    report: Report,
    name: str,
    model: str,
    workspace: Workspace,
    collection: Path,
    claims: Claims,
    asked: Sequence[str],
) -> None:
    config = config_of(index={"name": "scifact"}, embed={"model": model}, search={"dense_weight": 0.5, "cache": 0})
    done = ingest.run(config, workspace, sources=[str(collection / "corpus.jsonl")], base=Path("/"))
    with open_index("scifact", workspace=workspace.root, config=config) as reader:
        for again in (False, True):
            began = time.perf_counter()
            worth = {query: _worth(reader, claims, query, int(done["version"]), again) for query in asked}
            taken = (time.perf_counter() - began) / len(asked)
            label = f"{name}: {'reranked' if again else 'hybrid'}"
            report.add(label, 100 * mean(worth.values()), "", ">= 74" if again else "")
            if apart := [each for query, each in worth.items() if query in claims.apart]:
                report.add(f"{label}, {len(apart)} without overlap", 100 * mean(apart))
            report.add(f"{label}: a query", 1000 * taken, "ms")
            say(f"rerank: {label}")


def _worth(reader: Reader, claims: Claims, query: str, version: int, again: bool) -> float:
    hits = reader.search(claims.texts[query], k=DEPTH, at=version, rerank=again).hits
    return ndcg_at(10, documents_of(hit.document for hit in hits), claims.relevant[query])
