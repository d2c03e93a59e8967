"""What evaluate leaves for `dvc metrics` and `dvc plots`: the same version and golden set give the same bytes anywhere.

data/metrics/INDEX.json           one flat object: numbers, and what they are of
data/metrics/INDEX/queries.csv    a line for each answerable query
data/metrics/INDEX/tokens.csv     how many chunks have how many tokens
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.config import SearchConfig
from pipelines.files import Workspace, atomic_write
from pipelines.model import percentile

DIGITS = 6
PER_QUERY = ("ndcg@10", "recall@10", "mrr@10")
BIN_TOKENS = 16  # the same whatever the parameters are, so that `dvc plots diff` compares like with like
HASH_DIGITS = 12  # as in `snapdex log`
OF_A_CLOCK = "latency"  # begins the names of metrics that another machine would not repeat

Tokens = Sequence[tuple[int, int]]  # tokens, and how many distinct chunks have so many; ascending
Metrics = dict[str, Any]


def conditions(snapshot: str, golden: Path | None, search: SearchConfig) -> dict[str, str]:
    """What metrics are of: those of another golden set or another search say nothing about the documents."""
    weight = f" {search.dense_weight}" if search.mode == "hybrid" else ""
    rest = search.model_dump(exclude={"mode", "k", "dense_weight", "cache"}, exclude_defaults=True)
    weight += "".join(f" {name}={value}" for name, value in sorted(rest.items()))
    return {
        "snapshot": snapshot[:HASH_DIGITS],
        "golden": golden_sha256(golden)[:HASH_DIGITS] if golden else "none",
        "search": f"{search.mode}{weight}",
    }


def golden_sha256(path: Path) -> str:
    """64 hex digits over the file, or over the names and bytes of all files in the directory."""
    hasher = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
        data = file.read_bytes()
        hasher.update(f"{file.relative_to(path)}\0{len(data)}\0".encode())
        hasher.update(data)
    return hasher.hexdigest()


def size_metrics(documents: int, occurrences: int, tokens: Tokens) -> Metrics:
    """Counts, and tokens per distinct chunk: mean, percentiles (sizes that occur, nothing interpolated), maximum.

    `duplicates`: occurrences of a text that another document, or another place in the same one, has already.
    """
    chunks = sum(count for _, count in tokens)
    return {
        "documents": documents,
        "chunks": chunks,
        "duplicates": occurrences - chunks,
        "tokens_mean": sum(size * count for size, count in tokens) / max(1, chunks),
        **{f"tokens_p{percent}": percentile(tokens, percent) for percent in (5, 50, 95)},
        "tokens_max": tokens[-1][0] if tokens else 0,
    }


def histogram(tokens: Tokens) -> list[tuple[int, int]]:
    """Lower edge and count of each bin up to the largest size, empty ones included."""
    bins: dict[int, int] = {}
    for size, count in tokens:
        bins[size // BIN_TOKENS] = bins.get(size // BIN_TOKENS, 0) + count
    return [(number * BIN_TOKENS, bins.get(number, 0)) for number in range(max(bins, default=-1) + 1)]


def read_metrics(workspace: Workspace, index: str) -> Metrics | None:
    """What was measured last; None where nothing was, or the file is not what was written."""
    with suppress(FileNotFoundError, ValueError):
        found = json.loads(_path(workspace, index).read_text("utf-8"))
        return found if isinstance(found, dict) else None
    return None


def write_metrics(
    workspace: Workspace,
    index: str,
    metrics: Metrics,
    per_query: Mapping[str, Mapping[str, float]],
    tokens: Tokens,
) -> Metrics:
    """Write the three files where they differ; returns what stands in the first."""
    shown = {
        name: round(value, DIGITS) if isinstance(value, float) else value
        for name, value in sorted(metrics.items())
        if not name.startswith(OF_A_CLOCK)
    }
    queries = ((query, *(f"{values[name]:.{DIGITS}f}" for name in PER_QUERY)) for query, values in per_query.items())
    path = _path(workspace, index)
    _write(path.with_suffix("") / "queries.csv", _csv(("query", *PER_QUERY), queries))
    _write(path.with_suffix("") / "tokens.csv", _csv(("tokens", "chunks"), histogram(tokens)))
    _write(path, json.dumps(shown, indent=2) + "\n")  # last: it says what the others are of
    return shown


def _path(workspace: Workspace, index: str) -> Path:
    return (workspace.scratch or workspace.root) / "data" / "metrics" / f"{index}.json"


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    with suppress(FileNotFoundError, UnicodeDecodeError):
        if path.read_text("utf-8") == text:
            return
    atomic_write(path, text)
