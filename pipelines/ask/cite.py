"""Which passages say what a model has written: quotes for the sentences that one supports, a mark for the others.

A passage supports a sentence where one or two of its own sentences hold most of the words that carry meaning, all of
the numbers with their units, every quotation in it, and deny as much. That is a test of words, not of logic: it finds
invented facts, and it cannot find a sentence that puts the passage's own words together wrongly.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipelines.ask.answer import Citation, Sentence
from pipelines.ask.extract import Quote, parts_of
from pipelines.ask.passages import Passage
from pipelines.ask.sentences import facts_of, sentences_of, words_of

NAMED = 0.6  # share of a sentence's words from which a passage that it names supports it
FOUND = 0.75  # and one that it does not name
ALONE = 0.9  # of what two sentences of a passage hold, from which one of them is quoted alone
LONGEST = 20_000  # characters of an answer that are checked; what follows is cut off
MOST_MARKERS = 20  # that one marker such as [1-3] can stand for
UNSUPPORTED = "[?]"
UNITS = frozenset(words_of("ms s min h seconds minutes hours days weeks months years kb mb gb tb kib mib gib tib pib"))
UNITS |= frozenset(words_of("percent euros dollars pounds eur usd gbp mm cm m km g kg t degrees times"))

_FORMS = str.maketrans({"\u3010": "[", "\u3011": "]", "\uff3b": "[", "\uff3d": "]"})
_MARKER = re.compile(
    r"[^\S\n]?\[[^\S\n]?\^?(?:sources? )?(\d{1,4}(?:[ ,;\u2013-]{1,3}\d{1,4}){0,20})[^\S\n]?,?\]", re.I
)
_OWN_MARK = re.compile(r"[^\S\n]?\[\?\]")
_EMPTY = re.compile(r"[^\S\n]?\[\]")
_AFTER_END = re.compile(r"(?<![.!?\u2026])([.!?\u2026]{1,3})((?:[^\S\n]?\[[\d ,;^\u2013-]{1,40}\]){1,20})")
_CODE = re.compile(r"`[^`\n]{1,200}`")
_QUOTED = re.compile(
    r"\"([^\"]+)\"|\u201c([^\u201d]+)\u201d|\u201e([^\u201c\u201d]+)[\u201c\u201d]|\u00ab([^\u00bb]+)\u00bb"
)
_BRACKETS = re.compile(r"\[(\d+|\?)\]")


@dataclass(frozen=True)
class Cited:
    """`text`: the answer with the markers that hold, and `[?]` after each sentence that nothing supports."""

    text: str
    sentences: list[Sentence]
    citations: list[Citation]


def cite(text: str, passages: Sequence[Passage]) -> Cited:
    """Check what a model has written against what it was shown."""
    written = _AFTER_END.sub(r"\2\1", _OWN_MARK.sub("", text.strip()[:LONGEST].translate(_FORMS)))
    evidence = [_Evidence(passage) for passage in passages]
    parts, sentences, quotes, end = [], [], [], 0
    for first, last in sentences_of(written):
        said, named = _without_markers(written[first:last])
        parts.append(written[end:first])
        end = last
        if not said.strip(" .!?\u2026"):
            continue  # markers alone
        supports = _supports(said, named, evidence)
        marks = "".join(f"[{each.passage.marker}]" for each in supports) or UNSUPPORTED
        parts.append(_marked(said, marks))
        sentences.append(Sentence(said, [each.passage.marker for each in supports], bool(supports)))
        quotes += supports
    return Cited("".join(parts).strip(), sentences, citations_of(quotes))


def quoted(quotes: Sequence[Quote]) -> Cited:
    """An answer that is nothing but quotations. What looks like a marker in one is not one of ours."""
    sentences = [
        Sentence(_BRACKETS.sub(r"(\1)", " ".join(each.text.split())), [each.passage.marker], True) for each in quotes
    ]
    text = " ".join(f"{each.text} [{each.markers[0]}]" for each in sentences)
    return Cited(text, sentences, citations_of(quotes))


def citations_of(quotes: Sequence[Quote]) -> list[Citation]:
    """Each quotation once, in the order of the answer."""
    return list({(each.passage.marker, each.start, each.end): _citation(each) for each in quotes}.values())


class _Evidence:
    """A passage with the words of its sentences, and of each two that follow one another, computed once. A row of a
    table says what stands in it of what its columns are."""

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        self.plain = " ".join(passage.hit.text.split()).casefold()
        single = [
            (start, end, frozenset(words_of(f"{head} {passage.hit.text[start:end]}")))
            for start, end, head in parts_of(passage.hit.text)
        ]
        both = [(one[0], other[1], one[2] | other[2]) for one, other in pairwise(single)]
        self.windows = [(*each, facts_of(each[2])[1]) for each in [*single, *both]]

    def support(self, said: str) -> tuple[float, Quote | None]:
        """The share of the words of a sentence that one or two neighbouring sentences hold, and these; 0 where a
        number, a unit, a quotation or a negation is in one and not in the other."""
        words = set(words_of(said))
        if not words or not all(each in self.plain for each in _quotations(said)):
            return 0.0, None
        numbers, denies = facts_of(words)
        needed = numbers | (words & UNITS)
        best, found = 0.0, None
        for start, end, there, denied in self.windows:
            share = len(words & there) / len(words)
            is_longer = found is not None and end - start > found.end - found.start
            if needed <= there and denies == denied and share * (ALONE if is_longer else 1.0) > best:
                best, found = share, Quote(self.passage, start, end)
        return best, found


def _supports(said: str, named: Sequence[str], evidence: Sequence[_Evidence]) -> list[Quote]:
    """Of the named passages those that support the sentence; of none of them, the one of all that does so best."""
    tried = [(*each.support(said), each.passage.marker) for each in evidence]
    holds = [quote for share, quote, marker in tried if marker in named and quote and share >= NAMED]
    if holds:
        return holds
    share, quote, _ = max(tried, key=lambda each: each[0], default=(0.0, None, ""))
    return [quote] if quote and share >= FOUND else []


def _citation(quote: Quote) -> Citation:
    hit = quote.passage.hit
    return Citation(
        marker=quote.passage.marker,
        document=hit.document,
        chunk=hit.chunk,
        page=hit.page,
        section=hit.section,
        quote=quote.text,
        text=hit.text,
        start=hit.start + quote.start,
        end=hit.start + quote.end,
        content_sha256=hit.content_sha256,
        revision=hit.revision,
        also_in=hit.also_in,
    )


def _without_markers(text: str) -> tuple[str, list[str]]:
    """A sentence without its markers, in whatever form models write them, and which they are. Code stays as it is."""
    named: list[str] = []
    code = [match.span() for match in _CODE.finditer(text)]

    def taken(match: re.Match[str]) -> str:
        if any(start <= match.start() < end for start, end in code):
            return match[0]
        named.extend(_numbers(match[1]))
        return ""

    said = _MARKER.sub(taken, text)
    while not code and (said != (less := _EMPTY.sub("", _MARKER.sub("", said)))):  # markers within markers name nothing
        said = less
    return said, list(dict.fromkeys(named))


def _numbers(inside: str) -> Iterator[str]:
    """Those of `1`, `1, 2` and `1-3`."""
    for part in re.split(r"\s*[,;]\s*", inside):
        first, _, last = part.replace("\u2013", "-").replace(" ", "").partition("-")
        if last and 0 <= int(last) - int(first) < MOST_MARKERS:
            yield from (str(number) for number in range(int(first), int(last) + 1))
        elif first:
            yield str(int(first))


def _marked(said: str, marks: str) -> str:
    """The marks before what ends the sentence."""
    end = len(said.rstrip(".!?\u2026"))
    return f"{said[:end]} {marks}{said[end:]}"


def _quotations(said: str) -> list[str]:
    """What a sentence quotes, of two words or more."""
    found = (next(filter(None, match.groups())) for match in _QUOTED.finditer(said))
    plain = [" ".join(each.split()).strip(" .,").casefold() for each in found]
    return [each for each in plain if " " in each]
