"""What is kept of every row while a file is checked, a few numbers each, and what shows only among all of them.

Texts are told apart by 64-bit hashes: that two different ones of ten million agree has a chance of 1 in 370,000.
"""

from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluate.check import Finding
from pipelines.pairs.rows import Pair
from pipelines.pairs.text import words_of

OPENING_WORDS = 3
MOST_OPENING = 0.25  # of the distinct queries; "what is the" begins a tenth of the questions that people type
MOST_REPEATED = 0.01  # of the rows with one query: it fills the batches that should hold others
MOST_DOMINANT = 0.05  # of the rows with one passage
FEWEST_REPEATED = 10  # below, a share says nothing: a question can have that many answers
FEWEST_ALIKE = 20


class Columns:
    """One entry per row; `refused` and `refused_line` have one per negative."""

    def __init__(self) -> None:
        self._line = array("q")
        self._row = array("q")
        self._query = array("q")
        self._opening = array("q")
        self._positive = array("q")
        self._pair = array("q")
        self._refused = array("q")
        self._refused_line = array("q")

    def __len__(self) -> int:
        return len(self._line)

    def add(self, pair: Pair, query: str, positive: str, negatives: Sequence[str]) -> None:
        """`query`, `positive`, `negatives`: of `pair`, normalised."""
        self._line.append(pair.line)
        self._row.append(hash((query, positive, frozenset(negatives))))
        self._query.append(hash(query))
        self._opening.append(hash(tuple(words_of(query)[:OPENING_WORDS])))
        self._positive.append(hash(positive))
        self._pair.append(hash((query, positive)))
        self._refused.extend(hash((query, negative)) for negative in negatives)
        self._refused_line.extend([pair.line] * len(negatives))

    def statistics(self) -> dict[str, int | float]:
        rows = len(self)
        return {
            "rows": rows,
            "queries": len(np.unique(column(self._query))),
            "positives": len(np.unique(column(self._positive))),
            "negatives_per_row": round(len(self._refused) / rows, 2) if rows else 0.0,
        }

    def findings(self) -> Iterator[Finding]:
        if len(self):
            yield from self._duplicates()
            yield from self._contradictions()
            yield from self._repeated()
            yield from self._dominant()
            yield from self._preambles()

    def _duplicates(self) -> Iterator[Finding]:
        for place, first in repeated(self._row):
            yield Finding("error", self._line[place], "duplicate", f"the row of line {self._line[first]}")

    def _contradictions(self) -> Iterator[Finding]:
        """At the later of the two lines. A row that contradicts itself is the business of whoever sees it alone."""
        pairs, first = np.unique(column(self._pair), return_index=True)
        refused, refused_line = column(self._refused), column(self._refused_line)
        told = set()
        for place in np.flatnonzero(np.isin(refused, pairs)):
            line = int(column(self._line)[first[np.searchsorted(pairs, refused[place])]])
            other = int(refused_line[place])
            if line != other and (line, other) not in told:
                told.add((line, other))
                what = "a negative here" if other > line else "the positive here"
                there = "the positive" if other > line else "a negative"
                detail = f"one passage is {what} and {there} of the same query in line {min(line, other)}"
                yield Finding("error", max(line, other), "contradiction", detail)

    def _repeated(self) -> Iterator[Finding]:
        for line, count in frequent(self._query, self._line, max(FEWEST_REPEATED, MOST_REPEATED * len(self))):
            yield Finding("warning", line, "repeated", f"the query stands in {count:,} of {len(self):,} rows")

    def _dominant(self) -> Iterator[Finding]:
        for line, count in frequent(self._positive, self._line, max(FEWEST_ALIKE, MOST_DOMINANT * len(self))):
            yield Finding(
                "warning", line, "dominant", f"the passage is the positive of {count:,} of {len(self):,} rows"
            )

    def _preambles(self) -> Iterator[Finding]:
        _, first = np.unique(column(self._query), return_index=True)
        first.sort()
        openings, lines = column(self._opening)[first], column(self._line)[first]
        for line, count in frequent(openings, lines, max(FEWEST_ALIKE, MOST_OPENING * len(first))):
            detail = f"{count:,} of {len(first):,} distinct queries begin with the {OPENING_WORDS} words of this one"
            yield Finding("warning", line, "preamble", detail)


def column(values: "array[int] | NDArray[np.int64]") -> NDArray[np.int64]:
    """[n]: the values, not copied."""
    return np.asarray(values, np.int64)


def frequent(
    values: "array[int] | NDArray[np.int64]", lines: "array[int] | NDArray[np.int64]", most: float
) -> Iterator[tuple[int, int]]:
    """(first line, count) of the values that occur more than `most` times, in the order of the lines."""
    _, first, counts = np.unique(column(values), return_index=True, return_counts=True)
    for place in sorted(np.flatnonzero(counts > most), key=lambda place: int(first[place])):
        yield int(column(lines)[first[place]]), int(counts[place])


def repeated(values: "array[int]") -> Iterator[tuple[int, int]]:
    """(place, first place) of every value that came before, in the order of the rows."""
    _, first, which = np.unique(column(values), return_index=True, return_inverse=True)
    for place in np.flatnonzero(first[which] != np.arange(len(values))):
        yield int(place), int(first[which[place]])
