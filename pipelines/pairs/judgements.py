"""Questions that people have judged, as the beginning of pairs."""

from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.config import PairsConfig
from pipelines.evaluate import read_golden
from pipelines.evaluate.golden import is_empty, splits_of
from pipelines.pairs import Pair, check, read_pairs, refuse
from pipelines.pairs.rows import first_row


@dataclass(frozen=True)
class Wanted:
    """A question, and what answers it: documents as a golden set names them, or the chunk with this key.

    `passage`: what to learn instead of that chunk's embedded text, where that has the question in it.
    """

    query: str
    relevant: tuple[str, ...]
    chunk: bytes | None = None
    passage: str = ""
    source: str = "judgements"


def judged(config: PairsConfig, root: Path) -> list[Wanted]:
    """The answerable queries of the golden set `pairs.judgements`: of its split `train`, where it has splits."""
    path = root / config.judgements
    if not config.judgements or is_empty(path) or _holds_pairs(path):
        return []
    queries = read_golden(path, "train") if "train" in splits_of(path) else read_golden(path)
    return [Wanted(query.text, tuple(sorted(query.relevant))) for query in queries if query.answerable]


def written(config: PairsConfig, root: Path) -> list[Pair]:
    """The pairs of `pairs.judgements`, where somebody wrote pairs and not a golden set. Raises `InputError` for wrong
    ones."""
    path = root / config.judgements
    if not _holds_pairs(path):
        return []
    refuse(path, check(path, against=None, tokens=None, max_tokens=None))
    return [replace(pair, source=pair.source or "judgements") for pair in read_pairs(path)]


def _holds_pairs(path: Path) -> bool:
    return path.is_file() and "positive" in first_row(path)
