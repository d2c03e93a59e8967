"""An index as it is after months: ten versions that share most of their content, and one with little of it.

Document n has ten chunks, and metadata to filter by. Version i (from 1) consists of a window of documents that moves on
by a fiftieth each time: the URIs stay, some documents are modified. Version 10 is every twentieth document. Further
versions move on.

Vectors imitate those of a sentence encoder: a mixture of clusters around centres whose directions have a decaying
spectrum, so that the space has fewer dimensions in effect than numbers. The constants are such that neighbours are as
near, and their number grows as fast with distance, as among the MiniLM vectors of SciFact (tenth neighbour of a chunk
0.56, of a query 0.45-0.50; local dimension of chunks 12-13, of queries 20-25). Queries are of two kinds: *near* ones,
chunks with noise of their own, and *hard* ones, which lie between two clusters.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpora import words, zipf_ranks
from benchmarks.synthetic import Content, Vectors, normalised, write_content
from pipelines.config import Config
from pipelines.files import Workspace
from pipelines.manifests import ChunksRow

DIMENSION = 384
CHUNKS = 10  # per document
WORDS = 40  # per chunk
CENTRES = 2000
DECAY = 0.45  # the i-th direction has a standard deviation of i ** -DECAY
SPREAD = 1.0  # of a cluster, relative to the distance of its centre from the origin
QUERY_SPREAD = 0.75
FULL_VERSIONS, MORE_VERSIONS, NARROW_STEP = 9, 3, 20
SHARES = (10, 100, 1000)  # document n has the metadata of10 = n % 10, and so on: filters of every share


@dataclass(frozen=True)
class Growing:
    """The content of all versions to come, in the stores, with what one needs to ask about it."""

    content: Content
    texts: list[str]
    vectors: Vectors
    near: Vectors
    hard: Vectors
    window: int
    step: int

    def rows(self, version: int) -> list[ChunksRow]:
        """The documents of a version under their URIs."""
        if version == FULL_VERSIONS + 1:
            return [replace(self.content.rows[n], uri=f"narrow/{n:06}") for n in range(0, self._loaded, NARROW_STEP)]
        return [replace(self.content.rows[n], uri=f"{n % self.window:06}") for n in self._documents(version)]

    def live(self, version: int) -> NDArray[np.bool_]:
        """[chunks]: which of them a version holds."""
        documents = np.zeros(len(self.content.rows), bool)
        if version == FULL_VERSIONS + 1:
            documents[: self._loaded : NARROW_STEP] = True
        else:
            documents[list(self._documents(version))] = True
        return np.repeat(documents, CHUNKS)

    @property
    def _loaded(self) -> int:
        """Documents that the first ten versions hold between them."""
        return self.window + (FULL_VERSIONS - 1) * self.step

    def _documents(self, version: int) -> range:
        moved = version - 1 if version <= FULL_VERSIONS else version - 2
        return range(moved * self.step, moved * self.step + self.window)


def make_growing(workspace: Workspace, config: Config, documents: int, queries: int) -> Growing:
    """Write the content. `documents`: how many the first ten versions hold between them."""
    generator = np.random.default_rng(11)
    step = documents // 50
    window = documents - (FULL_VERSIONS - 1) * step
    total = documents + MORE_VERSIONS * step
    texts = list(_texts(generator, total * CHUNKS))
    spectrum = np.arange(1, DIMENSION + 1, dtype=np.float32) ** -DECAY
    rotation = np.linalg.qr(generator.standard_normal((DIMENSION, DIMENSION)))[0].astype(np.float32)

    def directions(count: int) -> Vectors:
        return normalised(generator.standard_normal((count, DIMENSION), dtype=np.float32) * spectrum) @ rotation

    centres = directions(CENTRES)
    vectors = normalised(centres[generator.integers(CENTRES, size=len(texts))] + SPREAD * directions(len(texts)))
    hard = queries // 3
    near = vectors[generator.choice(documents * CHUNKS, queries - hard, replace=False)]
    pairs = generator.integers(CENTRES, size=(2, hard))
    named = [(f"{n:06}", texts[n * CHUNKS : (n + 1) * CHUNKS]) for n in range(total)]
    return Growing(
        write_content(workspace, config, named, vectors, [{f"of{n}": at % n for n in SHARES} for at in range(total)]),
        texts,
        vectors,
        normalised(near + QUERY_SPREAD * directions(queries - hard)),
        normalised(centres[pairs[0]] + centres[pairs[1]] + SPREAD * directions(hard)),
        window,
        step,
    )


def _texts(generator: np.random.Generator, count: int) -> Iterator[str]:
    vocabulary = words()
    for start in range(0, count, 1000):
        for row in zipf_ranks(generator, min(1000, count - start) * WORDS).reshape(-1, WORDS).tolist():
            yield " ".join([vocabulary[rank] for rank in row])
