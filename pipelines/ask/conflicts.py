"""Passages of different documents that say the same thing with other numbers, or one with a "not"."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from pipelines.ask.answer import Conflict
from pipelines.ask.extract import Quote, best_quotes
from pipelines.ask.passages import Passage
from pipelines.ask.sentences import NEGATIONS, facts_of, words_of

ALIKE = 0.6  # Jaccard similarity of the words that are no numbers
MOST_NUMBERS = 3  # a row of a table has many, and rows of two tables differ by right


@dataclass(frozen=True)
class _Claim:
    quote: Quote
    words: frozenset[str]
    numbers: frozenset[str]
    negated: bool


def conflicts_among(question: str, passages: Sequence[Passage]) -> list[Conflict]:
    """Each pair once. Only what answers the question is compared: the best sentence of each document."""
    by_document: dict[str, _Claim] = {}
    for passage in passages:
        if passage.hit.document not in by_document:
            for quote in best_quotes(question, [passage])[:1]:
                by_document[passage.hit.document] = _claim(quote)
    return [
        Conflict(
            (one.quote.passage.marker, other.quote.passage.marker),
            (one.quote.text, other.quote.text),
        )
        for one, other in combinations(by_document.values(), 2)
        if _contradict(one, other)
    ]


def _claim(quote: Quote) -> _Claim:
    words = frozenset(words_of(quote.text))
    numbers, negated = facts_of(words)
    return _Claim(quote, words - numbers - NEGATIONS, numbers, negated)


def _contradict(one: _Claim, other: _Claim) -> bool:
    if not one.words or len(one.words & other.words) < ALIKE * len(one.words | other.words):
        return False
    if one.negated != other.negated:
        return True
    few = 0 < len(one.numbers) <= MOST_NUMBERS and 0 < len(other.numbers) <= MOST_NUMBERS
    return few and not (one.numbers <= other.numbers or other.numbers <= one.numbers)
