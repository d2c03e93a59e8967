"""What a person would object to in the present chunks: read from manifests and stores, no database needed.

Documents are read one at a time, once as chunks and once as elements. What stays in memory is 16 bytes for each chunk,
and the examples.
"""

import bisect
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.config import Config
from pipelines.errors import InputError
from pipelines.files import Workspace
from pipelines.manifests import ChunksRow, ElementsRow, read_chunks, read_elements
from pipelines.model import Element, ElementKind, Parsed, Revision, digest, percentile
from pipelines.progress import Progress, Silent

SHOWN_CHARACTERS = 200  # of an example's text
PERCENTILES = {"min": 0, "p5": 5, "p50": 50, "p95": 95, "max": 100}
BINS = 16  # of the histogram, up to chunk.max_tokens

_SENTENCE_END = re.compile(r"[.!?:…。\uff01\uff1f][\"')\]»”\u2019*_`]*$")
_PROSE = (ElementKind.PARAGRAPH, ElementKind.LIST_ITEM)


@dataclass(frozen=True, slots=True)
class Example:
    """A place in a document: characters `start` up to `end`. `size`: tokens of a chunk, characters of a block."""

    document: str
    start: int
    end: int
    size: int
    text: str  # its beginning, or its end where that is what is wrong with it
    parts: int = 1  # chunks that a divided block went into


@dataclass
class Finding:
    """How often something occurs in all documents, and the worst places."""

    keep: int
    count: int = 0
    examples: list[Example] = field(default_factory=list)
    _keys: list[tuple[int, str, int]] = field(default_factory=list)  # of the examples

    def add(self, example: Example, times: int, badness: int = 0) -> None:
        """`times`: documents with these same bytes. Equally bad ones stand in the order of documents."""
        self.count += times
        key = -badness, example.document, example.start
        at = bisect.bisect_left(self._keys, key)
        self._keys.insert(at, key)
        self.examples.insert(at, example)
        del self._keys[self.keep :], self.examples[self.keep :]


@dataclass
class Blocks:
    """Tables, or blocks of code: those that a chunk holds whole, and those that had to be divided."""

    divided: Finding  # the longest first
    whole: int = 0


@dataclass
class Group:
    """A text of several chunks, whatever stands before it when it is embedded."""

    times: int
    text: str = ""
    places: list[tuple[str, int]] = field(default_factory=list)  # document and start, the first ones


@dataclass
class Findings:
    """Of all documents in manifest `chunks`; copies of a document count as often as they are there."""

    index: str
    recipe: str
    documents: int
    chunks: int
    min_tokens: int
    tokens: dict[str, int]  # of the embedded text: min, p5, p50, p95, max
    histogram: list[tuple[int, int]]  # lower edge in tokens, chunks
    small: Finding  # fewer than `min_tokens`, context included
    cut_sentences: Finding  # the chunk ends within a sentence
    headings: Finding  # the chunk ends with a heading
    headings_alone: int  # of these, chunks of nothing else
    no_section: Finding
    duplicated_texts: int  # texts of more than one chunk
    duplicates: int  # chunks whose text an earlier one has already
    groups: list[Group]  # the texts with most chunks
    tables: Blocks
    code: Blocks
    empty: list[str]  # documents without a chunk


