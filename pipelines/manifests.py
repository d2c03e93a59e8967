"""The rows of the manifests through which stages meet, as values.

A stage reads what the stage before it wrote: the functions here are the only place that knows the columns.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.errors import InputError, IntegrityError
from pipelines.files import Manifest, Workspace, read_manifest
from pipelines.model import Document, Quarantined, Reason, digest

NONE = "-"  # an empty column


# -- documents: what collect saw ---------------------------------------------------------------------------------------


def document_to_row(document: Document) -> tuple[str, ...]:
    return document.uri, document.content_sha256, str(document.size_bytes), document.media_type


def document_from_row(row: tuple[str, ...]) -> Document:
    uri, content_sha256, size_bytes, media_type = row
    return Document(uri, content_sha256, int(size_bytes), media_type)


def write_documents(workspace: Workspace, index: str, documents: Iterable[Document]) -> None:
    Manifest("documents", {}, [document_to_row(each) for each in documents]).write(
        workspace.manifest(index, "documents")
    )


def read_documents(workspace: Workspace, index: str) -> list[Document]:
    """The present documents, by URI. Raises `InputError` where nothing was collected yet."""
    manifest = _required(workspace, index, "documents")
    try:
        return [document_from_row(row) for row in _rows(manifest, columns=4)]
    except ValueError as error:
        raise _unknown_row(manifest) from error


# -- elements: what parse made of it -----------------------------------------------------------------------------------


def element_key(content_sha256: str, media_type: str, parser: str) -> bytes:
    """32 bytes: the same bytes read as the same type by the same parser give the same elements."""
    return digest(content_sha256, media_type, parser)


@dataclass(frozen=True, slots=True)
class ElementsRow:
    """One document after parse: what is indexed of it, and what of it failed.

    - `ok`: the present bytes are indexed. `failed_sha256`, `reason` and `detail` are empty.
    - `kept`: the present bytes failed; `content_sha256` and `media_type` are those of the last good revision, which
      keeps serving.
    - `quarantined`: the present bytes failed and there is nothing earlier; `content_sha256` is theirs, and
      `element_key` is None.
    """

    uri: str
    content_sha256: str
    media_type: str
    state: str
    element_key: bytes | None
    failed_sha256: str | None = None
    reason: Reason | None = None
    detail: str = ""

    @property
    def quarantined(self) -> Quarantined | None:
        """The failure, where there is one."""
        if self.failed_sha256 is None or self.reason is None:
            return None
        return Quarantined(self.uri, self.failed_sha256, self.reason, self.detail)

    def to_row(self) -> tuple[str, ...]:
        return (
            self.uri,
            self.content_sha256,
            self.media_type,
            self.state,
            self.element_key.hex() if self.element_key else NONE,
            self.failed_sha256 or NONE,
            self.reason.value if self.reason else NONE,
            " ".join(self.detail.split()) or NONE,
        )

    @classmethod
    def from_row(cls, row: tuple[str, ...]) -> "ElementsRow":
        uri, content_sha256, media_type, state, key, failed_sha256, reason, detail = row
        return cls(
            uri,
            content_sha256,
            media_type,
            state,
            None if key == NONE else bytes.fromhex(key),
            None if failed_sha256 == NONE else failed_sha256,
            None if reason == NONE else Reason(reason),
            "" if detail == NONE else detail,
        )


def read_elements(workspace: Workspace, index: str) -> tuple[str, list[ElementsRow]]:
    """The parser's fingerprint and the rows by URI. Raises `InputError` where nothing was parsed yet."""
    manifest = _required(workspace, index, "elements")
    return manifest.facts.get("parser", ""), elements_rows(manifest)


def elements_rows(manifest: Manifest) -> list[ElementsRow]:
    try:
        return [ElementsRow.from_row(row) for row in _rows(manifest, columns=8)]
    except ValueError as error:
        raise _unknown_row(manifest) from error


