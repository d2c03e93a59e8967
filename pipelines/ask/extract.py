"""The sentences that answer a question, where no language model is configured: a quotation is the answer."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.ask.passages import Passage
from pipelines.ask.sentences import sentences_of, words_of
from pipelines.index.reader import Similarities

READ = 5  # passages
COMPARED = 8  # sentences that the embedding model reads, the most promising by their words
MOST = 3  # sentences of an answer
CLOSE = 0.85  # of the best score, from which another sentence is given, too
FEWEST_WORDS = 2  # below, a sentence is a heading or the head of a table
SIMILARITY, RANK, SECTION = 1.0, 0.2, 0.5  # weights beside the words' own: measured on SQuAD, docs/ask.md


@dataclass(frozen=True)
class Quote:
    """A slice of a passage's text, from `start` to `end`."""

    passage: Passage
    start: int
    end: int
    score: float = 0.0

    @property
    def text(self) -> str:
        return self.passage.hit.text[self.start : self.end]


def best_quotes(question: str, passages: Sequence[Passage], similarities: Similarities | None = None) -> list[Quote]:
    """The sentences that answer best, best first: by the question's words in them, rare ones more; by similarity of
    meaning, where an embedding model is at hand; and by the rank of their passage. None where nothing was read."""
    quotes = [
        Quote(passage, start, end)
        for passage in passages[:READ]
        for start, end in sentences_of(passage.hit.text)
        if len(words_of(passage.hit.text[start:end])) >= FEWEST_WORDS
    ]
    scored = _by_words(question, quotes)
    if similarities and scored:
        scored = sorted(scored, key=_score, reverse=True)[:COMPARED]
        found = similarities(question, [quote.text for quote in scored])
        scored = [_raised(quote, SIMILARITY * value) for quote, value in zip(scored, found, strict=True)]
    ranked = sorted(scored, key=_score, reverse=True)
    return [quote for quote in ranked if quote.score >= CLOSE * ranked[0].score][:MOST]


def _by_words(question: str, quotes: Sequence[Quote]) -> list[Quote]:
    texts = [set(words_of(quote.text)) for quote in quotes]
    common = Counter(word for words in texts for word in words)
    weights = {word: math.log((len(quotes) + 1) / (common[word] + 0.5)) for word in set(words_of(question))}
    whole = sum(weights.values()) or 1.0
    scored = []
    for quote, words in zip(quotes, texts, strict=True):
        above = set(words_of(" ".join(quote.passage.hit.section)))
        found = sum(
            weight * (1.0 if word in words else SECTION) for word, weight in weights.items() if word in words | above
        )
        scored.append(_raised(quote, found / whole + RANK / int(quote.passage.marker)))
    return scored


def _raised(quote: Quote, by: float) -> Quote:
    return Quote(quote.passage, quote.start, quote.end, quote.score + by)


def _score(quote: Quote) -> float:
    return quote.score
