"""Directories, single files and globs on this machine.

Names are bytes here, as they are for the kernel. Files are opened without following a link in the last component, and
a file that changes while it is read is read again: what is captured was on the disk at one time.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.collect.listing import MAX_BYTES, Captured, Entry, Listing, missing, unread
from pipelines.collect.patterns import Rules, translate
from pipelines.collect.uri import to_uri
from pipelines.errors import InputError
from pipelines.model import Quarantined, Reason

READ_ATTEMPTS = 3


@dataclass(frozen=True)
class Directory:
    """The files below `root`; their URIs are paths relative to it. With `pattern`, only those whose URI matches it."""

    name: str
    root: Path
    pattern: str | None = None

    @property
    def key(self) -> str:
        return f"directory {to_uri(os.fsencode(self.root.resolve()))}"

    def find(self, rules: Rules) -> Listing:
        listing = Listing()
        root = os.fsencode(self.root.resolve())
        wanted = re.compile(translate(self.pattern), re.DOTALL) if self.pattern else None
        deepest = self.pattern.count("/") if self.pattern and "**" not in self.pattern else None
        pending = [b""]
        while pending:
            prefix = pending.pop()
            for child in _children(root + b"/" + prefix):
                path = prefix + child.name
                uri = to_uri(path)
                if child.is_dir(follow_symlinks=False):
                    if deepest is not None and path.count(b"/") >= deepest:
                        continue
                    if rule := rules.pruning(uri + "/"):
                        listing.excluded[rule] += 1
                    else:
                        pending.append(path + b"/")
                elif wanted is None or wanted.fullmatch(uri):
                    if rule := rules.refusal(uri):
                        listing.excluded[rule] += 1
                    else:
                        _examine(listing, uri, root, child)
        return listing

    def read(self, entries: list[Entry]) -> Iterator[Captured | Quarantined]:
        return map(capture, entries)


@dataclass(frozen=True)
class File:
    """One file; its URI is its name. A link that is named as a source is followed wherever it leads."""

    name: str
    path: Path

    @property
    def key(self) -> str:
        return f"file {to_uri(os.fsencode(self.path.absolute()))}"

    def find(self, rules: Rules) -> Listing:
        listing = Listing()
        uri = to_uri(os.fsencode(self.path.name))
        if rule := rules.refusal(uri):
            listing.excluded[rule] += 1
        else:
            try:
                path = self.path.resolve(strict=True)
                listing.entries.append(_entry(uri, os.fsencode(path), path.stat()))
            except OSError as error:
                raise missing(self.name, f"cannot be read: {error.strerror}") from error
        return listing

    def read(self, entries: list[Entry]) -> Iterator[Captured | Quarantined]:
        return map(capture, entries)


def _children(directory: bytes) -> list[os.DirEntry[bytes]]:
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError as error:
        raise InputError(
            f"the directory {to_uri(directory)} cannot be listed: {error.strerror}; nothing was changed",
            hint="make it readable, or exclude it with collect.exclude",
        ) from error


def _examine(listing: Listing, uri: str, root: bytes, child: "os.DirEntry[bytes]") -> None:
    try:
        status = child.stat(follow_symlinks=False)
        path = child.path
        if stat.S_ISLNK(status.st_mode):
            path = os.path.realpath(path, strict=True)
            status = os.lstat(path)
            if not path.startswith(root.rstrip(b"/") + b"/"):
                return listing.skip(uri, "link out of the source")
            if stat.S_ISDIR(status.st_mode):
                return listing.skip(uri, "link to a directory")
    except OSError as error:
        if child.is_symlink() and error.errno in _BROKEN:
            return listing.skip(uri, _BROKEN[error.errno])
        # It vanished, or may not be looked at: reading it fails again, and then the last good revision is kept.
        listing.entries.append(Entry(uri, child.path))
        return None
    if not stat.S_ISREG(status.st_mode):
        return listing.skip(uri, _KINDS.get(stat.S_IFMT(status.st_mode), "special file"))
    listing.entries.append(_entry(uri, path, status))
    return None


_BROKEN = {errno.ELOOP: "link that loops", errno.ENOENT: "link to nothing", errno.ENOTDIR: "link to nothing"}
_KINDS = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


def _entry(uri: str, path: bytes, status: os.stat_result) -> Entry:
    stamp = f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"
    return Entry(uri, path, stamp, status.st_mtime_ns)


# -- capture -----------------------------------------------------------------------------------------------------------


def capture(entry: Entry) -> Captured | Quarantined:
    """The bytes of a local file as they were at one time: `unstable` if it changed during each of three readings."""
    for _ in range(READ_ATTEMPTS):
        try:
            # O_NONBLOCK: if the name has become a FIFO since it was listed, opening it must not wait for a writer.
            descriptor = os.open(entry.where, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb", buffering=0):
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    return unread(entry, Reason.UNREADABLE, "it is no longer a regular file")
                if before.st_size > MAX_BYTES:
                    return unread(entry, Reason.TOO_LARGE, f"{before.st_size:,} bytes, {MAX_BYTES:,} are allowed")
                data = _read(descriptor, before.st_size)
                after = os.fstat(descriptor)
        except OSError as error:
            return unread(entry, Reason.UNREADABLE, error.strerror or str(error))
        same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if same and len(data) == before.st_size:
            return Captured(_entry(entry.uri, entry.where, before), data)
    return unread(entry, Reason.UNSTABLE, f"it changed during each of {READ_ATTEMPTS} readings")


def _read(descriptor: int, size_bytes: int) -> bytes:
    """Up to one byte more than expected: enough to see that a file grew, and an end where one grows for ever."""
    parts = []
    left = size_bytes + 1
    while left and (part := os.read(descriptor, left)):
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
