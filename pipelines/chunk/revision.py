"""The chunks of one document."""

import bisect
from collections.abc import Sequence
from dataclasses import replace

from pipelines.chunk.outline import SEPARATOR, Outline
from pipelines.chunk.split import HEADING, MAX_LEVEL, Fits, Tokens, cut, pieces_of
from pipelines.chunk.topics import Encode, mark_topics
from pipelines.config import ChunkConfig
from pipelines.model import Chunk, Parsed, Revision
from pipelines.models import TokenCounter

CONTEXT_SHARE = 4  # the context may take a quarter of a chunk; a longer one loses its outer parts
HEADINGS_SHARE = 8  # the same where a model writes the other half of it


def make_revision(parsed: Parsed, config: ChunkConfig, counter: TokenCounter, encode: Encode | None = None) -> Revision:
    """Title, metadata and chunks in order. Pure: the same input gives the same chunks.

    `encode` embeds sentences, and cuts fall where the topic changes; without it the structure alone decides.

    Every chunk's embedded text has at most `config.max_tokens` tokens, except where a single token is longer.
    """
    cutter = _Cutter(parsed, config, counter, encode)
    chunks: list[Chunk] = []
    todo = [(0, len(cutter.pieces), cutter.limit)]
    while todo:
        ranges = [each for first, last, limit in todo for each in cutter.cut(first, last, limit)]
        made = [cutter.chunk(low, high) for low, high in ranges]
        counts = cutter.counts(ranges, made)
        todo = []
        for (low, high), chunk, count in zip(ranges, made, counts, strict=True):
            # A tokenizer may count a slice on its own differently than within the text: cut it again, tighter.
            over = count - config.max_tokens
            if over > 0 and high - low > 1:
                todo.append((low, high, cutter.size(low, high) - over))
            else:
                chunks.append(replace(chunk, tokens=count))
    return Revision(tuple(sorted(chunks, key=lambda chunk: chunk.end)), parsed.title, dict(parsed.metadata))


class _Cutter:
    """One document on its way into chunks."""

    def __init__(self, parsed: Parsed, config: ChunkConfig, counter: TokenCounter, encode: Encode | None) -> None:
        self.parsed, self.config, self.counter = parsed, config, counter
        self.outline = Outline(parsed)
        self.tokens = Tokens(counter.spans(parsed.text).tolist())
        self.limit = config.max_tokens - counter.special_tokens - config.overlap_tokens
        room = config.max_tokens // CONTEXT_SHARE
        written = config.context == "model"
        self.reserved = room if written else 0  # so that cuts do not depend on what the model will say
        self.context_limit = config.max_tokens // HEADINGS_SHARE if written else room
        budget = max(1, self.limit - room)
        self.pieces = pieces_of(parsed.text, parsed.elements, self.tokens, budget, sentences=encode is not None)
        self._shortened: dict[str, tuple[str, int]] = {"": ("", 0)}
        if encode:
            fits, percentile = self.fits(self.limit), config.topic_percentile
            self.pieces = mark_topics(parsed.text, parsed.elements, self.pieces, fits, encode, percentile)

    def cut(self, first: int, last: int, limit: int) -> list[tuple[int, int]]:
        return cut(self.parsed.text, self.pieces, first, last, self.fits(limit), self.config.min_tokens)

    def fits(self, limit: int) -> Fits:
        return Fits(self.pieces, self.tokens, limit, self.context_room)

    def size(self, low: int, high: int) -> int:
        """Tokens of a range of pieces with its context: what `limit` bounds."""
        text = self.tokens.count(self.pieces[low].start, self.pieces[high - 1].end)
        return text + self.context_room(low, high)

    def context_room(self, low: int, high: int) -> int:
        """Tokens that are kept free for the context of a range of pieces."""
        return max(self.reserved, self.context(low, high)[1])

    def counts(self, ranges: Sequence[tuple[int, int]], chunks: Sequence[Chunk]) -> list[int]:
        """Tokens of each chunk as it is embedded."""
        if not self.counter.additive:
            return self.counter.count([chunk.embedded_text for chunk in chunks])
        special = self.counter.special_tokens
        return [
            self.tokens.count(chunk.start, chunk.end) + self.context(low, high)[1] + special
            for (low, high), chunk in zip(ranges, chunks, strict=True)
        ]

    def chunk(self, low: int, high: int) -> Chunk:
        text = self.parsed.text
        first, last = self._elements(low, high)
        start, end = self._start(low), self.pieces[high - 1].end
        parent_start, parent_end = self.outline.parent(first, last)
        body = text[start:end].rstrip()
        return Chunk(
            text=body,
            start=start,
            end=start + len(body),
            context=self.context(low, high)[0],
            section=self.outline.section(first, last),
            page=self.parsed.elements[first].page,
            parent_start=parent_start,
            parent_end=parent_end,
        )

    def context(self, low: int, high: int) -> tuple[str, int]:
        """The context of a range of pieces, and how many tokens it has."""
        first, last = self._elements(low, high)
        from_start = self.pieces[low].start == self.parsed.elements[first].start
        return self._shorten(self.outline.context(first, last, from_start=from_start, kind=self.config.context))

    def _elements(self, low: int, high: int) -> tuple[int, int]:
        return self.pieces[low].element, self.pieces[high - 1].element + 1

    def _shorten(self, context: str) -> tuple[str, int]:
        """A context that takes too large a share loses its outer headings, then its first words."""
        if context not in self._shortened:
            short = context
            while (count := self._count(short)) > self.context_limit:
                _, separator, inner = short.partition(SEPARATOR)
                short = inner if separator else short[len(short) // 4 + 1 :].lstrip()
            self._shortened[context] = short, count
        return self._shortened[context]

    def _count(self, context: str) -> int:
        return self.counter.count([context])[0] - self.counter.special_tokens if context else 0

    def _start(self, low: int) -> int:
        """Where the chunk starts: with an overlap, at a word some tokens earlier, but not across a heading."""
        start = self.pieces[low].start
        if not self.config.overlap_tokens or low == 0 or self.pieces[low].joint >= HEADING - MAX_LEVEL:
            return start
        starts = self.tokens.starts
        here = bisect.bisect_left(starts, start)
        earlier: Sequence[int] = starts[max(0, here - self.config.overlap_tokens) : here]
        heading = low
        while heading > 0 and self.pieces[heading].joint < HEADING - MAX_LEVEL:
            heading -= 1
        floor = self.pieces[heading].start
        text = self.parsed.text
        return next((at for at in earlier if at >= floor and (at == 0 or text[at - 1].isspace())), start)
