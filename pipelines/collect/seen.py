"""What collect remembers between runs on this machine, so that a file that did not change is not read again.

Only a saving: without this file, or with a damaged one, everything is read. It is void as soon as the code that
decides on media types is another one.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from pipelines import media
from pipelines.collect.listing import Entry
from pipelines.errors import IntegrityError
from pipelines.files import Manifest, read_manifest
from pipelines.model import Document

# A file that was written this shortly before it was hashed may be written again without a change of its times:
# kernels stamp in ticks of some milliseconds, some file systems in steps of 2 s (the same rule as git's racy entries).
RACY_NANOSECONDS = 2_000_000_000

Row = tuple[str, ...]  # source, uri, stamp, content_sha256, size_bytes, media_type


@dataclass(frozen=True, slots=True)
class Seen:
    """Documents by (source, URI), with the stamp that they had at `time_ns` or later."""

    time_ns: int = 0
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    def document(self, source: str, entry: Entry) -> Document | None:
        """The document that this entry still is, if its stamp says so and can be trusted."""
        row = self.rows.get((source, entry.uri))
        if row is None or not entry.stamp or row[2] != entry.stamp:
            return None
        if entry.mtime_ns > self.time_ns - RACY_NANOSECONDS:
            return None
        return Document(entry.uri, row[3], int(row[4]), row[5])

    def had_documents(self, source: str) -> bool:
        """Whether this source held a document in the last run; without a memory it may have."""
        return not self.rows or any(each == source for each, _ in self.rows)


def source_code(key: str) -> str:
    """A short name for a source's key, for a line per document."""
    return hashlib.sha256(key.encode("utf-8")).hexdigest()[:16]


def read_seen(path: Path) -> Seen:
    try:
        manifest = read_manifest(path, "seen")
    except (IntegrityError, OSError):
        return Seen()
    if manifest is None or manifest.facts.get("media") != _media_code():
        return Seen()
    if not manifest.facts.get("time_ns", "").isdecimal() or any(len(each) != 6 for each in manifest.rows):
        return Seen()
    return Seen(int(manifest.facts["time_ns"]), {(each[0], each[1]): each for each in manifest.rows})


def write_seen(path: Path, seen: Seen) -> None:
    Manifest("seen", {"time_ns": str(seen.time_ns), "media": _media_code()}, list(seen.rows.values())).write(path)


def _media_code() -> str:
    return hashlib.sha256(Path(media.__file__).read_bytes()).hexdigest()[:16]
