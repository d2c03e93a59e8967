"""What training pairs must not share with the file that measures what was learned."""

from collections.abc import Iterator
from pathlib import Path

from pipelines.evaluate.check import Finding
from pipelines.evaluate.golden import read_golden
from pipelines.pairs.rows import Pair, first_row, read_pairs
from pipelines.pairs.text import Near, normalised


class Evaluation:
    """The queries, the passages that answer them, and the groups of an evaluation file: pairs, or a golden set.

    A golden set names documents, not passages, so only its queries are compared. Negatives are not compared: of a
    corpus that both sides search, they are the same passages by right.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        golden = path.is_dir() or "question" in first_row(path)  # a directory is one in BEIR layout
        pairs = [] if golden else list(read_pairs(path))
        asked = [(each.line, each.text) for each in read_golden(path, drafts=True)] if golden else []
        asked += [(pair.line, pair.query) for pair in pairs]
        self._queries = Near((line, normalised(text)) for line, text in asked)
        self._passages = Near((pair.line, normalised(pair.positive)) for pair in pairs)
        self._groups = {pair.group: pair.line for pair in reversed(pairs) if pair.group}

    def leaks(self, pair: Pair, query: str, positive: str) -> Iterator[Finding]:
        """`query`, `positive`: of `pair`, normalised."""
        for name, text, there in (("query", query, self._queries), ("positive", positive, self._passages)):
            if (found := there.find(text)) is not None:
                same = "stands in" if found[1] == 1 else f"is near ({found[1]:.2f}) to"
                yield Finding("error", pair.line, "leakage", f"the {name} {same} line {found[0]} of {self._name}")
        if line := self._groups.get(pair.group):
            yield Finding("error", pair.line, "group", f"line {line} of {self._name} is of the group {pair.group}, too")
