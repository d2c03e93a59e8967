"""What is wrong with a golden set, told before it decides anything."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.config import GateConfig
from pipelines.evaluate.golden import Query, document_of

MOST_UNANSWERABLE = 0.5


@dataclass(frozen=True)
class Finding:
    """One problem. `line`: of the file with the questions, 0 where it is about all of them."""

    level: Literal["error", "warning"]
    line: int
    kind: str
    detail: str


def normalised(text: str) -> str:
    """Its words in lower case: questions that differ in punctuation only are the same."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def check(
    queries: Sequence[Query],
    texts: Mapping[str, Sequence[str]],
    config: GateConfig,
    others: Mapping[str, Sequence[Query]] | None = None,
) -> list[Finding]:
    """Errors and warnings in the order of the lines. `texts`: the chunks of each document of the version; `others`: the
    queries of the other splits, by name."""
    found = [*_each(queries), *_named(queries, texts), *_split(queries, others or {}), *_leaked(queries, texts)]
    return sorted(found, key=lambda each: each.line) + list(_altogether(queries, config))


def _each(queries: Sequence[Query]) -> Iterator[Finding]:
    lines: dict[str, int] = {}
    ids: dict[str, int] = {}
    for query in queries:
        if query.draft:
            yield Finding("error", query.line, "draft", "nobody has judged this question yet")
        first = lines.setdefault(normalised(query.text), query.line)
        if first != query.line:
            yield Finding("error", query.line, "duplicate", f"the question of line {first}")
        first = ids.setdefault(query.id, query.line)
        if first != query.line:
            yield Finding("error", query.line, "duplicate", f"the _id of line {first}: {query.id}")


def _named(queries: Sequence[Query], texts: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    for query in queries:
        for item in query.relevant:
            document = document_of(item, texts)
            if document is None:
                yield Finding("error", query.line, "document", f"the version has no {item}")
                continue
            part = item[len(document) + 1 :]
            if part and not any(part in text for text in texts[document]):
                yield Finding("error", query.line, "chunk", f"no chunk of {document} holds {part!r}")


def _split(queries: Sequence[Query], others: Mapping[str, Sequence[Query]]) -> Iterator[Finding]:
    for name, split in others.items():
        theirs = {normalised(query.text) for query in split}
        for query in queries:
            if normalised(query.text) in theirs:
                yield Finding("error", query.line, "split", f"the question is in the split {name}, too")


def _leaked(queries: Sequence[Query], texts: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    words = {document: f" {normalised(' '.join(chunks))} " for document, chunks in texts.items()}
    for query in queries:
        question = f" {normalised(query.text)} "
        where = next((document for document, text in words.items() if question in text), None)
        if where is not None:
            yield Finding("warning", query.line, "leakage", f"the question stands verbatim in {where}")


def _altogether(queries: Sequence[Query], config: GateConfig) -> Iterator[Finding]:
    answerable = sum(query.answerable for query in queries)
    if answerable < config.min_queries:
        few = f"{answerable} answerable questions, and gate.min_queries is {config.min_queries}: the gate cannot tell"
        yield Finding("warning", 0, "few", few)
    unanswerable = len(queries) - answerable
    if not unanswerable:
        yield Finding("warning", 0, "unanswerable", "no unanswerable question: abstention is not measured")
    elif unanswerable > MOST_UNANSWERABLE * len(queries):
        yield Finding("warning", 0, "unanswerable", f"{unanswerable} of {len(queries)} questions are unanswerable")
