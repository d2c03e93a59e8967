"""Golden sets: queries with the documents that answer them, in BEIR layout or as one JSONL file."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config import GateConfig
from pipelines.errors import InputError


@dataclass(frozen=True)
class Query:
    """One question. `relevant`: document URI, or `URI#part of a chunk`, to grade; empty: unanswerable."""

    id: str
    text: str
    relevant: dict[str, int]

    @property
    def answerable(self) -> bool:
        return bool(self.relevant)


def read_golden(path: Path, split: str = "test") -> list[Query]:
    """The queries of `path`: a BEIR directory (queries.jsonl, qrels/SPLIT.tsv) or a JSONL of question and documents.

    Raises `InputError` that names file and line for anything else.
    """
    queries = list(_beir(path, split) if path.is_dir() else _questions(path))
    if not queries:
        raise InputError(f"{path} has no query", hint="see docs/evaluation.md for the formats")
    return queries


def golden_queries(config: GateConfig, root: Path) -> list[Query]:
    """The golden set that `gate.golden` names, from the workspace's `root`; none where it is unset or an empty file.

    DVC depends on the file by its name, so it exists before there are questions. Raises what `read_golden` raises.
    """
    path = root / config.golden
    if not config.golden or (path.is_file() and not path.read_bytes().strip()):
        return []
    return read_golden(path)


def training_queries(config: GateConfig, root: Path) -> list[Query]:
    """What may be learned from: `qrels/train.tsv` of a golden set in BEIR layout that has one, else all its queries."""
    path = root / config.golden
    has_part = config.golden and (path / "qrels" / "train.tsv").exists()
    return read_golden(path, "train") if has_part else golden_queries(config, root)


def _questions(path: Path) -> Iterator[Query]:
    for number, row in _rows(path):
        documents = row.get("documents", [])
        if not isinstance(row.get("question"), str) or not isinstance(documents, list):
            raise _wrong(path, number, 'needs "question" and "documents"')
        if not all(isinstance(document, str) for document in documents):
            raise _wrong(path, number, '"documents" must be a list of texts')
        relevant = dict.fromkeys(documents, 1) if row.get("answerable", True) else {}
        yield Query(str(row.get("_id", number)), row["question"], relevant)


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
        marked = (row.get("metadata") or {}).get("answerable") is False
        if row["_id"] in relevant or marked:
            yield Query(row["_id"], row["text"], {} if marked else relevant[row["_id"]])


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
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the golden set {path} cannot be read: {error}", hint="see docs/evaluation.md") from None


def _wrong(path: Path, number: int, what: str) -> InputError:
    return InputError(f"{path}:{number} {what}", hint="see docs/evaluation.md for the formats")
