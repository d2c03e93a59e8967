"""chunk: from parsed documents to the texts that are embedded, each with its place.

Cuts follow headings, paragraphs, list items, tables and code (see `split.py`), or also changes of topic (`topics.py`);
sizes are counted with the tokenizer of the embedding model, so nothing is ever truncated by it. A language model may
say where in its document a chunk belongs (`written.py`). `findings.py` looks at the result.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.chunk import topics, written
from pipelines.chunk.revision import make_revision
from pipelines.config import ChunkConfig, Config
from pipelines.errors import ConfigError
from pipelines.files import Manifest, Workspace, read_manifest
from pipelines.generate import Writer, cost
from pipelines.manifests import ChunksRow, ElementsRow, chunks_rows, read_elements
from pipelines.model import Parsed, Revision, batched, digest, revision_key
from pipelines.models import EmbeddingModel, load_tokenizer, resolve_generator, resolve_model
from pipelines.progress import Progress, Silent

VERSION = 1  # of the cutting rules: a change of what they produce is a new recipe
GROUP_DOCUMENTS = 16  # whose contexts are looked up, and written, together


Content = tuple[str, str]  # the hash of a document's bytes, and the type that they are read as
Facts = tuple[bytes, int, str]  # of a revision: its key, how many chunks, and their hash


@dataclass(frozen=True)
class ChunkReport:
    """What chunking did: documents chunked now, documents whose chunks were known, and chunk occurrences in all.

    `written`: contexts that a model wrote, and what that cost; in a dry run, those that it would write.
    """

    recipe: str
    chunked: int
    reused: int
    occurrences: int
    seconds: float
    written: int = 0
    cost: float = 0.0


def recipe(config: ChunkConfig, parser: str, model: EmbeddingModel, writing: str = "") -> str:
    """64 hex digits: everything that shapes chunks. Another recipe makes other revisions of the same documents."""
    rules = [config.max_tokens, config.min_tokens, config.overlap_tokens, config.context]
    parts = [f"chunk {VERSION}", parser, repr(rules), model.tokenizer_fingerprint]
    if config.method == "semantic":
        parts += [f"semantic {topics.VERSION}", str(config.topic_percentile), model.space]
    if config.context == "model":
        parts += [f"written {written.VERSION}", writing]
    return digest(*parts).hex()


def writing(config: Config, workspace: Workspace) -> str:
    """What shapes written contexts: the model and its temperature. Empty where none are written."""
    if config.chunk.context != "model":
        return ""
    return f"{resolve_generator(config.generate, workspace).revision} {config.generate.temperature!r}"


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
    section needs it. A dry run asks no language model: it counts what would be written. Raises `ConfigError` where
    chunks would be longer than the model reads, for semantic chunks with the model of an endpoint, and for written
    contexts without `generate.model`; `ServiceUnavailable` while that is away: what it wrote is kept for the next run.
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
    ours = recipe(config.chunk, parser, model, writing(config, workspace))
    path = workspace.manifest(config.index.name, "chunks")
    before = read_manifest(path, "chunks")
    known = chunks_rows(before) if before and before.facts.get("recipe") == ours else []
    facts = {_content(row): (row.revision_key, row.n_chunks, row.chunks_sha256) for row in known}

    todo = {_content(row): row for row in present[::-1] if recompute or _content(row) not in facts}  # the first of each
    progress.start("chunk", len(todo))
    work = _Work(
        config, workspace, model, ours, progress, (encode or _encoder(config, workspace)) if semantic else None
    )
    if config.chunk.context == "model":
        facts |= work.with_contexts(todo, {} if recompute else {row.uri: row.revision_key for row in known})
    else:
        facts |= work.by_recipe(todo)
    rows = [ChunksRow(row.uri, row.content_sha256, row.media_type, *facts[_content(row)]) for row in present]
    Manifest("chunks", {"recipe": ours}, [row.to_row() for row in rows]).write(path)
    return ChunkReport(
        ours,
        work.chunked,
        len(rows) - work.chunked,
        sum(row.n_chunks for row in rows),
        time.monotonic() - began,
        work.written,
        work.cost,
    )


def _content(row: ElementsRow | ChunksRow) -> Content:
    return row.content_sha256, row.media_type


def _encoder(config: Config, workspace: Workspace) -> topics.Encode:
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        from pipelines.embed import encode_passages  # where chunks need the encoder, which most never do

        return encode_passages(config, workspace, texts)

    return encode


class _Work:
    """Documents on their way into the store, and the count of what was done."""

    def __init__(
        self,
        config: Config,
        workspace: Workspace,
        model: EmbeddingModel,
        recipe: str,
        progress: Progress,
        encode: topics.Encode | None,
    ) -> None:
        self.config, self.workspace, self.model, self.recipe = config, workspace, model, recipe
        self.progress, self.encode = progress, encode
        self.store = workspace.store("chunks")
        self.chunked = self.written = 0
        self.cost = 0.0

    def by_recipe(self, todo: Mapping[Content, ElementsRow]) -> dict[Content, Facts]:
        """A revision's key is known before it is made, so what the store has is not made again."""
        keys = {revision_key(*content, self.recipe): content for content in todo}
        missing = self.store.missing(keys)
        facts: dict[Content, Facts] = {}
        for key, value in self.store.read(keys.keys() - missing):
            facts[keys[key]] = _facts(key, Revision.from_json(value))
            self.progress.advance()
        with self.store.writer() as segments:
            for content, _, revision in self._cut({keys[key]: todo[keys[key]] for key in missing}):
                key = revision_key(*content, self.recipe)
                segments.add(key, revision.to_json().encode("utf-8"))
                facts[content] = _facts(key, revision)
                self.chunked += 1
                self.progress.advance()
        return facts

    def with_contexts(self, todo: Mapping[Content, ElementsRow], known: Mapping[str, bytes]) -> dict[Content, Facts]:
        """What a model wrote is part of a revision's key, so documents are cut before it is known.

        `known`: what each document was before, as the key of a revision.
        """
        facts: dict[Content, Facts] = {}
        counter, estimate = load_tokenizer(self.model), written.Estimate()
        with self.store.writer() as segments, Writer(self.config.generate, self.workspace) as writer:
            for group in batched(self._cut(todo), GROUP_DOCUMENTS):
                uris = [todo[content].uri for content, _, _ in group]
                before = self._present({known[uri] for uri in uris if uri in known})
                cuts = [
                    written.Cut(uri, parsed, revision, before.get(known.get(uri, b"")))
                    for uri, (_, parsed, revision) in zip(uris, group, strict=True)
                ]
                if self.workspace.scratch is None:
                    revisions = written.write_contexts(cuts, writer, self.config.chunk, counter)
                else:
                    revisions = written.guess_contexts(cuts, writer, self.config.chunk, counter, estimate)
                contents = [content for content, _, _ in group]
                keys = [written.key_of(*each, self.recipe, of) for each, of in zip(contents, revisions, strict=True)]
                missing = self.store.missing(keys)
                for content, key, revision in zip(contents, keys, revisions, strict=True):
                    facts[content] = _facts(key, revision)
                    self.chunked += key in missing
                    if key in missing:
                        segments.add(key, revision.to_json().encode("utf-8"))
                    self.progress.advance()
            self.written = writer.written + estimate.contexts
            guessed = cost(self.config.generate, estimate.prompt_tokens, estimate.completion_tokens)
            self.cost = writer.cost + guessed
        return facts

    def _present(self, keys: set[bytes]) -> dict[bytes, Revision]:
        """Those revisions that the store has."""
        found = self.store.read(keys - self.store.missing(keys))
        return {key: Revision.from_json(value) for key, value in found}

    def _cut(self, todo: Mapping[Content, ElementsRow]) -> Iterator[tuple[Content, Parsed, Revision]]:
        """The documents in the order of the store."""
        wanted = {row.element_key: content for content, row in todo.items() if row.element_key is not None}
        if not wanted:
            return
        counter = load_tokenizer(self.model)
        for element_key, value in self.workspace.store("elements").read(wanted):
            parsed = Parsed.from_json(value)
            yield wanted[element_key], parsed, make_revision(parsed, self.config.chunk, counter, self.encode)


def _facts(key: bytes, revision: Revision) -> Facts:
    return key, len(revision.chunks), revision.chunks_sha256
