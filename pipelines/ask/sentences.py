"""The sentences of a text as ranges of it, so that a quotation is a slice and nothing is rewritten."""

import re
import unicodedata
from collections.abc import Collection, Iterator
from functools import lru_cache

_BLOCK = re.compile(  # an empty line; before items, quotations and headings; before and after rows of a table
    r"\n\s*\n|\n(?=\s*(?:[-*+•>#]|\d+[.)]) |\s*\||[^\n]* \| )|(?<=\|)\n"
)
_HEADING = re.compile(r"\s*#{1,6} [^\n]*(?:\n|$)")
_WIDE = "\u3002\uff01\uff1f"  # what ends a sentence in Chinese and Japanese, with no space after it
_END = re.compile(rf"[.!?\u2026{_WIDE}][\"')\]\u201d\u2019]*(?:\s+|(?<=[{_WIDE}])|$)")
_SHORT = re.compile(
    r"(?:^|[\s(])(?:[A-Za-z]|pp|e\.g|i\.e|cf|vs|etc|al|Mrs?|Ms|Dr|Prof|St|Nos?|Fig|Inc|Corp|Ltd|Co|approx)\.$"
)
_WORD = re.compile(r"(?<![\w.])[-\u2212](?=\d)[\d.,:/]*\d|[$\u20ac\u00a3]?\w+(?:[.,:/-]\w+)*%?")  # -5, 10-Q, 50%
NEGATIONS = frozenset({"not", "no", "never", "none", "without", "nobody", "nothing", "neither", "nor", "nowhere"})
SHORT_LENGTH = 10  # characters of an abbreviation, with what is before it
_WORDS = re.compile(r"\w+")
_ONES = _WORDS.findall("one two three four five six seven eight nine")
_TEENS = _WORDS.findall("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
_TENS = _WORDS.findall("twenty thirty forty fifty sixty seventy eighty ninety")
NUMBERS = {word: number for number, word in enumerate(["zero", *_ONES, *_TEENS])}
NUMBERS |= {ten: number for number, ten in zip(range(20, 100, 10), _TENS, strict=True)}
NUMBERS |= {f"{ten}-{one}": NUMBERS[ten] + NUMBERS[one] for ten in _TENS for one in _ONES}
LARGE = frozenset({"hundred", "thousand", "million", "billion", "trillion"})
_WITH_NOT = re.compile(r"n['\u2019]t\b|\bcannot\b")
_STOP = frozenset(  # not the negations: they change what is said
    re.findall(
        r"\w+",
        """a about after all an and any are as at be been before but by can could did do does for from had has have how
        i if in into is it its may me more most much must my of on or our shall should so some such than that the
        their them then there these they this to under up was we were what when where which who whom whose why will
        with would you your""",
    )
)


def sentences_of(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each sentence in order, without white space around it. List items, table rows and headings are
    sentences of their own; a line break within a paragraph ends none."""
    start = 0
    for block in [*_BLOCK.finditer(text), None]:
        end = block.start() if block else len(text)
        yield from _in_block(text, start, end)
        start = block.end() if block else end


def _in_block(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    if (heading := _HEADING.match(text, start, end)) is not None:
        yield from _stripped(text, start, heading.end())
        start = heading.end()
    for match in _END.finditer(text, start, end):
        if match.end() < end and (
            text[match.end()].islower()
            or _SHORT.search(text[max(start, match.start() - SHORT_LENGTH) : match.start() + 1])
        ):
            continue
        yield from _stripped(text, start, match.end())
        start = match.end()
    yield from _stripped(text, start, end)


def _stripped(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    part = text[start:end]
    left, right = len(part) - len(part.lstrip()), len(part.rstrip())
    if left < right:
        yield start + left, start + right


def words_of(text: str) -> list[str]:
    """Words that carry meaning, as they are compared: folded, without plural endings. Numbers stay whole: 1.5, 10-Q;
    those below a hundred are written in digits."""
    folded = _WITH_NOT.sub(" not", unicodedata.normalize("NFKC", text).casefold()).replace("\u2212", "-")
    return [_stem(word) for word in _WORD.findall(folded) if word not in _STOP]


def facts_of(words: Collection[str]) -> tuple[frozenset[str], bool]:
    """The numbers among the words of a text, such as 30, 10-Q, v2 or a million, and whether it denies: where these
    differ, texts that are alike say different things."""
    numbers = frozenset(word for word in words if word in LARGE or any(character.isdigit() for character in word))
    return numbers, not NEGATIONS.isdisjoint(words)


@lru_cache(maxsize=2**14)  # the words of an answer's passages come again and again
def _stem(word: str) -> str:
    """What most inflected forms of an English word have in common; enough to compare, not to read."""
    if word in NUMBERS:
        return str(NUMBERS[word])
    if len(word) < 5 or not word.isalpha() or word in NEGATIONS or word in LARGE:
        return word
    for ending in ("ations", "ation", "ings", "ing", "ers", "er", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if word[-1] in "yie" and len(word) > 3 else word
