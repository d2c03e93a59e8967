"""What there is to embed: the chunks of present revisions that have no vector yet, in groups that fit into memory."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.config import Config
from pipelines.files import Store, Workspace, missing_rows, read_manifest
from pipelines.manifests import EmbeddingsRow, embeddings_rows, read_chunks, vectors_store
from pipelines.model import Chunk, Revision
from pipelines.models import EmbeddingModel

GROUP_CHUNKS = 8192  # distinct chunks that are held with their texts, and looked up in the store together
SAMPLE_REVISIONS = 16
KEY_BYTES = 32


@dataclass(frozen=True)
class Work:
    """All present revisions, and those among them that an earlier run has not finished."""

    present: list[EmbeddingsRow]
    pending: list[EmbeddingsRow]
    chunks: Store
    vectors: Store


@dataclass(frozen=True)
class Group:
    """Distinct chunks without a vector, shortest first, and how many occurrences were looked at to find them."""

    missing: list[tuple[bytes, Chunk]]
    occurrences: int


def plan_work(config: Config, workspace: Workspace, model: EmbeddingModel, *, recompute: bool) -> Work:
    """Compare the manifest of chunks with that of embeddings.

    Raises `InputError` where vectors that the last manifest claims are not in the store, as after a clone without
    `dvc pull`: the shared chunks of an edited document would be embedded, and paid for, again. With `recompute`
    nothing is taken from the last manifest, and whatever the store lacks is work.
    """
    index = config.index.name
    _, rows = read_chunks(workspace, index)
    present = list(
        {row.revision_key: EmbeddingsRow(row.revision_key, row.n_chunks, row.chunks_sha256) for row in rows}.values()
    )
    previous = read_manifest(workspace.manifest(index, "embeddings"), "embeddings")
    claimed = set()
    if previous is not None and previous.facts.get("space") == model.space and not recompute:
        claimed = set(embeddings_rows(previous))
    work = Work(
        present,
        [row for row in present if row not in claimed],
        workspace.store("chunks"),
        workspace.store(vectors_store(model.space)),
    )
    if work.pending:
        _check_claims(work, [row for row in present if row in claimed and row.n_chunks])
    return work


@dataclass(frozen=True)
class Batch:
    """A part of the work that any process which sees the workspace can do: these chunks, found in these revisions.

    Both are keys of 32 bytes, joined: a scheduler that looks into its tasks' arguments finds two values, not thousands.
    """

    revisions: bytes
    chunks: bytes


def keys_of(joined: bytes) -> list[bytes]:
    return [joined[start : start + KEY_BYTES] for start in range(0, len(joined), KEY_BYTES)]


def batches(work: Work, size: int) -> Iterator[Batch]:
    """All that is missing, each chunk in one batch, in batches of `size` chunks or somewhat more."""
    planned: set[bytes] = set()
    for revisions, keys in _revisions_with_chunks(work, size):
        missing = work.vectors.missing(keys) - planned
        planned |= missing
        if missing:
            yield Batch(b"".join(revisions), b"".join(sorted(missing)))


def _revisions_with_chunks(work: Work, size: int) -> Iterator[tuple[list[bytes], set[bytes]]]:
    revisions: list[bytes] = []
    keys: set[bytes] = set()
    for revision, value in work.chunks.read(row.revision_key for row in work.pending):
        revisions.append(revision)
        keys.update(chunk.key for chunk in Revision.from_json(value).chunks)
        if len(keys) >= size:
            yield revisions, keys
            revisions, keys = [], set()
    yield revisions, keys


def groups(work: Work, written: set[bytes], only: frozenset[bytes] | None = None) -> Iterator[Group]:
    """What is missing, group by group; of the chunks `only` where it is given.

    Keys in `written` count as stored, and each that is yielded is added to it; the caller may empty it whenever all
    that was yielded can be read from the store.
    """
    candidates: dict[bytes, Chunk] = {}
    occurrences = 0
    for _, value in work.chunks.read(row.revision_key for row in work.pending):
        for chunk in Revision.from_json(value).chunks:
            if only is None or chunk.key in only:
                candidates[chunk.key] = chunk
            occurrences += 1
            if len(candidates) == GROUP_CHUNKS:
                yield _group(work.vectors, candidates, occurrences, written)
                candidates, occurrences = {}, 0
    if candidates:
        yield _group(work.vectors, candidates, occurrences, written)


def _group(vectors: Store, candidates: dict[bytes, Chunk], occurrences: int, written: set[bytes]) -> Group:
    missing = vectors.missing(candidates) - written
    written |= missing
    order = sorted((len(candidates[key].context) + len(candidates[key].text), key) for key in missing)
    return Group([(key, candidates[key]) for _, key in order], occurrences)


def _check_claims(work: Work, claimed: list[EmbeddingsRow]) -> None:
    """Look a sample of the finished revisions up: a store that was not pulled lacks whole segments of them."""
    if not claimed:
        return
    if not work.vectors.segments():
        raise missing_rows(work.vectors.directory, sum(row.n_chunks for row in claimed))
    sample = claimed[:: max(1, len(claimed) // SAMPLE_REVISIONS)][:SAMPLE_REVISIONS]
    values = work.chunks.read(row.revision_key for row in sample)
    keys = {chunk.key for _, value in values for chunk in Revision.from_json(value).chunks}
    if lost := work.vectors.missing(keys):
        raise missing_rows(work.vectors.directory, len(lost))
