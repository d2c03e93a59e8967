"""Retrieval quality on BEIR SciFact (5,183 abstracts, 300 test claims) with the default model and chunks.

A document scores by its best chunk. nDCG@10 is of what a reader gets who asks for 50 chunks; recall@100 needs 400 of
them. 196 of the 300 test queries share a relevant document with the training split, so the other 104 are reported too.
The documents are indexed a second time, cut off at the first window of the model, to see what chunking does.
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.corpora import real_data
from benchmarks.report import Options, Report
from benchmarks.workspaces import config_of, kept_or_fresh, say
from pipelines import index, ingest
from pipelines.config import Config
from pipelines.embed import load_encoder
from pipelines.files import Workspace
from pipelines.index.db import Connection
from pipelines.models import load_tokenizer, resolve_model

NDCG_CHUNKS, RECALL_CHUNKS = 50, 400
WEIGHT = 0.5  # of the dense score in hybrid search: nothing is learned here
BARS = {"dense exact": ">= 64.0", "dense": ">= 64.0", "lexical": ">= 66.5", "hybrid": ">= 71.5"}

Judgements = dict[str, dict[str, int]]
Ranking = list[str]


@dataclass(frozen=True)
class Claims:
    """The test queries with their texts, their relevant documents, and which share none of these with training."""

    texts: dict[str, str]
    relevant: Judgements
    apart: frozenset[str]


def measure(options: Options) -> Report:
    report = Report("scifact", "300 test queries, minilm, default chunks; nDCG and recall in percent")
    with real_data("scifact", options.data) as collection, kept_or_fresh(options.keep, "scifact") as workspace:
        claims = read_claims(collection)
        corpora = {"whole": collection / "corpus.jsonl"}
        if not options.quick:
            corpora["first window"] = cut_off(workspace, collection / "corpus.jsonl")
        vectors = _encode_queries(workspace, claims)
        for name, corpus in corpora.items():
            config = _config(name)
            done = ingest.run(config, workspace, sources=[str(corpus)], base=Path("/"))
            say(f"scifact: {name}: {done['chunks']['total']:,} chunks, {done['embedded']:,} embedded now")
            report.add(f"{name}: chunks", done["chunks"]["total"])
            with index.connect(index.database_url(workspace)) as connection:
                _add_quality(report, connection, name, config, claims, vectors)
    return report


def _add_quality(
    report: Report,
    connection: Connection,
    corpus: str,
    config: Config,
    claims: Claims,
    vectors: Mapping[str, Sequence[float]],
) -> None:
    for way in ("dense exact", "dense", "lexical", "hybrid"):
        mode, _, exact = way.partition(" ")

        def ask(query: str, k: int, mode: str = mode, exact: bool = bool(exact)) -> Ranking:
            found = index.search(
                connection,
                config.index.name,
                claims.texts[query],
                vector=None if mode == "lexical" else vectors[query],
                k=k,
                mode=mode,
                dense_weight=WEIGHT,
                exact=exact,
            )
            return documents_of(hit.document for hit in found.hits)

        ndcg = {query: ndcg_at(10, ask(query, NDCG_CHUNKS), claims.relevant[query]) for query in claims.relevant}
        recall = [recall_at(100, ask(query, RECALL_CHUNKS), claims.relevant[query]) for query in claims.relevant]
        whole = corpus == "whole"
        report.add(f"{corpus}: {way} nDCG@10", 100 * _mean(ndcg.values()), "", BARS[way] if whole else "")
        report.add(f"{corpus}: {way} recall@100", 100 * _mean(recall))
        report.add(f"{corpus}: {way} nDCG@10 of 104", 100 * _mean(ndcg[query] for query in claims.apart))


def _config(corpus: str) -> Config:
    name = "scifact" if corpus == "whole" else "scifact-first-window"
    return config_of(index={"name": name}, embed={"model": "minilm"})


def _encode_queries(workspace: Workspace, claims: Claims) -> dict[str, list[float]]:
    config = _config("whole")
    encoder = load_encoder(resolve_model(config.embed, workspace), config.embed)
    return dict(zip(claims.texts, encoder.encode_queries(list(claims.texts.values())).tolist(), strict=True))


# -- the collection ----------------------------------------------------------------------------------------------------


def read_claims(collection: Path) -> Claims:
    relevant: Judgements = {}
    with (collection / "qrels" / "test.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if int(row["score"]) > 0:
                relevant.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    lines = map(json.loads, (collection / "queries.jsonl").read_text("utf-8").splitlines())
    texts = {line["_id"]: line["text"] for line in lines if line["_id"] in relevant}
    apart = (collection / "test-queries-no-doc-overlap-with-train.txt").read_text("utf-8").split()
    assert texts.keys() == relevant.keys() and set(apart) <= relevant.keys()
    return Claims(texts, relevant, frozenset(apart))


def cut_off(workspace: Workspace, corpus: Path) -> Path:
    """The same corpus with every document cut at a word so that title and text are one chunk of the default size."""
    config = _config("first window")
    counter = load_tokenizer(resolve_model(config.embed, workspace))
    target = workspace.root / "first-window.jsonl"
    with corpus.open(encoding="utf-8") as file, target.open("w", encoding="utf-8") as out:
        for line in file:
            record = json.loads(line)
            room = config.chunk.max_tokens - counter.special_tokens - len(counter.spans(record["title"]))
            starts = counter.spans(record["text"])
            if len(starts) > room:
                record["text"] = record["text"][: int(starts[room])].rpartition(" ")[0]
            out.write(json.dumps(record) + "\n")
    return target


# -- metrics -----------------------------------------------------------------------------------------------------------


def documents_of(hits: Iterable[str]) -> Ranking:
    """Each document once, at the rank of its best chunk."""
    return list(dict.fromkeys(hits))


def ndcg_at(depth: int, ranking: Sequence[str], relevant: Mapping[str, int]) -> float:
    """With the gains as they are judged, as trec_eval and BEIR have it (Jarvelin and Kekalainen 2002)."""
    gained = sum(relevant.get(name, 0) / math.log2(rank + 2) for rank, name in enumerate(ranking[:depth]))
    best = sorted(relevant.values(), reverse=True)[:depth]
    return gained / sum(gain / math.log2(rank + 2) for rank, gain in enumerate(best))


def recall_at(depth: int, ranking: Sequence[str], relevant: Mapping[str, int]) -> float:
    return len(set(ranking[:depth]) & relevant.keys()) / len(relevant)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
