"""What is kept of every example while a file is checked, and what shows only among all of them.

Texts are told apart by 64-bit hashes, eight bytes each, as in `pipelines.pairs.columns`.
"""

from array import array
from collections.abc import Iterator

import numpy as np

from pipelines.evaluate.check import Finding
from pipelines.examples.checks import is_refusal
from pipelines.examples.rows import Example, Preference
from pipelines.examples.said import Said
from pipelines.pairs.columns import FEWEST_ALIKE, FEWEST_REPEATED, OPENING_WORDS, column, frequent, repeated
from pipelines.pairs.text import normalised, words_of

FEW = 500  # rows
MOST_OPENING = 0.5  # of the distinct questions: what is learned may be the reply to these words
MOST_DOMINANT = 2 / 3  # of the rows with one answer: of two labels, one has about half of them by right
MOST_REFUSED = 0.5
MOST_LONGER = 0.8  # of the preferences: a model learns the length before anything else (Singhal et al., 2023)


class Columns:
    """One entry per row; of a row that is no preference, `_reverse` and `_longer` are nothing."""

    def __init__(self) -> None:
        self._line = array("q")
        self._row = array("q")
        self._prompt = array("q")
        self._question = array("q")
        self._opening = array("q")
        self._answer = array("q")
        self._reverse = array("q")  # the row with its answers the other way round
        self._prefers = array("b")
        self._refuses = array("b")
        self._longer = array("b")

    def __len__(self) -> int:
        return len(self._line)

    def add(self, example: Example, spoken: Said) -> None:
        self._line.append(example.line)
        self._row.append(spoken.row)
        self._prompt.append(hash(spoken.prompt))
        self._question.append(hash(spoken.user[-1]))
        self._opening.append(hash(tuple(words_of(spoken.user[-1])[:OPENING_WORDS])))
        self._answer.append(hash(normalised(spoken.answers[0])))
        self._reverse.append(hash((spoken.prompt, spoken.answers[::-1])) if len(spoken.answers) > 1 else 0)
        self._prefers.append(len(spoken.answers) > 1)
        self._refuses.append(is_refusal(example.answer))
        self._longer.append(isinstance(example, Preference) and len(example.chosen) > len(example.rejected))

    def statistics(self) -> dict[str, int | float]:
        return {
            "rows": len(self),
            "prompts": len(np.unique(column(self._prompt))),
            "answers": len(np.unique(column(self._answer))),
        }

    def findings(self) -> Iterator[Finding]:
        if len(self):
            yield from self._mixed()
            yield from self._duplicates()
            yield from self._contradictions()
            yield from self._inconsistent()
            yield from self._preambles()
            yield from self._dominant()

    def altogether(self) -> Iterator[Finding]:
        """What is about the whole file."""
        rows, prefers = len(self), sum(self._prefers)
        if not rows:
            yield Finding("error", 0, "empty", "no line is an example")
        elif rows < FEW:
            advice = "retrieval, or a prompt with examples, may serve better"
            yield Finding(
                "warning", 0, "few", f"{rows} rows: a behaviour is seldom learned from fewer than {FEW}; {advice}"
            )
        if rows >= FEWEST_ALIKE and (refused := sum(self._refuses)) > MOST_REFUSED * rows:
            yield Finding(
                "warning", 0, "refusals", f"{refused:,} of {rows:,} answers refuse: refusing would be learned"
            )
        if prefers >= FEWEST_ALIKE and (longer := sum(self._longer)) > MOST_LONGER * prefers:
            detail = f"of {longer:,} of {prefers:,} preferences the longer answer is chosen: length would be learned"
            yield Finding("warning", 0, "length", detail)

    def _mixed(self) -> Iterator[Finding]:
        """At the first line of the kind that there is less of."""
        prefers = np.asarray(self._prefers, np.bool_)
        count = int(prefers.sum())
        if 0 < count < len(self):
            fewer = 2 * count <= len(self)
            line = self._line[int(np.argmax(prefers == fewer))]
            what = "a preference" if fewer else "a chat"
            detail = f"is {what}; the file holds {len(self) - count:,} chats and {count:,} preferences"
            yield Finding("error", line, "mixed", detail)

    def _duplicates(self) -> Iterator[Finding]:
        for place, first in repeated(self._row):
            yield Finding("warning", self._line[place], "duplicate", f"the row of line {self._line[first]}")

    def _contradictions(self) -> Iterator[Finding]:
        """At the later of the two lines. A row with one answer twice is the business of whoever sees it alone."""
        rows, first = np.unique(column(self._row), return_index=True)
        reverse = column(self._reverse)
        for place in np.flatnonzero(np.asarray(self._prefers, np.bool_) & np.isin(reverse, rows)):
            other = int(first[np.searchsorted(rows, reverse[place])])
            if other < place:
                detail = f"the answers of line {self._line[other]} the other way round"
                yield Finding("error", self._line[place], "contradiction", detail)

    def _inconsistent(self) -> Iterator[Finding]:
        """Of chats; that one prompt has many preferences is usual."""
        answers = column(self._answer)
        for place, first in repeated(self._prompt):
            if answers[place] != answers[first] and not self._prefers[place] and not self._prefers[first]:
                detail = f"another answer than in line {self._line[first]}, which has the same prompt"
                yield Finding("warning", self._line[place], "inconsistent", detail)

    def _preambles(self) -> Iterator[Finding]:
        _, first = np.unique(column(self._question), return_index=True)
        first.sort()
        openings, lines = column(self._opening)[first], column(self._line)[first]
        for line, count in frequent(openings, lines, max(FEWEST_ALIKE, MOST_OPENING * len(first))):
            detail = f"{count:,} of {len(first):,} distinct questions begin with the {OPENING_WORDS} words of this one"
            yield Finding("warning", line, "preamble", detail)

    def _dominant(self) -> Iterator[Finding]:
        for line, count in frequent(self._answer, self._line, max(FEWEST_REPEATED, MOST_DOMINANT * len(self))):
            yield Finding("warning", line, "dominant", f"the answer of {count:,} of {len(self):,} rows")