def examine(config: Config, workspace: Workspace, *, worst: int = 3, progress: Progress | None = None) -> Findings:
    """Look at every chunk of the present manifests; `worst`: examples of each finding.

    Raises `InputError` where nothing was chunked yet, the stores lack something, or the manifests are of two states.
    """
    progress = progress or Silent()
    recipe, rows = read_chunks(workspace, config.index.name)
    _, elements = read_elements(workspace, config.index.name)
    documents: dict[bytes, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.uri):
        documents.setdefault(row.revision_key, []).append(row.uri)
    progress.start("chunks", 2 * len(documents))
    look = _Look(config.chunk.min_tokens, worst, documents)
    for key, value in workspace.store("chunks").read(documents):
        look.at_chunks(key, Revision.from_json(value))
        progress.advance()
    look.find_duplicates()
    revisions = _revisions_of(rows, elements)
    for element_key, value in workspace.store("elements").read(revisions):
        look.at_elements(revisions[element_key], Parsed.from_json(value))
        progress.advance()
    return Findings(
        index=config.index.name,
        recipe=recipe,
        documents=len(rows),
        chunks=look.sizes.total(),
        min_tokens=config.chunk.min_tokens,
        tokens={name: percentile(sorted(look.sizes.items()), percent) for name, percent in PERCENTILES.items()},
        histogram=_histogram(look.sizes, config.chunk.max_tokens),
        small=look.small,
        cut_sentences=look.cut_sentences,
        headings=look.headings,
        headings_alone=look.headings_alone,
        no_section=look.no_section,
        duplicated_texts=look.duplicated_texts,
        duplicates=look.duplicates,
        groups=list(look.groups.values()),
        tables=look.blocks[ElementKind.TABLE],
        code=look.blocks[ElementKind.CODE],
        empty=[row.uri for row in rows if row.n_chunks == 0],
    )


@dataclass(frozen=True, slots=True)
class _Cuts:
    """The chunks of one revision, in order."""

    texts: "array[int]"  # 64 bits of the text's hash
    starts: "array[int]"
    ends: "array[int]"


class _Look:
    """What was seen so far."""

    def __init__(self, min_tokens: int, worst: int, documents: Mapping[bytes, Sequence[str]]) -> None:
        self.min_tokens, self.worst, self.documents = min_tokens, worst, documents
        self.sizes: Counter[int] = Counter()
        self.small, self.cut_sentences, self.headings, self.no_section = (Finding(worst) for _ in range(4))
        self.headings_alone = 0
        self.blocks = {kind: Blocks(Finding(worst)) for kind in (ElementKind.TABLE, ElementKind.CODE)}
        self.duplicated_texts = self.duplicates = 0
        self.groups: dict[int, Group] = {}
        self._cuts: dict[bytes, _Cuts] = {}

    def at_chunks(self, key: bytes, revision: Revision) -> None:
        """What chunks say by themselves."""
        uri, copies = self.documents[key][0], len(self.documents[key])
        cuts = self._cuts[key] = _Cuts(array("Q"), array("i"), array("i"))
        for chunk in revision.chunks:
            cuts.texts.append(_hash(chunk.text))
            cuts.starts.append(chunk.start)
            cuts.ends.append(chunk.end)
            self.sizes[chunk.tokens] += copies
            example = Example(uri, chunk.start, chunk.end, chunk.tokens, chunk.text[:SHOWN_CHARACTERS])
            if chunk.tokens < self.min_tokens:
                self.small.add(example, copies, badness=-chunk.tokens)
            if not chunk.section:
                self.no_section.add(example, copies)

    def find_duplicates(self) -> None:
        """Among all chunks seen: which texts there are twice."""
        every = [
            np.tile(np.frombuffer(cuts.texts, np.uint64), len(self.documents[key])) for key, cuts in self._cuts.items()
        ]
        texts, times = np.unique(np.concatenate([np.zeros(0, np.uint64), *every]), return_counts=True)
        repeated = times > 1
        texts, times = texts[repeated], times[repeated]
        self.duplicated_texts, self.duplicates = len(texts), int(np.sum(times - 1))
        largest = np.lexsort((texts, -times))[: self.worst]
        self.groups = {int(texts[at]): Group(int(times[at])) for at in largest}

    def at_elements(self, key: bytes, parsed: Parsed) -> None:
        """What chunks are in their document."""
        uri, copies, cuts, text = self.documents[key][0], len(self.documents[key]), self._cuts[key], parsed.text
        begins = [element.start for element in parsed.elements]
        for known, start, end in zip(cuts.texts, cuts.starts, cuts.ends, strict=True):
            if _hash(text[start:end]) != known:
                raise _two_states()
            if known in self.groups:
                self._add_places(self.groups[known], text[start:end], key, start)
            first = max(0, bisect.bisect_right(begins, start) - 1)
            last = bisect.bisect_left(begins, end) - 1
            shown = Example(uri, start, end, end - start, text[max(start, end - SHOWN_CHARACTERS) : end])
            if parsed.elements[last].kind is ElementKind.TITLE:
                self.headings.add(shown, copies)
                if all(element.kind is ElementKind.TITLE for element in parsed.elements[first : last + 1]):
                    self.headings_alone += copies
            elif _is_within_sentence(text, parsed.elements, last, end):
                self.cut_sentences.add(shown, copies)
        for element in parsed.elements:
            if element.kind in self.blocks and text[element.start : element.end].strip():
                self._at_block(self.blocks[element.kind], element, text, uri, copies, cuts)

    def _add_places(self, group: Group, text: str, key: bytes, start: int) -> None:
        group.text = text[:SHOWN_CHARACTERS]
        group.places = sorted([*group.places, *((uri, start) for uri in self.documents[key])])[: self.worst]

    def _at_block(self, blocks: Blocks, element: Element, text: str, uri: str, copies: int, cuts: _Cuts) -> None:
        body = text[element.start : element.end].rstrip()
        end = element.start + len(body)
        parts = list(_overlapping(cuts, element.start, end))
        if any(low <= element.start and end <= high for low, high in parts):
            blocks.whole += copies
        else:
            example = Example(uri, element.start, end, len(body), body[:SHOWN_CHARACTERS], len(parts))
            blocks.divided.add(example, copies, badness=len(body))


