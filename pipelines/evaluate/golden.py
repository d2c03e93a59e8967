"""Golden sets: queries with the documents that answer them, in BEIR layout or as one JSONL file."""

import csv
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.config import GateConfig
from pipelines.errors import InputError


@dataclass(frozen=True)
class Query:
    """One question. `relevant`: document URI, or `URI#part of a chunk`, to grade; empty: unanswerable.

    `answers`: in words, each as good as the others; `checks`: what an answer must fulfil. Search is not judged by them.
    """

    id: str
    text: str
    relevant: dict[str, int]
    line: int = 0  # of the file with the questions
    draft: bool = False  # made by a program, and judged by nobody
    answers: tuple[str, ...] = ()
    checks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def answerable(self) -> bool:
        return bool(self.relevant)


def read_golden(path: Path, split: str = "test", *, drafts: bool = False) -> list[Query]:
    """The queries of `path`: a BEIR directory (queries.jsonl, qrels/SPLIT.tsv) or a JSONL of question and documents.

    Raises `InputError` that names file and line for anything else, and for drafts unless they are asked for.
    """
    queries = list(_beir(path, split) if path.is_dir() else _questions(path))
    if not queries:
        raise InputError(f"{path} has no query", hint="see docs/evaluation.md for the formats")
    unjudged = [query.line for query in queries if query.draft]
    if unjudged and not drafts:
        raise InputError(
            f"{path}:{unjudged[0]} is a draft, one of {len(unjudged)}: nobody has judged it",
            hint='correct or delete these lines, and remove "draft" from those that stay',
        )
    return queries


def splits_of(path: Path) -> list[str]:
    """The splits of a BEIR directory; a JSONL has none."""
    return sorted(each.stem for each in (path / "qrels").glob("*.tsv"))


def golden_queries(config: GateConfig, root: Path) -> list[Query]:
    """The golden set that `gate.golden` names, from the workspace's `root`; none where it is unset or an empty file.

    Raises what `read_golden` raises.
    """
    path = root / config.golden
    return [] if not config.golden or is_empty(path) else read_golden(path)


def is_empty(path: Path) -> bool:
    """Whether nothing stands in the file: DVC depends on it by its name, so it exists before there are questions."""
    return path.is_file() and not path.read_bytes().strip()


def training_queries(config: GateConfig, root: Path) -> list[Query]:
    """What may be learned from: `qrels/train.tsv` of a golden set in BEIR layout that has one, else all its queries."""
    path = root / config.golden
    has_part = config.golden and (path / "qrels" / "train.tsv").exists()
    return read_golden(path, "train") if has_part else golden_queries(config, root)


def missing_documents(queries: Sequence[Query], documents: Container[str]) -> list[str]:
    """The documents that a golden set names and a version with these `documents` does not have."""
    named = {item for query in queries for item in query.relevant}
    return sorted({item.partition("#")[0] for item in named if document_of(item, documents) is None})


def document_of(item: str, documents: Container[str]) -> str | None:
    """The document in `URI` or `URI#part of a chunk`, also where the URI has a `#` itself; None for an unknown one."""
    parts = item.split("#")
    return next((uri for end in range(len(parts), 0, -1) if (uri := "#".join(parts[:end])) in documents), None)


def _questions(path: Path) -> Iterator[Query]:
    for number, row in _rows(path):
        documents = row.get("documents", [])
        if not isinstance(row.get("question"), str) or not isinstance(documents, list):
            raise _wrong(path, number, 'needs "question" and "documents"')
        if not all(isinstance(document, str) for document in documents):
            raise _wrong(path, number, '"documents" must be a list of texts')
        relevant = dict.fromkeys(documents, 1) if row.get("answerable", True) else {}
        draft = row.get("draft") is True
        yield Query(str(row.get("_id", number)), row["question"], relevant, number, draft, *_told(path, number, row))


def _beir(path: Path, split: str) -> Iterator[Query]:
    relevant: dict[str, dict[str, int]] = {}
    try:
        with (path / "qrels" / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                if int(row["score"]) > 0:
                    relevant.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    except FileNotFoundError:
        raise InputError(
            f"{path} has no qrels/{split}.tsv", hint="choose another split, or another directory"
        ) from None
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}/qrels/{split}.tsv is malformed: {error}", hint="query-id, corpus-id, score") from None
    for number, row in _rows(path / "queries.jsonl"):
        if not isinstance(row.get("_id"), str) or not isinstance(row.get("text"), str):
            raise _wrong(path / "queries.jsonl", number, 'needs "_id" and "text"')
        more = row.get("metadata") or {}
        marked = more.get("answerable") is False
        if row["_id"] in relevant or marked:
            told = _told(path / "queries.jsonl", number, more)
            yield Query(row["_id"], row["text"], {} if marked else relevant[row["_id"]], number, False, *told)


def _told(path: Path, number: int, row: Mapping[str, Any]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """The answers of a row and their checks; of a question that is marked unanswerable, no answer."""
    answers, checks = row.get("answers") or row.get("answer") or [], row.get("checks") or {}
    answers = answers if isinstance(answers, list) else [answers]
    if not all(isinstance(answer, str) for answer in answers) or not isinstance(checks, dict):
        raise _wrong(path, number, '"answer" must be a text, "answers" a list of texts, and "checks" an object')
    return (tuple(filter(str.strip, answers)) if row.get("answerable", True) else ()), checks


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        row = json.loads(line)
                    except ValueError as error:
                        raise _wrong(path, number, f"is not JSON: {error}") from None
                    if not isinstance(row, dict):
                        raise _wrong(path, number, "is not an object")
                    yield number, row
    except FileNotFoundError:
        raise InputError(f"there is no golden set {path}", hint="see docs/evaluation.md") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the golden set {path} cannot be read: {error}", hint="see docs/evaluation.md") from None


def _wrong(path: Path, number: int, what: str) -> InputError:
    return InputError(f"{path}:{number} {what}", hint="see docs/evaluation.md for the formats")
