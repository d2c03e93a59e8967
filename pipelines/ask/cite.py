"""Which passages say what a model has written: quotes for the sentences that one supports, a mark for the others.

A passage supports a sentence where one or two of its own sentences hold most of the words that carry meaning, all of
the numbers, and every quotation in it. That is a test of words, not of logic: it finds invented facts, and it cannot
find a sentence that puts the passage's own words together wrongly.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipelines.ask.answer import Citation, Sentence
from pipelines.ask.extract import Quote
from pipelines.ask.passages import Passage
from pipelines.ask.sentences import NEGATIONS, is_number, sentences_of, words_of

NAMED = 0.6  # share of a sentence's words from which a passage that it names supports it
FOUND = 0.75  # and one that it does not name
ALONE = 0.9  # of what two sentences of a passage hold, from which one of them is quoted alone
UNSUPPORTED = "[?]"

_MARKER = re.compile(r"\s*\[(\d+(?:\s*[,;]\s*\d+)*)\]")
_AFTER_END = re.compile(r"([.!?…]+)((?:\s*\[\d+(?:\s*[,;]\s*\d+)*\])+)")
_QUOTED = re.compile(r"[\"\u201c\u201d]([^\"\u201c\u201d]{12,})[\"\u201c\u201d]")


@dataclass(frozen=True)
class Cited:
    """`text`: the answer with the markers that hold, and `[?]` after each sentence that nothing supports."""

    text: str
    sentences: list[Sentence]
    citations: list[Citation]


def cite(text: str, passages: Sequence[Passage]) -> Cited:
    """Check what a model has written against what it was shown."""
    written = _AFTER_END.sub(r"\2\1", text.strip())
    parts, sentences, quotes, end = [], [], [], 0
    for first, last in sentences_of(written):
        said, named = _without_markers(written[first:last])
        parts.append(written[end:first])
        end = last
        if not said.strip(" .!?…"):
            continue  # markers alone
        supports = _supports(said, named, passages)
        marks = "".join(f"[{each.passage.marker}]" for each in supports) or UNSUPPORTED
        parts.append(_marked(said, marks))
        sentences.append(Sentence(said, [each.passage.marker for each in supports], bool(supports)))
        quotes += supports
    return Cited("".join(parts).strip(), sentences, citations_of(quotes))


def quoted(quotes: Sequence[Quote]) -> Cited:
    """An answer that is nothing but quotations."""
    sentences = [Sentence(" ".join(each.text.split()), [each.passage.marker], True) for each in quotes]
    text = " ".join(f"{each.text} [{each.markers[0]}]" for each in sentences)
    return Cited(text, sentences, citations_of(quotes))


def citations_of(quotes: Sequence[Quote]) -> list[Citation]:
    """Each quotation once, in the order of the answer."""
    return list({(each.passage.marker, each.start, each.end): _citation(each) for each in quotes}.values())


def support(said: str, passage: Passage) -> tuple[float, Quote | None]:
    """The share of the words of a sentence that one or two neighbouring sentences of a passage hold, and these; 0 where
    a number, a quotation or a negation of it is not there."""
    text = passage.hit.text
    words = set(words_of(said))
    if not words or not _has_quotations(said, text):
        return 0.0, None
    needed = {word for word in words if is_number(word)} | (words & NEGATIONS)
    single = list(sentences_of(text))
    best, found = 0.0, None
    for start, end in [*single, *((one[0], other[1]) for one, other in pairwise(single))]:
        there = set(words_of(text[start:end]))
        share = len(words & there) / len(words)
        is_longer = found is not None and end - start > found.end - found.start
        if needed <= there and share * (ALONE if is_longer else 1.0) > best:
            best, found = share, Quote(passage, start, end)
    return best, found


def _supports(said: str, named: Sequence[str], passages: Sequence[Passage]) -> list[Quote]:
    """Of the named passages those that support the sentence; of none of them, the one of all that does so best."""
    tried = [(*support(said, passage), passage) for passage in passages]
    holds = [quote for share, quote, passage in tried if passage.marker in named and quote and share >= NAMED]
    if holds:
        return holds
    share, quote, _ = max(tried, key=lambda each: each[0], default=(0.0, None, None))
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
        start=hit.start + quote.start,
        end=hit.start + quote.end,
        content_sha256=hit.content_sha256,
        revision=hit.revision,
        also_in=hit.also_in,
    )


def _without_markers(text: str) -> tuple[str, list[str]]:
    named = [marker for match in _MARKER.finditer(text) for marker in re.split(r"\s*[,;]\s*", match[1])]
    return _MARKER.sub("", text), list(dict.fromkeys(named))


def _marked(said: str, marks: str) -> str:
    """The marks before what ends the sentence."""
    end = len(said.rstrip(".!?…"))
    return f"{said[:end]} {marks}{said[end:]}"


def _has_quotations(said: str, text: str) -> bool:
    plain = " ".join(text.split())
    return all(" ".join(match[1].split()).strip(" .,") in plain for match in _QUOTED.finditer(said))
