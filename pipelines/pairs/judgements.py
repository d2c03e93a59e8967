"""Questions that people have judged, as the beginning of pairs."""

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.config import PairsConfig
from pipelines.evaluate import read_golden
from pipelines.evaluate.golden import splits_of
from pipelines.pairs import Pair, check, read_pairs, refuse


@dataclass(frozen=True)
class Wanted:
    """A question, and what answers it: documents as a golden set names them, or the chunk with this key.

    `passage`: what to learn instead of that chunk's embedded text, where that has the question in it.
    """

    query: str
    relevant: tuple[str, ...]
    chunk: bytes | None = None
    revision: bytes | None = None
    passage: str = ""
    source: str = "judgements"


def judged(config: PairsConfig, root: Path) -> list[Wanted]:
    """The answerable queries of the golden set `pairs.judgements`: of its split `train`, where it has splits."""
    path = root / config.judgements
    if not config.judgements or _is_empty(path) or _holds_pairs(path):
        return []
    queries = read_golden(path, "train") if "train" in splits_of(path) else read_golden(path)
    return [Wanted(query.text, tuple(sorted(query.relevant))) for query in queries if query.answerable]


def written(config: PairsConfig, root: Path) -> list[Pair]:
    """The pairs of `pairs.judgements`, where somebody wrote pairs and not a golden set. Raises `InputError` for wrong
    ones."""
    path = root / config.judgements
    if not config.judgements or _is_empty(path) or not _holds_pairs(path):
        return []
    refuse(path, check(path, against=None, tokens=None, max_tokens=None))
    return [replace(pair, source=pair.source or "judgements") for pair in read_pairs(path)]


def _is_empty(path: Path) -> bool:
    """DVC depends on the file by its name, so it exists before there is a judgement."""
    return path.is_file() and not path.read_bytes().strip()


def _holds_pairs(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"{}")
    with suppress(ValueError):
        row = json.loads(first)
        return isinstance(row, dict) and "positive" in row
    return False
