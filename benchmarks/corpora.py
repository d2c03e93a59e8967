"""Where documents come from: real collections that were unpacked for tests, and generated ones."""

import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipelines.errors import ConfigError

VOCABULARY = 50_000
ZIPF_SHIFT = 10.0  # Zipf-Mandelbrot: the commonest word is in a third of the texts of 40 words, as after stop words


@contextmanager
def real_data(name: str, given: Path | None) -> Iterator[Path]:
    """The directory of one collection: below `given`, or unpacked for the time of the block by the tool of
    `SNAPDEX_TEST_DATA`.

    Raises `ConfigError` where neither is there.
    """
    if given is not None:
        if not (given / name).is_dir():
            raise ConfigError(f"there is no {given / name}", hint=f"--data must be a directory that holds {name}")
        yield given / name
        return
    folder = os.environ.get("SNAPDEX_TEST_DATA")
    if not folder:
        raise ConfigError("real data is needed", hint="set SNAPDEX_TEST_DATA, or pass --data DIR")
    with tempfile.TemporaryDirectory(prefix="snapdex-data-") as directory:
        subprocess.run([Path(folder) / "tools" / "unpack-data", directory, name], check=True)
        yield Path(directory) / name


def unpack_documentation(collection: Path, target: Path, *, limit: int | None = None) -> int:
    """Unpack the last date of `docs-prefect` into `target`; with `limit` every n-th file, so many of them at most.

    Returns the number of files.
    """
    archive = max(collection.glob("snap-*.tar.xz"))
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    paths = sorted(path for path in target.rglob("*.mdx"))
    if limit is None or len(paths) <= limit:
        return len(paths)
    kept = set(paths[:: len(paths) // limit][:limit])
    for path in paths:
        if path not in kept:
            path.unlink()
    return len(kept)


# -- generated ---------------------------------------------------------------------------------------------------------


def words(count: int = VOCABULARY) -> list[str]:
    """Distinct words of consonant-vowel syllables that no English stemmer changes and no stop list holds."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprtvz" for vowel in "aou"]
    pairs = [first + second for first in syllables for second in syllables]
    found = [*pairs, *(pair + third for pair in pairs for third in syllables)]
    return found[len(pairs) : len(pairs) + count]


def zipf_ranks(generator: np.random.Generator, size: int) -> np.ndarray:
    """[size] ranks of words, of which the common ones are small."""
    weights = 1 / (np.arange(VOCABULARY) + 1 + ZIPF_SHIFT)
    edges = np.cumsum(weights / weights.sum())
    edges[-1] = 1.0
    return np.searchsorted(edges, generator.random(size), side="right")


Paragraphs = dict[str, list[str]]


def generated_documents(documents: int, paragraphs: int, *, seed: int = 7) -> Paragraphs:
    """Document id to its paragraphs: single sentences of 70 to 100 words."""
    generator = np.random.default_rng(seed)
    vocabulary = words()
    lengths = generator.integers(70, 101, size=(documents, paragraphs))
    ranks = iter(zipf_ranks(generator, int(lengths.sum())).tolist())
    return {
        f"document-{number:06}": [
            " ".join(vocabulary[next(ranks)] for _ in range(length)).capitalize() + "." for length in row
        ]
        for number, row in enumerate(lengths.tolist())
    }


def write_beir(path: Path, documents: Mapping[str, Sequence[str]]) -> None:
    """A `corpus.jsonl` with a line per document; its paragraphs become sentences of one text."""
    with path.open("w", encoding="utf-8") as file:
        for name, paragraphs in documents.items():
            record = {"_id": name, "title": f"Notes on {name}", "text": " ".join(paragraphs)}
            file.write(json.dumps(record) + "\n")
