"""End to end on 20 real PDFs: quarterly reports of five companies (KG-RAG SEC 10-Q), 195 questions, minilm.

The reports of a company repeat each other from quarter to quarter, and most questions are about one quarter or one
company, so the right document is hard to tell from its neighbours. Each search mode, with and without contextual
headers (`chunk.context`), and with whole sections as hits.
"""

import json
from pathlib import Path

from benchmarks.corpora import real_data
from benchmarks.report import Options, Report
from benchmarks.workspaces import config_of, kept_or_fresh, say
from pipelines import ingest
from pipelines.config import Config
from pipelines.evaluate import Query
from pipelines.quality import evaluate_version

CONTEXTS = ("none", "title", "section")
SEARCHES = ("dense", "lexical", "hybrid", "hybrid section")  # mode, and what a hit shows


def measure(options: Options) -> Report:
    report = Report("filings", "195 questions about 20 quarterly reports in PDF, minilm; recall of documents, percent")
    contexts = CONTEXTS[::2] if options.quick else CONTEXTS
    with real_data("kg-rag", options.data) as collection, kept_or_fresh(options.keep, "filings") as workspace:
        queries = _queries(collection / "sec-10-q" / "golden.jsonl")
        misses: dict[tuple[str, str], float] = {}
        for context in contexts:
            config = _config(context)
            source = str(collection / "sec-10-q" / "data" / "v1" / "docs")
            done = ingest.run(config, workspace, sources=[source], base=Path("/"))
            say(f"filings: {context}: {done['documents']['total']} documents, {done['chunks']['total']:,} chunks")
            report.add(f"{context}: chunks", done["chunks"]["total"])
            for search in SEARCHES:
                mode, _, expand = search.partition(" ")
                asked = _config(context, mode=mode, expand=expand or "chunk")
                found = evaluate_version(asked, workspace, queries, done["version"], exact=True).metrics
                for metric in ("recall@5", "recall@10"):
                    report.add(f"{context}: {search} {metric}", 100 * found[metric])
                misses[context, search] = 1 - found["recall@10"]
        for search in SEARCHES:
            fewer = 1 - misses["section", search] / misses["none", search]
            bar = ">= 25" if search == "hybrid" else ""
            report.add(f"{search}: fewer misses in the first 10 with headers", 100 * fewer, "%", bar)
    return report


def _config(context: str, **search: str) -> Config:
    return config_of(
        index={"name": f"filings-{context}"}, embed={"model": "minilm"}, chunk={"context": context}, search=search
    )


def _queries(path: Path) -> list[Query]:
    rows = map(json.loads, path.read_text("utf-8").splitlines())
    return [Query(row["id"], row["question"], dict.fromkeys(row["source_docs"], 1)) for row in rows]
