"""What models are asked: passages, and questions with what answers them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.config import Config
from pipelines.errors import InputError
from pipelines.evaluate import Query, golden_queries, read_golden
from pipelines.evaluate.golden import document_of
from pipelines.files import Workspace
from pipelines.manifests import read_chunks
from pipelines.model import Revision, digest
from pipelines.pairs import HELD_OUT, TRAIN, pairs_folder, read_pairs
from pipelines.pairs.text import normalised

LEAST_GOLDEN = 20  # answerable questions of a golden set that is preferred to held-out pairs


@dataclass(frozen=True)
class Passage:
    """A text of a document; `shown`: what a golden set that names a part of a chunk is compared with; `key`: of a chunk
    of the index, whose vector may be there already."""

    document: str
    text: str
    shown: str
    key: bytes = b""


@dataclass(frozen=True)
class Corpus:
    """Passages and questions of one domain. `seen`: ids of the questions about documents that were trained on."""

    name: str
    home: bool
    passages: list[Passage]
    queries: list[Query]
    seen: frozenset[str] = frozenset()


def in_domain(config: Config, workspace: Workspace, name: str) -> Corpus:
    """The present chunks of the index with the golden set of the gate, or with the held-out pairs where it is small.

    Of more than `evaluate_model.max_chunks` chunks, those of judged documents and a sample of the others: the same
    ones for each model.
    """
    golden = [query for query in golden_queries(config.gate, workspace.root) if query.answerable]
    trained = {normalised(pair.positive) for pair in read_pairs(pairs_folder(workspace, name) / TRAIN)}
    if len(golden) >= max(LEAST_GOLDEN, config.gate.min_queries):
        named = {item for query in golden for item in (*query.relevant, *(i.partition("#")[0] for i in query.relevant))}
        passages = list(_chunks(config, workspace, named))
        documents = {each.document for each in passages}
        learned = {each.document for each in passages if normalised(each.text) in trained}
        seen = {query.id for query in golden if any(document_of(item, documents) in learned for item in query.relevant)}
        return Corpus(config.gate.golden, True, passages, golden, frozenset(seen))
    held_out = list(read_pairs(pairs_folder(workspace, name) / HELD_OUT))
    if not held_out:
        raise InputError(
            "there are no questions to judge the model by", hint="set gate.golden, or pairs.held_out above 0"
        )
    texts = {digest(pair.positive).hex(): pair.positive for pair in held_out}
    known = set(texts.values())
    rest = [each for each in _chunks(config, workspace, set()) if each.text not in known]
    relevant: dict[str, dict[str, int]] = {}
    for pair in held_out:
        relevant.setdefault(pair.query, {})[digest(pair.positive).hex()] = 1
    return Corpus(
        "held-out pairs",
        True,
        [*(Passage(id, text, text) for id, text in texts.items()), *rest],
        [Query(str(number), query, found) for number, (query, found) in enumerate(relevant.items(), 1)],
    )


def off_domain(path: Path) -> Corpus:
    """A BEIR directory: `corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv`. Rows with one `_id` are one document."""
    queries = [query for query in read_golden(path) if query.answerable]
    try:
        passages = list(_rows(path / "corpus.jsonl"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} has no corpus.jsonl in BEIR layout: {error}", hint="_id, title, text") from error
    return Corpus(path.name, False, passages, queries)


def _rows(path: Path) -> Iterator[Passage]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            text = "\n\n".join(filter(None, [row.get("title", ""), row["text"]]))
            yield Passage(row["_id"], text, text)


def _chunks(config: Config, workspace: Workspace, always: set[str]) -> Iterator[Passage]:
    _, rows = read_chunks(workspace, config.index.name)
    judged = [row for row in rows if row.uri in always]
    left = config.evaluate_model.max_chunks - sum(row.n_chunks for row in judged)
    chosen = {row.revision_key: [row.uri] for row in judged}
    for row in sorted(rows, key=lambda row: digest(row.uri)):
        if row.uri not in always and (left := left - row.n_chunks) >= 0:
            chosen.setdefault(row.revision_key, []).append(row.uri)
    for key, value in workspace.store("chunks").read(chosen):
        for chunk in Revision.from_json(value).chunks:
            yield from (Passage(uri, chunk.embedded_text, chunk.text, chunk.key) for uri in chosen[key])
