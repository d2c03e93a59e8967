"""Questions for a person to judge: from the headings of a version, from its chunks, and from what an evaluation got
wrong.

Every row carries `"draft": true`, and `read_golden` refuses it until somebody has taken that away.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipelines.errors import InputError
from pipelines.evaluate.check import normalised
from pipelines.evaluate.golden import read_golden
from pipelines.files import atomic_write
from pipelines.model import digest

T = TypeVar("T")
Row = dict[str, Any]
ASKS = re.compile(r"(how|what|when|where|which|who|whom|whose|why|can|may|must|is|are|do|does|should)\b", re.IGNORECASE)


def from_headings(sections: Iterable[tuple[str, Sequence[str]]], count: int) -> list[Row]:
    """`count` rows from (document, section path): one of each document before a second of any.

    The order is that of hashes, so the same sections give the same rows, and those are spread over the corpus.
    """
    found = dict.fromkeys((document, tuple(section)) for document, section in sections)
    named = ((document, section) for document, section in found if section and normalised(section[-1]))
    turns = _in_turns(named, lambda section: digest(*section))
    rows = [
        {"question": _question(section), "documents": [document], "section": list(section), "draft": True}
        for document, section in turns
    ]
    return _distinct(rows, set())[:count]


Passage = tuple[str, tuple[str, ...], str]  # document, section path, text of a chunk


def choose_passages(chunks: Iterable[tuple[str, Sequence[str], str]], count: int, least_words: int) -> list[Passage]:
    """`count` chunks of at least so many words, spread as `from_headings` spreads sections; each text once."""
    texts: dict[str, tuple[str, tuple[str, ...]]] = {}
    for document, section, text in chunks:
        if len(text.split()) >= least_words:
            texts.setdefault(text, (document, tuple(section)))
    turns = _in_turns(((document, text) for text, (document, _) in texts.items()), digest)
    return [(document, texts[text][1], text) for document, text in turns[:count]]


def from_passages(passages: Iterable[Passage], questions: Sequence[str], copied: Sequence[bool]) -> list[Row]:
    """A row for each passage with a question, with the passage for whoever judges it; `trivial`: it was copied."""
    rows: list[Row] = []
    for (document, section, text), question, is_copied in zip(passages, questions, copied, strict=True):
        if question:
            row = {"question": question, "documents": [document], "section": list(section), "passage": text}
            rows.append(row | ({"trivial": True} if is_copied else {}) | {"draft": True})
    return _distinct(rows, set())


def from_evaluation(evaluation: Mapping[str, Any], metric: str, count: int) -> list[Row]:
    """The `count` worst queries of `eval --json --queries`: not answered perfectly, or answered and unanswerable.

    Raises `InputError` where there is no query in it.
    """
    asked = evaluation.get("per_query")
    try:
        rows = [_failure(each) for each in asked or [] if _failed(each, metric)]
    except (KeyError, TypeError):
        asked = None
    if not isinstance(asked, list):
        raise InputError("this is not an evaluation with its queries", hint="make one: snapdex eval --json --queries")
    return rows[:count]


def add(path: Path, rows: Sequence[Row]) -> list[Row]:
    """Append to the golden set `path` the rows whose question it does not have; returns them. Makes the file if new."""
    text = path.read_text("utf-8") if path.exists() else ""
    known = {normalised(query.text) for query in read_golden(path, drafts=True)} if text.strip() else set()
    new = _distinct(rows, known)
    if new:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in new]
        atomic_write(path, text + ("\n" if text and not text.endswith("\n") else "") + "".join(lines))
    return new


def _in_turns(items: Iterable[tuple[str, T]], order: Callable[[T], bytes]) -> list[tuple[str, T]]:
    """(document, item) in the order of hashes: one of each document before a second of any."""
    by_document: dict[str, list[T]] = {}
    for document, item in items:
        by_document.setdefault(document, []).append(item)
    turns = [
        (turn, digest(document), document, item)
        for document, found in by_document.items()
        for turn, item in enumerate(sorted(found, key=order))
    ]
    return [(document, item) for _, _, document, item in sorted(turns, key=lambda turn: turn[:2])]


def _question(section: Sequence[str]) -> str:
    heading = " ".join(section[-1].split()).rstrip(".:")
    if heading.endswith("?"):
        return heading
    if ASKS.match(heading):
        return f"{heading}?"
    return (
        f"What does {' '.join(section[0].split())} say about {heading}?" if len(section) > 1 else f"What is {heading}?"
    )


def _failed(asked: Mapping[str, Any], metric: str) -> bool:
    return asked["metrics"][metric] < 1 if asked["answerable"] else not asked["abstained"]


def _failure(asked: Mapping[str, Any]) -> Row:
    row = {"question": asked["question"], "documents": asked["expected"], "answerable": asked["answerable"]}
    return row | {"returned": [hit["document"] for hit in asked["returned"]], "draft": True}


def _distinct(rows: Iterable[Row], known: set[str]) -> list[Row]:
    found = []
    for row in rows:
        question = normalised(row["question"])
        if question not in known:
            known.add(question)
            found.append(row)
    return found
