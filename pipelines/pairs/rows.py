"""Pairs as JSONL: one object a line, `query` and `positive`, and where there are any `negatives`, `group`, `source`."""

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import InputError
from pipelines.files import atomic_file
from pipelines.model import canonical_json

TEXTS = ("query", "positive")
LABELS = ("group", "source")
KEYS = (*TEXTS, "negatives", *LABELS)
SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair: no tokenizer takes it


@dataclass(frozen=True, slots=True)
class Pair:
    """A query, the passage that answers it, and passages that do not.

    `group`: what must stay on one side when pairs are split, such as a document; `source`: where the pair is from.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    group: str = ""
    source: str = ""
    line: int = 0  # of its file


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a line is no pair."""

    kind: str
    detail: str


def write_pairs(path: Path, pairs: Iterable[Pair]) -> int:
    """Replace `path` by these pairs when all of them are written, and say how many. Equal pairs give equal bytes."""
    count = 0
    with atomic_file(path) as file:
        for pair in pairs:
            row: dict[str, Any] = {"query": pair.query, "positive": pair.positive}
            if pair.negatives:
                row["negatives"] = pair.negatives
            row |= {label: value for label in LABELS if (value := getattr(pair, label))}
            file.write(canonical_json(row).encode("utf-8") + b"\n")
            count += 1
    return count


def read_pairs(path: Path) -> Iterator[Pair]:
    """The pairs of `path` in its order. Raises `InputError` that names the first line which is none."""
    for number, line in lines(path):
        row = parse(line, number)
        if not isinstance(row, Pair):
            raise InputError(f"{path}:{number} {row[0].detail}", hint=f"snapdex finetune check {path}")
        yield row


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers, also of a `.gz`. Raises `InputError` where the file cannot be
    read."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}", hint="name a JSONL file") from None


def first_row(path: Path) -> dict[str, Any]:
    """The first line that is an object, which tells pairs from a golden set; nothing where none is."""
    for _, line in lines(path):
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict):
                return row
    return {}


def parse(line: bytes, number: int) -> Pair | list[Flaw]:
    """The pair that a line holds, or everything that is wrong with it."""
    row = decoded(line)
    if isinstance(row, Flaw):
        return [row]
    if flaws := list(_flaws(row)):
        return flaws
    negatives = tuple(row.get("negatives", ()))
    return Pair(row["query"], row["positive"], negatives, row.get("group", ""), row.get("source", ""), number)


def decoded(line: bytes) -> dict[str, Any] | Flaw:
    """The object that a line holds."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Flaw("encoding", f"is not UTF-8 at byte {error.start + 1}")
    except (ValueError, RecursionError) as error:
        return Flaw("json", f"is not JSON: {error}")
    return row if isinstance(row, dict) else Flaw("object", "is not an object")


def _flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    for key in TEXTS:
        if key not in row:
            yield Flaw("key", f'has no "{key}"')
        else:
            yield from _text_flaws(key, row[key])
    for key in LABELS:
        if not isinstance(row.get(key, ""), str):
            yield Flaw("type", f'"{key}" is not a text')
    negatives = row.get("negatives", [])
    if not isinstance(negatives, list):
        yield Flaw("type", '"negatives" is not a list of texts')
    else:
        for place, negative in enumerate(negatives, 1):
            yield from _text_flaws(f"negatives[{place}]", negative)
    for key in row:
        if key not in KEYS:
            yield Flaw("key", f'"{key}" is not known: the keys are {", ".join(KEYS)}')


def _text_flaws(name: str, text: object) -> Iterator[Flaw]:
    if not isinstance(text, str):
        yield Flaw("type", f'"{name}" is not a text')
    elif not text.strip():
        yield Flaw("empty", f'"{name}" is empty')
    elif SURROGATE.search(text):
        yield Flaw("encoding", f'"{name}" holds half of a surrogate pair, which no tokenizer takes')
