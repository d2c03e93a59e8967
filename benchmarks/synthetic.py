"""Content of any size without parsing or encoding: written straight into the stores and manifests that build reads."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines import index
from pipelines.config import Config
from pipelines.embed import vectors_store
from pipelines.files import Manifest, Workspace
from pipelines.manifests import ChunksRow, EmbeddingsRow
from pipelines.model import Chunk, Revision, Scalar, digest, revision_key
from pipelines.models import resolve_model

RECIPE = digest("synthetic content").hex()
MEDIA_TYPE = "text/plain"

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Content:
    """Documents in the stores: a manifest row each, and the keys (hex) of all their chunks in order."""

    rows: list[ChunksRow]
    chunks: list[str]


def write_content(
    workspace: Workspace,
    config: Config,
    documents: Sequence[tuple[str, Sequence[str]]],
    vectors: Vectors,
    metadata: Sequence[dict[str, Scalar]] = (),
) -> Content:
    """Put documents (URI, texts of chunks) and the vectors of all their chunks, in order, into the stores.

    `metadata`: of each document, or of none.
    """
    space = resolve_model(config.embed, workspace).space
    rows: list[ChunksRow] = []
    keys: list[bytes] = []
    with workspace.store("chunks").writer() as writer:
        for number, (uri, texts) in enumerate(documents):
            revision = _revision(texts, metadata[number] if metadata else {})
            content = hashlib.sha256("\n\n".join(texts).encode("utf-8")).hexdigest()
            key = revision_key(content, MEDIA_TYPE, RECIPE)
            writer.add(key, revision.to_json().encode("utf-8"))
            rows.append(ChunksRow(uri, content, MEDIA_TYPE, key, len(revision.chunks), revision.chunks_sha256))
            keys += [chunk.key for chunk in revision.chunks]
    with workspace.store(vectors_store(space)).writer() as writer:
        for chunk_key, vector in zip(keys, vectors.astype("<f2"), strict=True):
            writer.add(chunk_key, vector.tobytes())
    return Content(rows, [key.hex() for key in keys])


def build_version(workspace: Workspace, config: Config, rows: Iterable[ChunksRow]) -> index.BuildReport:
    """Write the manifests that say "these documents", and build what they say."""
    model = resolve_model(config.embed, workspace)
    name = config.index.name
    rows = list(rows)
    Manifest("chunks", {"recipe": RECIPE}, [row.to_row() for row in rows]).write(workspace.manifest(name, "chunks"))
    facts = {
        "model": model.name,
        "revision": model.revision,
        "dimension": str(model.dimension),
        "space": model.space,
    }
    embedded = {row.revision_key: EmbeddingsRow(row.revision_key, row.n_chunks, row.chunks_sha256) for row in rows}
    manifest = Manifest("embeddings", facts, [row.to_row() for row in embedded.values()])
    manifest.write(workspace.manifest(name, "embeddings"))
    return index.build(config, workspace)


def unit_vectors(generator: np.random.Generator, count: int, dimension: int) -> Vectors:
    """[count, dimension], uniform on the sphere."""
    return normalised(generator.standard_normal((count, dimension), dtype=np.float32))


def normalised(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype=np.float32)


def _revision(texts: Sequence[str], metadata: dict[str, Scalar]) -> Revision:
    chunks: list[Chunk] = []
    start = 0
    for text in texts:
        chunks.append(Chunk(text, start, start + len(text), tokens=len(text.split())))
        start += len(text) + 2
    whole = max(0, start - 2)
    return Revision(
        tuple(
            Chunk(each.text, each.start, each.end, parent_start=0, parent_end=whole, tokens=each.tokens)
            for each in chunks
        ),
        metadata=metadata,
    )