def _is_within_sentence(text: str, elements: Sequence[Element], last: int, end: int) -> bool:
    """Whether prose goes on after `end`, in the middle of a sentence: in the element `last`, or in the next one, where
    a page ends within a paragraph."""
    element = elements[last]
    if element.kind not in _PROSE or _SENTENCE_END.search(text[max(element.start, end - SHOWN_CHARACTERS) : end]):
        return False
    if text[end : element.end].strip():
        return True
    following = elements[last + 1] if last + 1 < len(elements) else None
    return (
        element.kind is ElementKind.PARAGRAPH
        and following is not None
        and following.kind is ElementKind.PARAGRAPH
        and text[following.start : following.start + 1].islower()
    )


def _overlapping(cuts: _Cuts, start: int, end: int) -> Iterator[tuple[int, int]]:
    for at in range(bisect.bisect_right(cuts.ends, start), len(cuts.ends)):
        if cuts.starts[at] >= end:
            return
        yield cuts.starts[at], cuts.ends[at]


def _revisions_of(rows: Sequence[ChunksRow], elements: Sequence[ElementsRow]) -> dict[bytes, bytes]:
    """From the key of a document's elements to that of its chunks."""
    parsed = {row.uri: row for row in elements}
    found: dict[bytes, bytes] = {}
    for row in rows:
        of = parsed.get(row.uri)
        if of is None or of.element_key is None or of.content_sha256 != row.content_sha256:
            raise _two_states()
        found[of.element_key] = row.revision_key
    return found


def _two_states() -> InputError:
    return InputError("the manifests `elements` and `chunks` are of two states", hint="python -m pipelines.chunk")


def _hash(text: str) -> int:
    return int.from_bytes(digest(text)[:8], "big")


def _histogram(sizes: Counter[int], max_tokens: int) -> list[tuple[int, int]]:
    """Lower edge and count of each bin up to the largest size, empty ones included."""
    width = -(-max_tokens // BINS)
    bins: Counter[int] = Counter()
    for size, count in sizes.items():
        bins[(size - 1) // width] += count  # a chunk of exactly `max_tokens` is in the last one
    return [(number * width + 1, bins[number]) for number in range(max(bins, default=-1) + 1)]
