"""The reproducible truth on disk: atomic writes, manifests, and stores of append-only segments.

A *store* maps 32-byte keys to bytes. It is a directory of Parquet segments, each named by the hash of its own content
and never changed; new rows go into new segments. A *manifest* is a small sorted text file that says which keys make up
the present state. Segments may differ with history, manifests do not.
"""

import fcntl
import hashlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import InputError, IntegrityError
from pipelines.failpoints import failpoint

SCHEMA = pa.schema(
    [pa.field("key", pa.binary(32), nullable=False), pa.field("value", pa.large_binary(), nullable=False)]
)
SEGMENT_BYTES = 32 * 2**20  # a writer flushes at this size: small enough to hold, large enough to keep files few
GROUP_BYTES = 4 * 2**20  # a row group, the least that a read has to decompress
READ_BATCH_ROWS = 512
LOCK_SECONDS = 0.05  # between two looks at a lock


def atomic_write(path: Path, data: bytes | str) -> None:
    """Replace `path` so that after a crash it holds either the old bytes or all of the new ones."""
    with atomic_file(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write what shall replace `path` when the block ends well; when it does not, `path` stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        failpoint("file.written")
        Path(name).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames in this directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flocked(file: IO[Any], wait_seconds: float = 0) -> bool:
    """Whether the lock on this file could be had in that time. The kernel frees it when its holder is killed."""
    give_up = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                return False
            time.sleep(LOCK_SECONDS)
        else:
            return True


_SEAL = "#sha256 "  # begins the last line of a manifest


# -- manifests ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Manifest:
    """A sorted text file: a header of `name=value` facts, a line of tab-separated fields per row, a hash of it all.

    Fields hold no tab and no newline (URIs are percent-encoded by collect). The first field is the sort key.
    """

    kind: str
    facts: dict[str, str]
    rows: list[tuple[str, ...]]

    def to_text(self) -> str:
        for row in self.rows:
            if any("\t" in value or "\n" in value for value in row):
                raise InputError(f"{self.kind}: a field holds a tab or a newline: {row!r}", hint="report this as a bug")
        facts = "".join(f"\t{name}={value}" for name, value in sorted(self.facts.items()))
        lines = sorted("\t".join(row) for row in self.rows)
        text = "\n".join([f"#snapdex {self.kind} 1{facts}", *lines]) + "\n"
        return f"{text}{_SEAL}{hashlib.sha256(text.encode('utf-8')).hexdigest()}\n"

    def write(self, path: Path) -> None:
        """Write if different, so that an unchanged manifest keeps its modification time."""
        text = self.to_text()
        with suppress(FileNotFoundError, UnicodeDecodeError):
            if path.read_text("utf-8") == text:
                return
        atomic_write(path, text)


def read_manifest(path: Path, kind: str) -> Manifest | None:
    """The manifest at `path`, or None where there is none. Raises `IntegrityError` when it is not one of this kind."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return parse_manifest(data, kind, str(path))


def parse_manifest(data: bytes, kind: str, name: str) -> Manifest:
    """The manifest that these bytes are; `name` says where they are from.

    Raises `IntegrityError` for another kind, and for any byte that is not what was written.
    """
    body, seal, stated = data.rpartition(_SEAL.encode("ascii"))
    if not seal or stated != hashlib.sha256(body).hexdigest().encode("ascii") + b"\n":
        raise _damaged(name)
    head, *lines = body.decode("utf-8")[:-1].split("\n")
    title, *facts = head.split("\t")
    if title != f"#snapdex {kind} 1" or not all("=" in fact for fact in facts):
        raise _damaged(name)
    return Manifest(kind, dict(fact.split("=", 1) for fact in facts), [tuple(line.split("\t")) for line in lines])


def _damaged(name: str) -> IntegrityError:
    return IntegrityError(f"{name} is not a manifest as it was written", hint="bring it back: git checkout -- FILE")


# -- stores ------------------------------------------------------------------------------------------------------------


class Store:
    """Keys to bytes in the segments of one directory; `overlay` takes the writes of a dry run and is read as well."""

    def __init__(self, directory: Path, overlay: Path | None = None) -> None:
        self.directory = directory
        self.overlay = overlay

    def segments(self) -> list[Path]:
        places = [self.directory] + ([self.overlay] if self.overlay else [])
        return [path for place in places if place.is_dir() for path in sorted(place.glob("[0-9a-f]*.parquet"))]

    def keys(self) -> Iterator[bytes]:
        """Every key, in the order of the segments; one that stands in two of them comes twice."""
        for path in self.segments():
            with _open(path) as segment:
                for batch in segment.iter_batches(batch_size=8192, columns=["key"]):
                    yield from batch.column(0).to_pylist()

    def keys_by_segment(self) -> Iterator[tuple[Path, list[bytes]]]:
        """Each segment with all its keys."""
        for path in self.segments():
            with _open(path) as segment:
                yield path, segment.read(columns=["key"]).column(0).to_pylist()

    def missing(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of `keys` that no segment holds."""
        wanted = set(keys)
        for path in self.segments():
            if not wanted:
                break
            with _open(path) as segment:
                for batch in segment.iter_batches(batch_size=8192, columns=["key"]):
                    wanted.difference_update(batch.column(0).to_pylist())
        return wanted

    def read(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Each of `keys` with its value, once, in the order of the segments.

        Raises `IntegrityError` where one is missing: after a clone the store has to be pulled first.
        """
        wanted = set(keys)
        for path in self.segments():
            if not wanted:
                return
            with _open(path) as segment:
                for group in range(segment.num_row_groups):
                    found = segment.read_row_group(group, columns=["key"]).column(0).to_pylist()
                    if wanted.isdisjoint(found):
                        continue
                    for batch in segment.iter_batches(batch_size=READ_BATCH_ROWS, row_groups=[group]):
                        for key, value in zip(batch.column(0).to_pylist(), batch.column(1), strict=True):
                            if key in wanted:
                                wanted.remove(key)
                                yield key, value.as_py()
        if wanted:
            raise missing_rows(self.directory, len(wanted))

    def get(self, key: bytes) -> bytes:
        return next(value for _, value in self.read([key]))

    def writer(self) -> "SegmentWriter":
        return SegmentWriter(self.overlay or self.directory)

    def damaged(self) -> list[Path]:
        """Segments whose bytes are not those that they are named after; every byte is read."""
        return [path for path in self.segments() if file_sha256(path) != path.stem]

    def rewrite(self, segments: Iterable[Path], keep: Callable[[bytes], bool]) -> list[Path]:
        """Put the rows of these segments that are kept into new segments, then delete these; returns the new ones.

        The new ones are durable before the first is deleted: interrupted, rows are there twice, which harms nobody.
        """
        writer = self.writer()
        old = list(segments)
        for path in old:
            with _open(path) as segment:
                for batch in segment.iter_batches(batch_size=READ_BATCH_ROWS):
                    for key, value in zip(batch.column(0).to_pylist(), batch.column(1), strict=True):
                        if keep(key):
                            writer.add(key, value.as_py())
        writer.flush()
        failpoint("store.rewritten")
        for path in old:
            if path not in writer.written:
                path.unlink()
        if old:
            sync_directory(self.directory)
        return [path for path in writer.written if path not in old]


def missing_rows(directory: Path, count: int) -> InputError:
    return InputError(
        f"{count:,} entries that the manifests name are not in {directory}",
        hint="fetch them with `dvc pull`, or make them again with --recompute",
    )


class SegmentWriter:
    """Collects rows and flushes them as segments; leaving the `with` block flushes the rest, also after an error,

    so that work that was paid for is kept.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.written: list[Path] = []
        self._rows: dict[bytes, bytes] = {}
        self._bytes = 0

    def add(self, key: bytes, value: bytes) -> None:
        if key not in self._rows:
            self._rows[key] = value
            self._bytes += len(value)
        if self._bytes >= SEGMENT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was added so far as one segment, durable when this returns."""
        if not self._rows:
            return
        rows = sorted(self._rows.items())
        self.directory.mkdir(parents=True, exist_ok=True)
        data = _segment_bytes(rows)
        path = self.directory / f"{hashlib.sha256(data).hexdigest()}.parquet"
        if not path.exists():
            atomic_write(path, data)
        failpoint("store.flushed")
        self.written.append(path)
        self._rows, self._bytes = {}, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


def file_sha256(path: Path) -> str:
    """64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _segment_bytes(rows: Sequence[tuple[bytes, bytes]]) -> bytes:
    average = max(1, sum(len(value) for _, value in rows) // len(rows))
    sink = io.BytesIO()
    pq.write_table(
        pa.table(
            [
                pa.array([k for k, _ in rows], SCHEMA.field(0).type),
                pa.array([v for _, v in rows], SCHEMA.field(1).type),
            ],
            SCHEMA,
        ),
        sink,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
        row_group_size=max(1, min(8192, GROUP_BYTES // average)),
    )
    return sink.getvalue()


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    """The segment, with its page checksums verified; damage in any part of it is an `IntegrityError`."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as segment:
            yield segment
    except (pa.ArrowException, OSError) as error:
        detail = " ".join(str(error).split())
        raise IntegrityError(
            f"segment {path.name} is damaged: {detail}", hint="bring it back with: dvc checkout, or dvc pull"
        ) from error


# -- workspace ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Workspace:
    """Where everything of one workspace lies. `scratch`, when set, takes all writes: that is how a dry run works."""

    root: Path
    scratch: Path | None = None

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def state(self) -> Path:
        """What only this machine needs: the embedded database, caches, locks. Never in git, never in DVC."""
        return self.root / ".snapdex"

    def manifest(self, index: str, name: str) -> Path:
        """`data/manifests/INDEX/NAME.tsv`; in a dry run the scratch copy."""
        return (self.scratch or self.root) / "data" / "manifests" / index / f"{name}.tsv"

    def loaded(self, index: str) -> Path:
        """Says which snapshot this workspace's database was loaded with: an output for DVC, not for git."""
        return (self.scratch or self.root) / "data" / "state" / index / "loaded.tsv"

    def store(self, name: str) -> Store:
        """The store `data/store/NAME`; name may have a sub-directory, such as `embeddings/<space>`."""
        place = Path("data") / "store" / name
        return Store(self.root / place, self.scratch / place if self.scratch else None)

    def stores(self) -> list[Store]:
        """All stores that are there."""
        place = self.root / "data" / "store"
        directories = sorted({path.parent for path in place.rglob("*.parquet")})
        return [Store(directory) for directory in directories]

    def dry(self, scratch: Path, index: str) -> "Workspace":
        """This workspace with every write redirected to `scratch`, where the present manifests are copied first."""
        target = replace(self, scratch=scratch)
        for path in self.manifest(index, "documents").parent.glob("*.tsv"):
            atomic_write(target.manifest(index, path.stem), path.read_bytes())
        return target
