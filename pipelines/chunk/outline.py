"""The sections of a document: which one holds a range of elements, and what to say about it before a chunk."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.chunk.split import has_front_matter
from pipelines.model import Element, ElementKind, Parsed

SEPARATOR = " > "


@dataclass
class Outline:
    """Answers about ranges of elements of one document, remembered, since chunks share sections."""

    parsed: Parsed
    title: str = field(init=False)
    sections: list[tuple[str, ...]] = field(init=False)  # of each element
    paths: list[tuple[str, ...]] = field(init=False)  # the same, with its own heading if it is one
    _parents: dict[tuple[int, int], tuple[int, int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        text = self.parsed.text
        self.title = " ".join((self.parsed.title or "").split())
        self.sections = [element.section for element in self.parsed.elements]
        self.paths = [
            (*e.section, _heading(text, e)) if e.kind is ElementKind.TITLE else e.section for e in self.parsed.elements
        ]
        if has_front_matter(text, self.parsed.elements):
            self.paths[0] = self.paths[1]

    def section(self, first: int, last: int) -> tuple[str, ...]:
        """The path of the innermost section that holds elements [first, last), its own heading included."""
        return _common(self.paths[first:last])

    def context(self, first: int, last: int, *, from_start: bool, kind: str) -> str:
        """What is put before a chunk of these elements: title and section path, without headings that the chunk shows.

        `from_start`: whether the chunk begins at the start of its first element; a later part of a heading or of a
        title does not show it.
        """
        if kind == "none":
            return ""
        if kind == "title":
            parts = [self.title]
        else:
            path = _common(self.sections[first:last])
            parts = [self.title, *(path[1:] if path and path[0] == self.title else path)]
        opening = self.parsed.elements[first]
        if from_start and opening.kind is ElementKind.TITLE and _heading(self.parsed.text, opening) == parts[-1]:
            parts = parts[:-1]
        return SEPARATOR.join(part for part in parts if part)

    def parent(self, first: int, last: int) -> tuple[int, int]:
        """The range of text of the innermost section that holds elements [first, last)."""
        depth = len(self.section(first, last))
        if depth == 0:
            return self.parsed.elements[0].start, self.parsed.elements[-1].end
        low = high = first
        path = self.paths[first][:depth]
        known = self._parents.get((depth, first))
        if known:
            return known
        while low > 0 and self.paths[low - 1][:depth] == path:
            low -= 1
        while high + 1 < len(self.paths) and self.paths[high + 1][:depth] == path:
            high += 1
        found = self.parsed.elements[low].start, self.parsed.elements[high].end
        for element in range(low, high + 1):
            self._parents[depth, element] = found
        return found


def _heading(text: str, element: Element) -> str:
    """A heading's words: without the marks that Markdown puts around them."""
    line = text[element.start : element.end].strip()
    return " ".join(line.strip("#").split("\n")[0].split())


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    shortest, longest = min(paths), max(paths)  # whatever these two share, all share
    if shortest == longest:
        return shortest
    shared = 0
    while shared < min(len(shortest), len(longest)) and shortest[shared] == longest[shared]:
        shared += 1
    return shortest[:shared]
