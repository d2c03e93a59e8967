"""Which rows of segments go, and which stay: in the stores, and in the objects that DVC keeps of them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import IntegrityError
from pipelines.files import Store, Workspace
from pipelines.model import Revision

BATCH_ROWS = 512
KINDS = ("documents", "elements", "chunks", "embeddings")


@dataclass
class Condemned:
    """Keys whose rows go, by store; elements and revisions that nothing accounts for go as well.

    An entry of the store `elements` cannot be traced back to the bytes that it was made of. So what stays is what a
    document that stays is known to need; everything else could be what is to be erased, and can be made again.
    """

    contents: set[bytes] = field(default_factory=set)
    elements: set[bytes] = field(default_factory=set)
    revisions: set[bytes] = field(default_factory=set)
    chunks: set[bytes] = field(default_factory=set)
    known_elements: set[bytes] = field(default_factory=set)
    known_revisions: set[bytes] = field(default_factory=set)

    def goes(self, kind: str | None, key: bytes) -> bool:
        """Whether the row of this key goes; `kind`: of the store, None where it is not known."""
        if kind == "elements" and key not in self.known_elements:
            return True
        if kind == "chunks" and key not in self.known_revisions:
            return True
        return key in self.contents or key in self.elements or key in self.revisions or key in self.chunks

    def holds(self, kind: str | None, path: Path) -> bool:
        """Whether a segment has a row that goes."""
        return any(self.goes(kind, key) for key in keys_of(path))


def chunk_keys(value: bytes) -> set[bytes]:
    return {chunk.key for chunk in Revision.from_json(value).chunks}


@dataclass
class Vectors:
    """The vectors to remove: of chunks of revisions that go, without those that a revision that stays has too."""

    going: set[bytes] = field(default_factory=set)

    def look(self, condemned: Condemned, kind: str | None, paths: Iterable[Path]) -> None:
        """Add the chunks of the revisions in these segments that go."""
        for path in paths:
            for key, value in rows_of(path, [key for key in keys_of(path) if _is_revision(condemned, kind, key)]):
                self.going |= chunk_keys(value)
                condemned.revisions.add(key)

    def spare(self, condemned: Condemned, paths: Iterable[Path]) -> None:
        """Take out what the revisions in these segments that stay need."""
        for path in paths:
            if not self.going:
                return
            for _, value in rows_of(path, [key for key in keys_of(path) if not condemned.goes("chunks", key)]):
                self.going -= chunk_keys(value)


def _is_revision(condemned: Condemned, kind: str | None, key: bytes) -> bool:
    return condemned.goes("chunks", key) if kind == "chunks" else key in condemned.revisions


def stores(workspace: Workspace) -> list[tuple[str, Store]]:
    """(kind, store) of every store there is."""
    found = [(kind, workspace.store(kind)) for kind in KINDS[:3]]
    vectors = workspace.root / "data" / "store" / "embeddings"
    spaces = sorted(path.name for path in vectors.iterdir() if path.is_dir()) if vectors.is_dir() else []
    return found + [("embeddings", workspace.store(f"embeddings/{space}")) for space in spaces]


def keys_of(path: Path) -> Iterator[bytes]:
    with _open(path) as segment:
        for batch in segment.iter_batches(batch_size=8192, columns=["key"]):
            yield from batch.column(0).to_pylist()


def rows_of(path: Path, keys: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    wanted = set(keys)
    if not wanted:
        return
    with _open(path) as segment:
        for batch in segment.iter_batches(batch_size=BATCH_ROWS):
            for key, value in zip(batch.column(0).to_pylist(), batch.column(1), strict=True):
                if key in wanted:
                    yield key, value.as_py()


def is_segment(path: Path) -> bool:
    """Whether this file, of whatever name, is a segment of ours."""
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            return False
    try:
        return bool(pq.read_schema(path).names == ["key", "value"])
    except pa.ArrowException:
        return False  # not one that could be read back, so nothing can be found in it either


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as segment:
            yield segment
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(
            f"segment {path} is damaged: {' '.join(str(error).split())}",
            hint="bring it back with: dvc checkout, or dvc pull; then run the same command again",
        ) from error
