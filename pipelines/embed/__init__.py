"""embed: a vector for every present chunk, each computed once.

    manifest `chunks` + store `chunks`  -->  store `embeddings/<space>` + manifest `embeddings`

A vector is keyed by the hash of its text: what was embedded once, in whatever document, at whatever time, is never
embedded again. A run costs what the revisions cost that are not in the manifest of the run before.

- `work.py`: which chunks have no vector
- `encoders.py`: from texts to vectors, by way of `bert.py`, `hashing.py`, sentence-transformers or an endpoint
- `late.py`, `rerank.py`: a query and a passage compared token by token, or read together
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.config import Config, EmbedConfig
from pipelines.embed.encoders import Encoder, checked, load_encoder
from pipelines.embed.late import late_scores
from pipelines.embed.work import Batch, Work, groups, keys_of, plan_work
from pipelines.embed.work import batches as divided
from pipelines.files import Manifest, SegmentWriter, Workspace
from pipelines.manifests import EmbeddingsRow, vectors_store
from pipelines.model import Chunk
from pipelines.models import EmbeddingModel, Reranker, resolve_model
from pipelines.progress import Progress, Silent

if TYPE_CHECKING:
    from pipelines.embed.rerank import CrossEncoder

__all__ = [
    "Batch",
    "BatchReport",
    "EmbedReport",
    "Encoder",
    "batches",
    "embed_batch",
    "encode_passages",
    "encode_queries",
    "encode_query",
    "load_encoder",
    "missing_chunks",
    "run",
    "score_pairs",
    "score_tokens",
    "vectors_store",
]

STEP_CHUNKS = 128  # chunks between two looks at the clock, and what a failing encoder can spoil
FLUSH_CHUNKS = 16_384
FLUSH_SECONDS = 60.0  # of encoding: what kill -9 or a power failure can cost

# Kept weights serve one thread at a time: two would load them twice, and share a tokenizer that is not made for it.
_KEPT = threading.Lock()


@dataclass(frozen=True)
class EmbedReport:
    """What a run did; `embedded + reused` is the number of chunks in all present revisions."""

    embedded: int
    reused: int
    tokens: int  # of the embedded chunks
    seconds: float
    encode_seconds: float  # of `seconds`: loading the encoder, and encoding


def run(
    config: Config,
    workspace: Workspace,
    *,
    recompute: bool = False,
    progress: Progress | None = None,
    encoder: Encoder | None = None,
    done: Sequence["BatchReport"] = (),
) -> EmbedReport:
    """Embed every present chunk that has no vector yet, then write the manifest.

    Finished vectors are kept, also when this is interrupted or fails; the next run goes on from there. `recompute`
    makes vectors again that the last manifest claims and the store lacks; without it that is an `InputError`. `done`:
    the batches that were embedded for this run elsewhere.
    """
    started = time.perf_counter()
    model = resolve_model(config.embed, workspace)
    work = plan_work(config, workspace, model, recompute=recompute)
    here = _embed_missing(config, work, model, progress or Silent(), encoder)
    embedded, tokens, encode_seconds = (
        sum(getattr(each, name) for each in (here, *done)) for name in ("embedded", "tokens", "encode_seconds")
    )
    _manifest(model, work).write(workspace.manifest(config.index.name, "embeddings"))
    reused = sum(row.n_chunks for row in work.present) - embedded
    return EmbedReport(embedded, reused, tokens, time.perf_counter() - started, encode_seconds)


@dataclass(frozen=True)
class BatchReport:
    """What was embedded, in part of a run."""

    embedded: int
    tokens: int
    encode_seconds: float


def batches(config: Config, workspace: Workspace) -> list[Batch]:
    """What `run` would embed now, divided into as many chunks as `flow.batch_documents` documents have on average."""
    work = plan_work(config, workspace, resolve_model(config.embed, workspace), recompute=False)
    average = sum(row.n_chunks for row in work.present) / max(1, len(work.present))
    return list(divided(work, max(STEP_CHUNKS, round(average * config.flow.batch_documents))))


def embed_batch(config: Config, workspace: Workspace, batch: Batch) -> BatchReport:
    """Put the vectors of a batch into the store: for any process that sees the workspace. `run` then finds them."""
    model = resolve_model(config.embed, workspace)
    revisions = [EmbeddingsRow(key, 0, "") for key in keys_of(batch.revisions)]
    work = Work([], revisions, workspace.store("chunks"), workspace.store(vectors_store(model.space)))
    encoder = _kept_encoder(model, config.embed) if model.kind == "folder" else None
    return _embed_missing(config, work, model, Silent(), encoder, frozenset(keys_of(batch.chunks)))


def missing_chunks(config: Config, workspace: Workspace, *, recompute: bool = False) -> int:
    """How many chunks `run` would embed now."""
    work = plan_work(config, workspace, resolve_model(config.embed, workspace), recompute=recompute)
    return sum(len(group.missing) for group in groups(work, set()))


def encode_query(
    config: Config, workspace: Workspace, text: str, *, model: EmbeddingModel | None = None
) -> NDArray[np.float32]:
    """[d], in the space of this configuration's model. Weights stay in memory: the next query is much faster.

    `model`: what the configuration means, from who has resolved it already; that takes as long as embedding. Somebody
    waits for it, so a server that is away is told soon.
    """
    vector: NDArray[np.float32] = encode_queries(config, workspace, [text], model=model, patient=False)[0]
    return vector


def encode_queries(
    config: Config,
    workspace: Workspace,
    texts: Sequence[str],
    *,
    model: EmbeddingModel | None = None,
    patient: bool = True,
) -> NDArray[np.float32]:
    """[n, d], as `encode_query` for each; together they take much less time. `patient`: as of `load_encoder`."""
    model = model or resolve_model(config.embed, workspace)
    with _ready_encoder(model, config.embed, patient=patient) as encoder:
        return checked(encoder.encode_queries(texts), len(texts), model.dimension)


def encode_passages(
    config: Config, workspace: Workspace, texts: Sequence[str], *, model: EmbeddingModel | None = None
) -> NDArray[np.float32]:
    """[n, d], in the space of this configuration's model; nothing is stored. Weights stay in memory."""
    model = model or resolve_model(config.embed, workspace)
    with _ready_encoder(model, config.embed) as encoder:
        return checked(encoder.encode(texts), len(texts), model.dimension)


