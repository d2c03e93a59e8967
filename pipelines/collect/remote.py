"""Anything that fsspec opens: `s3://bucket/docs`, `memory://docs`, `zip://docs::archive.zip`.

The listing's size and etag, checksum or modification time are the stamp; where it gives none of these, each run reads.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipelines.collect.listing import MAX_BYTES, Captured, Entry, Listing, hide_secrets, missing, unread
from pipelines.collect.patterns import Rules, translate
from pipelines.collect.uri import to_uri
from pipelines.errors import ConfigError, ServiceUnavailable, SnapdexError
from pipelines.model import Quarantined, Reason

BATCH_DOCUMENTS = 32  # fetched at once, which fsspec does concurrently where the protocol can
BATCH_BYTES = 16 * 2**20
# What file systems call the hash of the content, and the time of its last change.
_HASHES = ("ETag", "etag", "e_tag", "checksum", "md5Hash", "content_md5", "CRC")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "date_time", "created")


@dataclass(frozen=True)
class Remote:
    """The files below `root`, or the one that `root` is; with `pattern`, those whose URI matches it."""

    name: str
    key: str
    filesystem: Any
    root: str
    pattern: str | None

    @classmethod
    def parse(cls, text: str) -> "Remote":
        """Raises `ConfigError` where the protocol is unknown or its package is not installed."""
        import fsspec

        name = hide_secrets(text)
        place, pattern = _split_glob(text)
        try:
            filesystem, root = fsspec.url_to_fs(place)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"{name}: {_one_line(error)}", hint="install what fsspec needs for this URL") from error
        except OSError as error:
            raise _failure(name, error) from error
        return cls(name, f"fsspec {hide_secrets(place)}", filesystem, root.rstrip("/"), pattern)

    def find(self, rules: Rules) -> Listing:
        listing = Listing()
        wanted = re.compile(translate(self.pattern), re.DOTALL) if self.pattern else None
        for path, info in self._walk(listing, rules):
            uri = self._uri(path)
            if wanted is not None and not wanted.fullmatch(uri):
                continue
            if rule := rules.refusal(uri):
                listing.excluded[rule] += 1
            elif ".." in uri.split("/"):
                listing.skip(uri, "path out of the source")
            elif info.get("islink") or info.get("type") != "file":
                listing.skip(uri, "link" if info.get("islink") else "special file")
            else:
                listing.entries.append(_entry(uri, path, info))
        return listing

    def read(self, entries: list[Entry]) -> Iterator[Captured | Quarantined]:
        batch: list[Entry] = []
        size = 0
        for entry in entries:
            if (entry.size_bytes or 0) > MAX_BYTES:
                yield unread(entry, Reason.TOO_LARGE, f"{entry.size_bytes:,} bytes, {MAX_BYTES:,} are allowed")
                continue
            batch.append(entry)
            size += entry.size_bytes or 0
            if size >= BATCH_BYTES or len(batch) == BATCH_DOCUMENTS:
                yield from self._read(batch)
                batch, size = [], 0
        yield from self._read(batch)

    def _read(self, batch: list[Entry]) -> Iterator[Captured | Quarantined]:
        if not batch:
            return
        # Not `cat`, which takes a `*` in a name for a pattern.
        contents = self.filesystem.cat_ranges([_path(entry) for entry in batch], None, None, on_error="return")
        for entry, data in zip(batch, contents, strict=True):
            if isinstance(data, Exception):
                if isinstance(data, OSError) and not isinstance(data, FileNotFoundError | PermissionError):
                    raise _failure(self.name, data) from data
                yield unread(entry, Reason.UNREADABLE, _one_line(data))
            elif entry.size_bytes not in (None, len(data)):
                yield unread(entry, Reason.UNSTABLE, f"{entry.size_bytes:,} bytes were listed, {len(data):,} were read")
            else:
                yield Captured(entry, bytes(data))

    def _uri(self, path: str) -> str:
        relative = path.removeprefix(self.root).lstrip("/") or path.rpartition("/")[2]
        return to_uri(relative.encode("utf-8", "surrogateescape"))

    def _walk(self, listing: Listing, rules: Rules) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every file with what the listing says of it."""
        # Not `find`, which passes over directories that it cannot list: their documents would seem to be removed.
        self.filesystem.invalidate_cache()  # a long-lived process may have listed it before
        pending = [self.root]
        while pending:
            directory = pending.pop()
            try:
                children = self.filesystem.ls(directory, detail=True)
            except OSError as error:
                raise _failure(self.name, error) from error
            for info in children:
                path = info["name"].rstrip("/")
                if info["type"] != "directory":
                    yield path, info
                elif path == directory.rstrip("/"):
                    continue  # object stores list a marker for the directory itself
                elif rule := rules.pruning(self._uri(path) + "/"):
                    listing.excluded[rule] += 1
                else:
                    pending.append(path)


def _split_glob(url: str) -> tuple[str, str | None]:
    """The fixed leading directory of a URL, and the pattern below it."""
    place, separator, inner = url.partition("::")
    parts = place.split("/")
    first = next((number for number, part in enumerate(parts) if re.search(r"[*?\[]", part)), None)
    if first is None:
        return url, None
    return "/".join(parts[:first]) + separator + inner, "/".join(parts[first:])


def _entry(uri: str, path: str, info: Mapping[str, Any]) -> Entry:
    size = info.get("size")
    proof = [f"{key}={info[key]}" for key in _HASHES if info.get(key)]
    mtime_ns = 0
    if not proof:
        proof = [f"{key}={info[key]}" for key in _TIMES if info.get(key)]
        mtime_ns = max((_nanoseconds(info[key]) for key in _TIMES if info.get(key)), default=0)
    # Line by line in a file: what a server says may hold anything.
    stamp = to_uri(f"{size} {' '.join(proof)}".encode()) if proof and size is not None else ""
    return Entry(uri, path.encode("utf-8", "surrogateescape"), stamp, mtime_ns, size)


def _nanoseconds(time: object) -> int:
    if isinstance(time, datetime):
        return int(time.timestamp() * 1e9)
    return int(time * 1e9) if isinstance(time, int | float) else 0


def _path(entry: Entry) -> str:
    return entry.where.decode("utf-8", "surrogateescape")


def _failure(name: str, error: OSError) -> SnapdexError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return missing(name, "does not exist")
    if isinstance(error, PermissionError):
        return missing(name, f"cannot be read: {_one_line(error)}")
    return ServiceUnavailable(
        f"the source {name} does not answer: {_one_line(error)}; nothing was changed", hint="try again later"
    )


def _one_line(error: Exception) -> str:
    return hide_secrets(f"{type(error).__name__}: {' '.join(str(error).split())}")
