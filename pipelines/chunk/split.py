"""Where a document is cut: at its own joints, so that an edit moves only the chunks around it.

A run of text that does not fit is cut at its strongest joint: a heading before a paragraph, a paragraph before a list
item, a line before a word. Among equally strong joints the one with the least hash of the text that follows is taken.
So every cut is decided by local text alone: inserting a paragraph leaves the cuts elsewhere where they were, which
filling chunks from the top would not (the idea of treaps; Seidel and Aragon 1996, and of content-defined chunking).
"""

import bisect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zlib import crc32

from pipelines.model import Element, ElementKind

HEADING = 100  # minus the level
MAX_LEVEL = 20
TOPIC = 60  # between sentences that embeddings tell apart (see `topics.py`)
BLOCK = 50
ITEM = 40
LEAD_IN = 30  # between "as follows:" and what follows
LINE = 20
SENTENCE = 15
WORD = 5
TOKEN = 2
AFTER_HEADING = 1  # a heading is not left behind by its text
FINGERPRINT_CHARACTERS = 64  # of the text after a joint that decide its hash

_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+")
_LINE_END = re.compile(r"\n+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the text that is not divided further, and how strong the joint before it is."""

    start: int
    end: int
    joint: int
    element: int  # ordinal of the element that it belongs to
    drop: int = 0  # how much the topic changes at the joint; the first to decide among equally strong joints


class Tokens:
    """How many tokens a slice of the text has, from the starts of all tokens of the text."""

    def __init__(self, starts: list[int]) -> None:
        self.starts = starts

    def count(self, start: int, end: int) -> int:
        return bisect.bisect_left(self.starts, end) - bisect.bisect_left(self.starts, start)


def pieces_of(
    text: str, elements: Sequence[Element], tokens: Tokens, budget: int, *, sentences: bool = False
) -> list[Piece]:
    """The elements in order; those of more than `budget` tokens in lines or sentences, then words, then tokens.

    `sentences`: every paragraph in its sentences, whatever its length.
    """
    pieces: list[Piece] = []
    for ordinal, element in enumerate(elements):
        joint = _joint_before(text, elements, ordinal)
        for start, end, inner in _divided(text, element, tokens, budget, sentences=sentences):
            pieces.append(Piece(start, end, inner or joint, ordinal))
    return pieces


def cut(text: str, pieces: Sequence[Piece], first: int, last: int, fits: "Fits", least: int) -> list[tuple[int, int]]:
    """Ranges [first, last) of pieces, in order, each of which fits or is a single piece.

    `least`: tokens below which a part is avoided where another joint of the same strength allows it.
    """
    done: list[tuple[int, int]] = []
    todo = [(first, last)]
    while todo:
        low, high = todo.pop()
        if high - low == 1 or fits(low, high):
            done.append((low, high))
            continue
        at = _best_joint(text, pieces, low, high, fits, least)
        todo += [(at, high), (low, at)]
    return done


class Fits:
    """Whether a range of pieces, with the context that goes before it, stays within the limit."""

    def __init__(
        self, pieces: Sequence[Piece], tokens: Tokens, limit: int, context_tokens: Callable[[int, int], int]
    ) -> None:
        self.limit, self.context_tokens = limit, context_tokens
        self._before = [bisect.bisect_left(tokens.starts, piece.start) for piece in pieces]  # tokens before each piece
        self._through = [bisect.bisect_left(tokens.starts, piece.end) for piece in pieces]

    def __call__(self, low: int, high: int) -> bool:
        size = self.size(low, high)
        return size <= self.limit and size + self.context_tokens(low, high) <= self.limit

    def size(self, low: int, high: int) -> int:
        return self._through[high - 1] - self._before[low]


def _best_joint(text: str, pieces: Sequence[Piece], low: int, high: int, fits: Fits, least: int) -> int:
    def is_roomy(at: int) -> bool:
        return fits.size(low, at) >= least and fits.size(at, high) >= least

    def strength(at: int) -> int:
        joint = pieces[at].joint
        return joint if joint != TOPIC or is_roomy(at) else SENTENCE  # a change of topic is no reason for a small part

    strengths = [strength(at) for at in range(low + 1, high)]
    strongest = max(strengths)
    joints = [at for at, each in enumerate(strengths, low + 1) if each == strongest]
    roomy = [at for at in joints if is_roomy(at)]
    keyed = [((-pieces[at].drop, _fingerprint(text, pieces[at])), at) for at in roomy or joints]
    smallest = min(keyed)[0]
    ties = [at for key, at in keyed if key == smallest]
    return ties[len(ties) // 2]  # repeated text gives equal hashes: the middle keeps the recursion shallow


def _fingerprint(text: str, piece: Piece) -> int:
    return crc32(text[piece.start : min(piece.end, piece.start + FINGERPRINT_CHARACTERS)].encode("utf-8"))


def _joint_before(text: str, elements: Sequence[Element], ordinal: int) -> int:
    element, before = elements[ordinal], elements[ordinal - 1] if ordinal else None
    if ordinal == 1 and has_front_matter(text, elements):
        return AFTER_HEADING
    if element.kind is ElementKind.TITLE:
        return HEADING - min(element.level, MAX_LEVEL)
    if before is not None and before.kind is ElementKind.TITLE:
        return AFTER_HEADING
    if (
        before is not None
        and before.kind is ElementKind.PARAGRAPH
        and text[before.start : before.end].rstrip().endswith(":")
    ):
        return LEAD_IN
    if element.kind is ElementKind.LIST_ITEM and before is not None and before.kind is ElementKind.LIST_ITEM:
        return ITEM
    return BLOCK


def has_front_matter(text: str, elements: Sequence[Element]) -> bool:
    """Whether the first element is the YAML block of a Markdown page: it says what the page is, like a heading."""
    return len(elements) > 1 and elements[0].start == 0 and text.startswith("---\n")


def _divided(
    text: str, element: Element, tokens: Tokens, budget: int, *, sentences: bool
) -> list[tuple[int, int, int]]:
    """(start, end, joint) of the parts of an element; joint 0 stands for the joint before the element itself."""
    parts = [(element.start, element.end, 0)]
    if sentences and element.kind is ElementKind.PARAGRAPH:
        ends = [match.end() for match in _SENTENCE_END.finditer(text, element.start, element.end)]
        parts = _split_at(ends, element.start, element.end, 0, SENTENCE)
    by_lines = element.kind in (ElementKind.CODE, ElementKind.TABLE, ElementKind.LIST_ITEM)
    divisions = [(_LINE_END, LINE), (_SENTENCE_END, SENTENCE)]
    for pattern, joint in divisions if by_lines else divisions[::-1]:
        parts = [
            finer
            for start, end, before in parts
            for finer in (
                [(start, end, before)]
                if tokens.count(start, end) <= budget
                else _split_at([m.end() for m in pattern.finditer(text, start, end)], start, end, before, joint)
            )
        ]
    return [finer for part in parts for finer in _in_words(text, *part, tokens, budget)]


def _in_words(text: str, start: int, end: int, before: int, tokens: Tokens, budget: int) -> list[tuple[int, int, int]]:
    if tokens.count(start, end) <= budget:
        return [(start, end, before)]
    low, high = bisect.bisect_right(tokens.starts, start), bisect.bisect_left(tokens.starts, end)
    starts = tokens.starts[low:high]
    parts = _split_at([at for at in starts if text[at - 1].isspace()], start, end, before, WORD)
    return [
        finer
        for a, b, joint in parts
        for finer in (
            [(a, b, joint)]
            if tokens.count(a, b) <= budget
            else _split_at([at for at in starts if a < at < b], a, b, joint, TOKEN)
        )
    ]


def _split_at(cuts: Sequence[int], start: int, end: int, before: int, joint: int) -> list[tuple[int, int, int]]:
    edges = sorted({at for at in cuts if start < at < end})
    starts = [start, *edges]
    return [
        (a, b, before if position == 0 else joint)
        for position, (a, b) in enumerate(zip(starts, [*edges, end], strict=True))
    ]
