"""Term weights of lexical search: BM25 (Robertson and Zaragoza 2009) without idf, which belongs to the version.

Postgres stems and hashes each distinct word once (`snapdex.terms`, which queries go through as well); counting words
and weighing them is done here, on arrays, and goes back in one binary COPY.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from pipelines.index.bulk import create_if_missing, drop_if_cheaper
from pipelines.index.catalog import Index, use_schema
from pipelines.index.db import Connection
from pipelines.index.load import BATCH_CHUNKS, copy_new
from pipelines.model import batched

K1, B = 1.2, 0.75
DIMENSIONS = 10**9  # of sparsevec: a term is its lexeme's hash
COPY_ROWS = 512
COLUMNS = ("chunk_id", "terms", "weights")
INDEXES = {  # of the terms: of chunks that the newest version holds, and of those that only earlier ones hold
    "lexical_terms": sql.SQL("gin (terms) WHERE current"),
    "lexical_past_terms": sql.SQL("gin (terms) WHERE NOT current"),
}
VOCABULARY_WORDS = 1_000_000  # remembered between batches; then forgotten, so that memory stays bounded

# The same separation as in snapdex.terms, so that a text's terms are those of its words. Other spaces than those of
# ASCII stay in a word: Postgres does not end a word at all of them, and then takes the word apart itself.
_SEPARATORS = str.maketrans(dict.fromkeys("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\t\n\r\f\v", " "))
_INT4 = 23  # the type's number in Postgres


def load_lexical(connection: Connection, index: Index, chunks: Sequence[tuple[int, bytes]]) -> int:
    """Insert the term weights of these chunks; returns how many were sent.

    Whoever inserted some of them already had the same.
    """
    for name in INDEXES:
        drop_if_cheaper(connection, index, "lexical", name, len(chunks))
    vocabulary = Vocabulary(connection, index.language)
    weighed = 0
    for batch in batched((chunk_id for chunk_id, _ in chunks), BATCH_CHUNKS):
        with connection.transaction():
            use_schema(connection, index)
            connection.execute("SET LOCAL synchronous_commit = off")
            rows = connection.execute(
                "SELECT id, context, text FROM chunk WHERE id = ANY(%s) ORDER BY id", [batch]
            ).fetchall()
            occurrences = vocabulary.terms([f"{context} {text}" for _, context, text in rows])
            packed = lexical_rows([row[0] for row in rows], *weights(occurrences, index))
            copy_new(connection, "lexical", COLUMNS, (b"".join(some) for some in batched(packed, COPY_ROWS)))
        weighed += len(rows)
    for name, method in INDEXES.items():
        create_if_missing(connection, index, "lexical", name, method)
    return weighed


def merge_new_terms(connection: Connection, index: Index) -> None:
    """Let searches not read the list in which Postgres gathers new entries of the index (measured: 90 ms each)."""
    with connection.transaction():
        use_schema(connection, index)
        for name in INDEXES:
            connection.execute("SELECT gin_clean_pending_list(%s::regclass)", [name])


class Vocabulary:
    """From words to term numbers, as Postgres makes them; most words have one, stop words none."""

    def __init__(self, connection: Connection, language: str) -> None:
        self._connection = connection
        self._language = language
        self._known: dict[str, tuple[int, ...]] = {}

    def terms(self, texts: Sequence[str]) -> list[list[int]]:
        """The terms of each text, repeated as often as they occur."""
        split = [[word for word in text.translate(_SEPARATORS).split(" ") if word] for text in texts]
        self._learn(set().union(*split))
        known = self._known
        return [[term for word in words for term in known[word]] for words in split]

    def _learn(self, words: Iterable[str]) -> None:
        if len(self._known) > VOCABULARY_WORDS:
            self._known.clear()
        new = [word for word in words if word not in self._known]
        self._known.update(dict.fromkeys(new, ()))
        found = self._connection.execute(
            "SELECT word, array_agg(term) FROM unnest(%s::text[]) AS word, snapdex.terms(%s::regconfig, word)"
            " GROUP BY word",
            [new, self._language],
        )
        self._known.update((word, tuple(terms)) for word, terms in found)


def weights(
    occurrences: Sequence[Sequence[int]], index: Index
) -> tuple[list[int], NDArray[np.int32], NDArray[np.float32]]:
    """The distinct terms of each chunk, ascending, and their saturated, length-normalised weights.

    `(edges, terms, weights)`: those of chunk i are the slices from `edges[i]` to `edges[i + 1]`.
    """
    lengths = np.fromiter(map(len, occurrences), np.int64, len(occurrences))
    chunk = np.repeat(np.arange(len(occurrences)), lengths)
    flat = np.fromiter(chain.from_iterable(occurrences), np.int64, int(lengths.sum()))
    pairs, counts = np.unique(chunk << 32 | flat, return_counts=True)
    owner = pairs >> 32
    damping = K1 * (1 - B + B * lengths[owner] / index.average_terms)
    saturated = (counts * (K1 + 1) / (counts + damping)).astype(np.float32)
    edges = np.searchsorted(owner, np.arange(len(occurrences) + 1))
    return edges.tolist(), (pairs & 0xFFFFFFFF).astype(np.int32), saturated


def lexical_rows(
    ids: Sequence[int], edges: Sequence[int], terms: NDArray[np.int32], weights: NDArray[np.float32]
) -> Iterator[bytes]:
    """(chunk_id, terms int4[], weights sparsevec) of each chunk in the binary format of COPY."""
    items = np.empty((len(terms), 2), ">i4")  # an element of an array is its length and its bytes
    items[:, 0], items[:, 1] = 4, terms
    all_items, all_places = items.tobytes(), (terms - 1).astype(">i4").tobytes()
    all_weights = weights.astype(">f4").tobytes()
    for chunk_id, start, end in zip(ids, edges, edges[1:], strict=False):
        count = end - start
        dimensions = struct.pack("!ii", count, 1) if count else b""
        yield b"".join(
            (
                struct.pack("!hiqi", 3, 8, chunk_id, 12 + len(dimensions) + 8 * count),
                struct.pack("!iii", len(dimensions) // 8, 0, _INT4),
                dimensions,
                all_items[8 * start : 8 * end],
                struct.pack("!iiii", 12 + 8 * count, DIMENSIONS, count, 0),
                all_places[4 * start : 4 * end],
                all_weights[4 * start : 4 * end],
            )
        )