# -- chunks: which revision a document is ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChunksRow:
    """One document that is indexed, and the revision that holds its chunks (key of the store `chunks`)."""

    uri: str
    content_sha256: str
    media_type: str
    revision_key: bytes
    n_chunks: int
    chunks_sha256: str

    def to_row(self) -> tuple[str, ...]:
        return (
            self.uri,
            self.content_sha256,
            self.media_type,
            self.revision_key.hex(),
            str(self.n_chunks),
            self.chunks_sha256,
        )

    @classmethod
    def from_row(cls, row: tuple[str, ...]) -> "ChunksRow":
        uri, content_sha256, media_type, key, n_chunks, chunks_sha256 = row
        return cls(uri, content_sha256, media_type, bytes.fromhex(key), int(n_chunks), chunks_sha256)


def read_chunks(workspace: Workspace, index: str) -> tuple[str, list[ChunksRow]]:
    """The recipe and the rows by URI. Raises `InputError` where nothing was cut yet."""
    manifest = _required(workspace, index, "chunks")
    return manifest.facts.get("recipe", ""), chunks_rows(manifest)


def chunks_rows(manifest: Manifest) -> list[ChunksRow]:
    try:
        return [ChunksRow.from_row(row) for row in _rows(manifest, columns=6)]
    except ValueError as error:
        raise _unknown_row(manifest) from error


# -- embeddings: which revisions have all their vectors ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EmbeddingsRow:
    """One revision whose chunks all have a vector in the store `embeddings/<space>`; documents may share it."""

    revision_key: bytes
    n_chunks: int
    chunks_sha256: str

    def to_row(self) -> tuple[str, ...]:
        return self.revision_key.hex(), str(self.n_chunks), self.chunks_sha256

    @classmethod
    def from_row(cls, row: tuple[str, ...]) -> "EmbeddingsRow":
        key, n_chunks, chunks_sha256 = row
        return cls(bytes.fromhex(key), int(n_chunks), chunks_sha256)


def read_space(workspace: Workspace, index: str) -> dict[str, str]:
    """`space`, `model`, `revision` and `dimension` of the embedding space in use."""
    return _required(workspace, index, "embeddings").facts


def read_embeddings(workspace: Workspace, index: str) -> tuple[str, list[EmbeddingsRow]]:
    """The space and the rows by revision. Raises `InputError` where nothing was embedded yet."""
    manifest = _required(workspace, index, "embeddings")
    return manifest.facts.get("space", ""), embeddings_rows(manifest)


def embeddings_rows(manifest: Manifest) -> list[EmbeddingsRow]:
    try:
        return [EmbeddingsRow.from_row(row) for row in _rows(manifest, columns=3)]
    except ValueError as error:
        raise _unknown_row(manifest) from error


def vectors_store(space: str) -> str:
    """The name of the store that holds the vectors of a space."""
    return f"embeddings/{space[:16]}"


# -- all ---------------------------------------------------------------------------------------------------------------

_MADE_BY = {"documents": "collect", "elements": "parse", "chunks": "chunk", "embeddings": "embed"}


def _required(workspace: Workspace, index: str, name: str) -> Manifest:
    path = workspace.manifest(index, name)
    manifest = read_manifest(path, name)
    if manifest is None:
        raise InputError(
            f"there is no {path}",
            hint=f"make it with: python -m pipelines.{_MADE_BY[name]}",
            index=index,
            manifest=name,
        )
    return manifest


def _rows(manifest: Manifest, columns: int) -> list[tuple[str, ...]]:
    if any(len(row) != columns for row in manifest.rows):
        raise _unknown_row(manifest)
    return manifest.rows


def _unknown_row(manifest: Manifest) -> IntegrityError:
    return IntegrityError(
        f"the manifest `{manifest.kind}` holds a row of another form", hint="bring it back with: git checkout -- FILE"
    )
