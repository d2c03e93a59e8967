"""What every kind of source answers: which documents are there, and what their bytes are."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pipelines.collect.patterns import Rules
from pipelines.errors import InputError
from pipelines.model import Quarantined, Reason

MAX_BYTES = 2**30  # a larger document is quarantined: a Parquet value ends at 2 GiB, and it is held in memory once


@dataclass(frozen=True, slots=True)
class Entry:
    """A document that a source lists.

    While `stamp` is the same its bytes are taken to be the same; an empty stamp says that only reading tells.
    `mtime_ns` is 0 where the stamp is exact (a hash); else a stamp this young is not yet trusted.
    """

    uri: str
    where: bytes  # how the source finds it again
    stamp: str = ""
    mtime_ns: int = 0
    size_bytes: int | None = None  # as listed; None: not known yet


@dataclass(frozen=True, slots=True)
class Captured:
    """The bytes of an entry, whose stamp is that of the moment of reading."""

    entry: Entry
    data: bytes
    media_type: str | None = None  # None: what its name and content say


@dataclass(slots=True)
class Listing:
    """All that a source holds: documents, what rules keep out (rule: count), and what is no document (URI, reason)."""

    entries: list[Entry] = field(default_factory=list)
    excluded: Counter[str] = field(default_factory=Counter)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def skip(self, uri: str, reason: str) -> None:
        self.skipped.append((uri, reason))


class Source(Protocol):
    """One place that documents come from."""

    @property
    def name(self) -> str:
        """What messages call it: as it was written, without secrets."""

    @property
    def key(self) -> str:
        """What it is, absolute: the same place has the same key in every run."""

    def find(self, rules: Rules) -> Listing:
        """Everything that is there now. Raises `InputError` if that cannot be told completely."""

    def read(self, entries: list[Entry]) -> Iterator[Captured | Quarantined]:
        """Each of `entries`, in order, as bytes or as the reason why not."""


def unread(entry: Entry, reason: Reason, detail: str) -> Quarantined:
    """An entry whose present bytes are not known, so neither is their hash."""
    return Quarantined(entry.uri, "", reason, detail)


def missing(text: str, what: str) -> InputError:
    """A source that is not there is never taken for one that was emptied."""
    return InputError(
        f"the source {text} {what}; nothing was changed",
        hint="check its spelling and that it is mounted; if it is gone for good, take it out of collect.sources and "
        "run with --allow-mass-delete",
        source=text,
    )


def hide_secrets(text: str) -> str:
    """Without what stands before the @ of a URL's host: there may be a password or a token."""
    return _CREDENTIALS.sub(r"\1***@", text)


_CREDENTIALS = re.compile(r"(://)[^/@\s]*@")
