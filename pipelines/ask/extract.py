"""The sentences that answer a question, where no language model is configured: a quotation is the answer."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipelines.ask.passages import Passage
from pipelines.ask.sentences import sentences_of, words_of
from pipelines.index.reader import Similarities

READ = 5  # passages
COMPARED = 8  # sentences that the embedding model reads, the most promising by their words
MOST = 3  # sentences of an answer
CLOSE = 0.85  # of the best score, from which another sentence is given, too
FEWEST_WORDS, SHORT_WORDS = 3, 2  # below, a text is a heading; fewer are enough for one that ends as sentences do
SIMILARITY, RANK = 1.0, 0.2  # weights beside that of the words: measured on SQuAD, docs/ask.md
ABOVE = 0.5  # of the words of the section and of the head of the table


@dataclass(frozen=True)
class Quote:
    """A slice of a passage's text, from `start` to `end`. `head`: of a row of a table, what its columns are."""

    passage: Passage
    start: int
    end: int
    head: str = ""
    score: float = 0.0

    @property
    def text(self) -> str:
        return self.passage.hit.text[self.start : self.end]


def best_quotes(question: str, passages: Sequence[Passage], similarities: Similarities | None = None) -> list[Quote]:
    """The sentences that answer best, best first: by the question's words in them, rare ones more; by similarity of
    meaning, where an embedding model is at hand; and by the rank of their passage. None where nothing was read."""
    scored = _by_words(question, [quote for passage in passages[:READ] for quote in quotes_of(passage)])
    if similarities and scored:
        scored = sorted(scored, key=_score, reverse=True)[:COMPARED]
        found = similarities(question, [quote.text for quote in scored])
        scored = [_raised(quote, SIMILARITY * value) for quote, value in zip(scored, found, strict=True)]
    ranked = sorted(scored, key=_score, reverse=True)
    return [quote for quote in ranked if quote.score >= CLOSE * ranked[0].score][:MOST]


def quotes_of(passage: Passage) -> Iterator[Quote]:
    """What can be an answer: every sentence that says something, but no heading and no head of a table."""
    parts = list(parts_of(passage.hit.text))
    heads = {head for _, _, head in parts if head}
    for start, end, head in parts:
        said = passage.hit.text[start:end]
        if said not in heads and _says(said) and said.lstrip("# ") not in passage.hit.section:
            yield Quote(passage, start, end, head)


def parts_of(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, head) of each sentence; the head of a row of a table is the first row, which has none itself."""
    head, in_table = "", False
    for start, end in sentences_of(text):
        said = text[start:end]
        is_row = _is_row(said)
        yield start, end, head if is_row and in_table else ""
        if is_row and not in_table:
            head = said
        in_table = is_row


def _is_row(text: str) -> bool:
    return " | " in text or text.startswith("|")


def _says(text: str) -> bool:
    return len(words_of(text)) >= (SHORT_WORDS if text.endswith((".", "!", "?")) else FEWEST_WORDS)


def _by_words(question: str, quotes: Sequence[Quote]) -> list[Quote]:
    texts = [set(words_of(quote.text)) for quote in quotes]
    common = Counter(word for words in texts for word in words)
    weights = {word: math.log((len(quotes) + 1) / (common[word] + 0.5)) for word in set(words_of(question))}
    whole = sum(weights.values()) or 1.0
    scored = []
    for quote, words in zip(quotes, texts, strict=True):
        above = set(words_of(" ".join([*quote.passage.hit.section, quote.head]))) - words
        found = sum(weights[word] for word in weights.keys() & words)
        found += ABOVE * sum(weights[word] for word in weights.keys() & above)
        scored.append(_raised(quote, found / whole + RANK / int(quote.passage.marker)))
    return scored


def _raised(quote: Quote, by: float) -> Quote:
    return replace(quote, score=quote.score + by)


def _score(quote: Quote) -> float:
    return quote.score
