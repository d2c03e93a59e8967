"""chunk: from parsed documents to the texts that are embedded, each with its place.

Cuts follow headings, paragraphs, list items, tables and code (see `split.py`), or also changes of topic (`topics.py`);
sizes are counted with the tokenizer of the embedding model, so nothing is ever truncated by it. `findings.py` looks at
the result.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.chunk import topics
from pipelines.chunk.revision import make_revision
from pipelines.config import ChunkConfig, Config
from pipelines.errors import ConfigError
from pipelines.files import Manifest, Workspace, read_manifest
from pipelines.manifests import ChunksRow, chunks_rows, read_elements
from pipelines.model import Parsed, Revision, digest, revision_key
from pipelines.models import EmbeddingModel, load_tokenizer, resolve_model
from pipelines.progress import Progress, Silent

VERSION = 1  # of the cutting rules: a change of what they produce is a new recipe


@dataclass(frozen=True)
class ChunkReport:
    """What chunking did: documents chunked now, documents whose chunks were known, and chunk occurrences in all."""

    recipe: str
    chunked: int
    reused: int
    occurrences: int
    seconds: float


def recipe(config: ChunkConfig, parser: str, model: EmbeddingModel) -> str:
    """64 hex digits: everything that shapes chunks. Another recipe makes other revisions of the same documents."""
    rules = [config.max_tokens, config.min_tokens, config.overlap_tokens, config.context]
    parts = [f"chunk {VERSION}", parser, repr(rules), model.tokenizer_fingerprint]
    if config.method == "semantic":
        parts += [f"semantic {topics.VERSION}", str(config.topic_percentile), model.space]
    return digest(*parts).hex()


def run(
    config: Config,
    workspace: Workspace,
    *,
    recompute: bool = False,
    progress: Progress | None = None,
    encode: topics.Encode | None = None,
) -> ChunkReport:
    """Chunk every document of the `elements` manifest that this recipe has not chunked yet; write manifest `chunks`.

    `encode`: embeds sentences where `chunk.method` is semantic; by default the model itself, loaded when the first
    section needs it. Raises `ConfigError` where chunks would be longer than the model reads, and for semantic chunks
    with the model of an endpoint.
    """
    progress = progress or Silent()
    began = time.monotonic()
    model = resolve_model(config.embed, workspace)
    if config.chunk.max_tokens > model.max_tokens:
        raise ConfigError(
            f"chunk.max_tokens is {config.chunk.max_tokens}, but {model.name} reads {model.max_tokens} tokens at most",
            hint=f"set chunk.max_tokens to {model.max_tokens} or less",
        )
    semantic = config.chunk.method == "semantic"
    if semantic and model.kind == "endpoint":
        raise ConfigError(
            f"chunk.method is semantic, and {model.name} does not give the same vectors twice: no two runs would agree",
            hint="choose a model whose files are here, or chunk.method: structural",
        )
    parser, elements = read_elements(workspace, config.index.name)
    present = [row for row in elements if row.element_key is not None]
    ours = recipe(config.chunk, parser, model)
    path = workspace.manifest(config.index.name, "chunks")
    before = read_manifest(path, "chunks")
    known = {row.revision_key: row for row in chunks_rows(before)} if before else {}

    keys = {row.uri: revision_key(row.content_sha256, row.media_type, ours) for row in present}
    todo = {keys[row.uri]: row.element_key for row in present if recompute or keys[row.uri] not in known}
    progress.start("chunk", len(todo))
    facts = {key: (row.n_chunks, row.chunks_sha256) for key, row in known.items()}
    chunked = 0
    if todo:
        store = workspace.store("chunks")
        missing = store.missing(todo)
        for key, value in store.read(todo.keys() - missing):
            revision = Revision.from_json(value)
            facts[key] = len(revision.chunks), revision.chunks_sha256
            progress.advance()
        wanted = {element_key: key for key, element_key in todo.items() if key in missing and element_key is not None}
        with store.writer() as writer:
            counter = load_tokenizer(model) if wanted else None
            embed = (encode or _encoder(config, workspace)) if semantic else None
            for element_key, value in workspace.store("elements").read(wanted) if counter else ():
                assert counter is not None
                revision = make_revision(Parsed.from_json(value), config.chunk, counter, embed)
                writer.add(wanted[element_key], revision.to_json().encode("utf-8"))
                facts[wanted[element_key]] = len(revision.chunks), revision.chunks_sha256
                chunked += 1
                progress.advance()
    rows = [
        ChunksRow(row.uri, row.content_sha256, row.media_type, keys[row.uri], *facts[keys[row.uri]]) for row in present
    ]
    Manifest("chunks", {"recipe": ours}, [row.to_row() for row in rows]).write(path)
    return ChunkReport(ours, chunked, len(rows) - chunked, sum(row.n_chunks for row in rows), time.monotonic() - began)


def _encoder(config: Config, workspace: Workspace) -> topics.Encode:
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        from pipelines.embed import encode_passages  # where chunks need the encoder, which most never do

        return encode_passages(config, workspace, texts)

    return encode
