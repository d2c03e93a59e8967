"""A BEIR `corpus.jsonl`: each line is a document, `_id` is its URI, and the line is its bytes."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipelines.collect.listing import MAX_BYTES, Captured, Entry, Listing, unread
from pipelines.collect.patterns import Rules
from pipelines.collect.uri import to_uri
from pipelines.errors import InputError
from pipelines.media import BEIR, HEAD_BYTES, media_type
from pipelines.model import Quarantined, Reason


def is_beir(path: Path) -> bool:
    """Whether the first line of this `.jsonl` file is an object with `_id` and `text`."""
    try:
        with path.open("rb") as file:
            return media_type(path.name, file.read(HEAD_BYTES)) == BEIR
    except OSError:
        return False  # then it is a file, and reading it says what is wrong


@dataclass(frozen=True)
class BeirCorpus:
    """The lines of one file. Its stamps are the hashes of the lines: an edit elsewhere in the file changes none."""

    name: str
    path: Path

    @property
    def key(self) -> str:
        return f"beir {to_uri(os.fsencode(self.path.absolute()))}"

    def find(self, rules: Rules) -> Listing:
        listing = Listing()
        line_of: dict[str, int] = {}
        with self._open() as file:
            for number, offset, line in _lines(file):
                uri = self._uri(number, line)
                if first := line_of.get(uri):
                    raise InputError(
                        f"{self.name}: lines {first} and {number} have the same _id {uri}; nothing was changed",
                        hint="give each document an _id of its own",
                    )
                line_of[uri] = number
                if rule := rules.refusal(uri):
                    listing.excluded[rule] += 1
                else:
                    place = b"%d %d" % (offset, len(line))
                    listing.entries.append(Entry(uri, place, hashlib.sha256(line).hexdigest()))
        return listing

    def read(self, entries: list[Entry]) -> Iterator[Captured | Quarantined]:
        with self._open() as file:
            for entry in entries:
                offset, length = map(int, entry.where.split())
                file.seek(offset)
                line = file.read(length)
                if hashlib.sha256(line).hexdigest() == entry.stamp:
                    yield Captured(entry, line, BEIR)
                else:
                    yield unread(entry, Reason.UNSTABLE, f"{self.name} changed while it was read")

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise InputError(
                f"{self.name} cannot be read: {error.strerror}; nothing was changed", hint="make it readable"
            ) from error

    def _uri(self, number: int, line: bytes) -> str:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._malformed(number, f"is not JSON: {error}") from error
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise self._malformed(number, "is not an object with _id and text")
        name = record.get("_id")
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            raise self._malformed(number, "has no usable _id")
        # A lone surrogate, which JSON can express, becomes bytes that are not UTF-8, and so is percent-encoded.
        return to_uri(str(name).encode("utf-8", "surrogatepass"))

    def _malformed(self, number: int, what: str) -> InputError:
        return InputError(
            f"{self.name}: line {number} {what}; nothing was changed",
            hint='each line must be like {"_id": "doc-1", "title": "...", "text": "..."}',
            line=number,
        )


def _lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Number (from 1), offset and bytes, without the line end, of each line that is not blank."""
    offset = number = 0
    while line := file.readline(MAX_BYTES):
        number += 1
        if stripped := line.rstrip(b"\r\n"):
            yield number, offset, stripped
        offset += len(line)
