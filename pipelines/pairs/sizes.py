"""How many tokens texts have, where somebody can count them."""

from array import array
from collections.abc import Callable, Sequence

import numpy as np

from pipelines.model import percentile

CountTokens = Callable[[Sequence[str]], Sequence[int]]

LINES_NAMED = 10


class Sizes:
    """The sizes of texts by what they are, and the lines that go beyond `max_tokens`: 8 bytes for each of both."""

    def __init__(self, max_tokens: int | None) -> None:
        self._max_tokens = max_tokens
        self._of: dict[str, array[int]] = {}
        self.too_long = array("q")  # the line of each, in their order

    def add(self, name: str, size: int) -> None:
        self._of.setdefault(name, array("q")).append(size)

    def limit(self, line: int, size: int) -> None:
        if self._max_tokens is not None and size > self._max_tokens:
            self.too_long.append(line)

    def lines(self) -> tuple[int, str]:
        """The first line that is too long, and the first few in words."""
        lines = sorted(set(self.too_long))
        return lines[0], ", ".join(map(str, lines[:LINES_NAMED])) + (", …" if len(lines) > LINES_NAMED else "")

    def statistics(self) -> dict[str, int | float]:
        found: dict[str, int | float] = {}
        for name, sizes in self._of.items():
            values, counts = np.unique(np.asarray(sizes, np.int64), return_counts=True)
            counted = list(zip(values.tolist(), counts.tolist(), strict=True))
            found[f"{name}_tokens_mean"] = round(sum(sizes) / len(sizes), 1)
            found |= {f"{name}_tokens_p{percent}": percentile(counted, percent) for percent in (50, 95)}
            found[f"{name}_tokens_max"] = int(values[-1])
        return found