def score_tokens(config: Config, model: EmbeddingModel, query: str, passages: Sequence[str]) -> list[float]:
    """How well each passage matches the query token by token, 0 to 1, by the model that embeds. Weights stay in memory.

    Raises `ConfigError` for a model that does not run here, or has no tokens.
    """
    with _ready_encoder(model, config.embed) as encoder:
        return late_scores(encoder, query, passages, name=model.name)


def score_pairs(model: Reranker, query: str, passages: Sequence[str]) -> list[float]:
    """How well each passage answers the query, 0 to 1, read by a cross-encoder. Weights stay in memory."""
    with _KEPT:
        return _kept_cross_encoder(model).scores(query, passages)


@lru_cache(maxsize=1)
def _kept_cross_encoder(model: Reranker) -> "CrossEncoder":
    from pipelines.embed.rerank import CrossEncoder

    return CrossEncoder(model)


@contextmanager
def _ready_encoder(model: EmbeddingModel, config: EmbedConfig, *, patient: bool = True) -> Iterator[Encoder]:
    if model.kind != "folder":
        yield load_encoder(model, config, patient=patient)
        return
    with _KEPT:
        yield _kept_encoder(model, config)


@lru_cache(maxsize=2)  # the gate asks two versions, which may have two models
def _kept_encoder(model: EmbeddingModel, config: EmbedConfig) -> Encoder:
    return load_encoder(model, config)


def _embed_missing(
    config: Config,
    work: Work,
    model: EmbeddingModel,
    progress: Progress,
    encoder: Encoder | None,
    only: frozenset[bytes] | None = None,
) -> BatchReport:
    embedded, tokens, encode_seconds = 0, 0, 0.0
    written: set[bytes] = set()
    if work.pending:
        progress.start("embed", sum(row.n_chunks for row in work.pending))
    with work.vectors.writer() as writer:
        flushed_at = time.monotonic()
        for group in groups(work, written, only):
            progress.advance(group.occurrences - len(group.missing))
            for start in range(0, len(group.missing), STEP_CHUNKS):
                step = group.missing[start : start + STEP_CHUNKS]
                began = time.perf_counter()
                encoder = encoder or load_encoder(model, config.embed)
                _embed(step, encoder, model, writer)
                encode_seconds += time.perf_counter() - began
                embedded += len(step)
                tokens += sum(chunk.tokens for _, chunk in step)
                progress.advance(len(step))
                if time.monotonic() - flushed_at > FLUSH_SECONDS:
                    writer.flush()
                    flushed_at = time.monotonic()
            if len(written) >= FLUSH_CHUNKS:
                writer.flush()
                written.clear()
    return BatchReport(embedded, tokens, encode_seconds)


def _embed(step: Sequence[tuple[bytes, Chunk]], encoder: Encoder, model: EmbeddingModel, writer: SegmentWriter) -> None:
    """Encode, check, and only then hand all of it to the writer."""
    vectors = checked(encoder.encode([chunk.embedded_text for _, chunk in step]), len(step), model.dimension)
    with np.errstate(over="ignore"):
        halves = checked(vectors.astype("<f2"), len(step), model.dimension)
    for (key, _), vector in zip(step, halves, strict=True):
        writer.add(key, vector.tobytes())


def _manifest(model: EmbeddingModel, work: Work) -> Manifest:
    facts = {
        "model": model.name,
        "revision": model.revision,
        "dimension": str(model.dimension),
        "space": model.space,
    }
    return Manifest("embeddings", facts, sorted(row.to_row() for row in work.present))
