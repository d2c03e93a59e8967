"""The words of Snapdex as types. Plain values: nothing here touches a file, a database or the network.

    Document  --parse-->  Parsed (text + elements)  --chunk-->  Revision (chunks)  --embed-->  vectors

Identity is always a hash of content, never a serial number, so the same input gives the same keys on any machine.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
Scalar = str | int | float | bool


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of `size`, the last one shorter (`itertools.batched` comes with Python 3.12)."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def percentile(counted: Sequence[tuple[int, int]], percent: int) -> int:
    """The smallest value that at least so many per cent of all do not exceed; 0 for none.

    `counted`: values, ascending, and how often each occurs.
    """
    left = percent * sum(count for _, count in counted)
    for value, count in counted:
        left -= 100 * count
        if left <= 0:
            return value
    return 0


def digest(*parts: bytes | str) -> bytes:
    """SHA-256 over length-prefixed parts, 32 bytes: ("ab", "c") and ("a", "bc") differ."""
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8") if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher.digest()


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True, order=True)
class Document:
    """One source file at one time: where it is in the corpus, and what its bytes are."""

    uri: str
    content_sha256: str
    size_bytes: int
    media_type: str


class ElementKind(StrEnum):
    TITLE = "title"
    PARAGRAPH = "paragraph"
    LIST_ITEM = "list_item"
    TABLE = "table"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Element:
    """A parsed block: `text` of the parsed document from `start` up to `end` (in code points)."""

    kind: ElementKind
    start: int
    end: int
    level: int = 0  # titles: 1 is the outermost
    section: tuple[str, ...] = ()  # titles of the enclosing headings, outermost first, without its own
    page: int | None = None
    html: str | None = None  # tables: the cells, where the format has them


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document as text with structure. Elements are in order, do not overlap, and lie inside `text`.

    For Markdown and plain text `text` is the file itself, decoded; so a quotation can be found in the source with a
    plain search. Other formats have no such text; theirs is what was extracted, in reading order.
    """

    text: str
    elements: tuple[Element, ...]
    title: str | None = None  # from the content, never from the file name: a rename must not change a chunk
    metadata: dict[str, Scalar] = field(default_factory=dict)
    flags: tuple[str, ...] = ()  # what was repaired on the way in, such as "nul_removed"

    def to_json(self) -> str:
        rows = [[e.kind.value, e.start, e.end, e.level, list(e.section), e.page, e.html] for e in self.elements]
        return canonical_json(
            {"text": self.text, "elements": rows, "title": self.title, "metadata": self.metadata, "flags": self.flags}
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "Parsed":
        raw = json.loads(text)
        elements = tuple(
            Element(ElementKind(kind), start, end, level, tuple(section), page, html)
            for kind, start, end, level, section, page, html in raw["elements"]
        )
        return cls(raw["text"], elements, raw["title"], raw["metadata"], tuple(raw["flags"]))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A text to embed, and its place in the revision that it was cut from.

    `text` is always `parsed.text[start:end]`. `context` (title and section path) is put before it when it is
    embedded; identity covers both, because both shape the vector.
    """

    text: str
    start: int
    end: int
    context: str = ""
    section: tuple[str, ...] = ()
    page: int | None = None
    parent_start: int = 0  # the innermost section that holds all of this chunk
    parent_end: int = 0
    tokens: int = 0  # of the embedded text, counted with the tokenizer of the model

    @property
    def embedded_text(self) -> str:
        return f"{self.context}\n\n{self.text}" if self.context else self.text

    @property
    def key(self) -> bytes:
        """32 bytes: what this chunk is, wherever it stands."""
        return digest(self.context, self.text)


@dataclass(frozen=True, slots=True)
class Revision:
    """What one recipe makes of a document's bytes: title, metadata and the ordered chunks."""

    chunks: tuple[Chunk, ...]
    title: str | None = None
    metadata: dict[str, Scalar] = field(default_factory=dict)

    @property
    def chunks_sha256(self) -> str:
        """Over everything that a reader can see of this revision."""
        places: list[Place] = [
            (c.key.hex(), c.start, c.end, list(c.section), c.page, c.parent_start, c.parent_end) for c in self.chunks
        ]
        return chunks_sha256(places, self.title, self.metadata)

    def to_json(self) -> str:
        rows = [
            [c.text, c.start, c.end, c.context, list(c.section), c.page, c.parent_start, c.parent_end, c.tokens]
            for c in self.chunks
        ]
        return canonical_json({"chunks": rows, "title": self.title, "metadata": self.metadata})

    @classmethod
    def from_json(cls, text: str | bytes) -> "Revision":
        raw = json.loads(text)
        chunks = tuple(
            Chunk(body, start, end, context, tuple(section), page, parent_start, parent_end, tokens)
            for body, start, end, context, section, page, parent_start, parent_end, tokens in raw["chunks"]
        )
        return cls(chunks, raw["title"], raw["metadata"])


Place = tuple[str, int, int, list[str], int | None, int, int]  # key, start, end, section, page, parent start and end


def chunks_sha256(places: Sequence[Place], title: str | None, metadata: dict[str, Scalar]) -> str:
    """64 hex digits over chunks in order with their places, title and metadata: what the leaf of a document covers."""
    return digest(canonical_json(places), canonical_json([title, metadata])).hex()


def revision_key(content_sha256: str, media_type: str, recipe: str) -> bytes:
    """32 bytes: the same bytes read as the same type by the same recipe are the same revision, under any URI."""
    return digest(content_sha256, media_type, recipe)


def leaf(uri: str, content_sha256: str, chunks_sha256: str) -> bytes:
    """32 bytes: one document's share in the snapshot id."""
    return digest(uri, content_sha256, chunks_sha256)


def snapshot_id(recipe: str, space: str, leaves: Iterable[bytes]) -> str:
    """64 hex digits: the identity of sealed content. Leaves may come in any order."""
    hasher = hashlib.sha256(digest(recipe, space))
    for each in sorted(leaves):
        hasher.update(each)
    return hasher.hexdigest()


class Reason(StrEnum):
    """Why a document is in quarantine. Codes are stable: scripts and dashboards rely on them."""

    EMPTY = "empty"
    NO_TEXT = "no_text"
    UNSUPPORTED = "unsupported"
    ENCRYPTED = "encrypted"
    CORRUPT = "corrupt"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    NEEDS_OCR = "needs_ocr"
    BOMB = "bomb"
    XML_ENTITIES = "xml_entities"
    TOO_DEEP = "too_deep"
    TOO_LARGE = "too_large"
    UNSTABLE = "unstable"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A document that could not be processed, with the reason and a detail for people."""

    uri: str
    content_sha256: str
    reason: Reason
    detail: str
