"""Blocks to a `Parsed`: offsets, section paths, and elements of a size that later stages can hold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pipelines.model import Element, ElementKind, Parsed, Reason, Scalar
from pipelines.parse.decode import clean
from pipelines.parse.failure import failure

LONGEST_ELEMENT = 20_000  # characters; a longer one (a file in one line, say) is cut at spaces
TITLE_CHARACTERS = 300  # of a title in a section path: longer "titles" are mistakes of layout
METADATA_VALUES = 64
METADATA_CHARACTERS = 500
SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of an extracted document before it has a place."""

    kind: ElementKind
    text: str
    level: int = 0
    page: int | None = None
    html: str | None = None


def join(blocks: Iterable[Block], max_characters: int) -> tuple[str, list[Element], set[str]]:
    """The texts of the blocks with a blank line between them, and an element for each. Raises `bomb` past the limit."""
    parts: list[str] = []
    elements: list[Element] = []
    flags: set[str] = set()
    position = 0
    for block in blocks:
        text, repairs = clean(block.text)
        text = text.strip()
        if not text:
            continue
        flags |= repairs
        position += len(SEPARATOR) if parts else 0
        elements.append(Element(block.kind, position, position + len(text), block.level, (), block.page, block.html))
        parts.append(text)
        position += len(text)
        if position > max_characters:
            raise failure(Reason.BOMB, f"more than {max_characters:,} characters of text")
    return SEPARATOR.join(parts), elements, flags


def parsed(
    text: str,
    elements: Iterable[Element],
    *,
    titles: dict[int, str] | None = None,
    title: str | None = None,
    metadata: dict[str, Scalar] | None = None,
    flags: Iterable[str] = (),
) -> Parsed:
    """The finished document. `titles` gives readable titles by start offset, where the source has markup in them."""
    whole = [piece for element in elements for piece in _cut(text, element)]
    names = titles or {}
    placed = with_sections(whole, [names.get(e.start, text[e.start : e.end]) for e in whole])
    if title is None:
        outermost = [e for e in placed if e.kind is ElementKind.TITLE and e.level == 1]
        title = names.get(outermost[0].start, text[outermost[0].start : outermost[0].end]) if outermost else None
    return Parsed(text, tuple(placed), _title(title) if title else None, scalars(metadata or {}), tuple(sorted(flags)))


def with_sections(elements: Sequence[Element], names: Sequence[str]) -> list[Element]:
    """Elements with the titles above them: a title ends every section of its own level or deeper."""
    path: list[tuple[int, str]] = []
    placed = []
    for element, name in zip(elements, names, strict=True):
        if element.kind is ElementKind.TITLE:
            while path and path[-1][0] >= element.level:
                path.pop()
        placed.append(replace(element, section=tuple(title for _, title in path)))
        if element.kind is ElementKind.TITLE and (title := _title(name)):
            path.append((element.level, title))
    return placed


def scalars(values: dict[str, Scalar]) -> dict[str, Scalar]:
    """The values that fit: short texts, finite numbers, keys in lower case, at most `METADATA_VALUES` of them."""
    kept: dict[str, Scalar] = {}
    for key, value in values.items():
        name = " ".join(clean(key)[0].lower().split())
        if isinstance(value, str):
            value = " ".join(clean(value)[0].split())
        if not name or len(name) > 64 or value == "" or len(str(value)) > METADATA_CHARACTERS:
            continue
        if isinstance(value, float):
            if not abs(value) < 1e16:  # NaN and infinity too; beyond, jsonb would give an integer back
                continue
            value += 0.0  # jsonb has no -0.0
        if isinstance(value, int) and abs(value) >= 2**63:
            continue
        if len(kept) < METADATA_VALUES:
            kept[name] = value
    return kept


def _title(text: str) -> str:
    line = " ".join(clean(text)[0].split())
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1] + "…"


def _cut(text: str, element: Element) -> Iterable[Element]:
    if element.end - element.start <= LONGEST_ELEMENT:
        yield element
        return
    for start, end in pieces(text, element.start, element.end):
        yield replace(element, start=start, end=end, html=None)


def pieces(text: str, start: int, end: int) -> Iterable[tuple[int, int]]:
    """Ranges of at most `LONGEST_ELEMENT` that cover what is not blank from `start` up to `end`, cut at spaces."""
    while start < end:
        stop = min(end, start + LONGEST_ELEMENT)
        if stop < end:
            for space in (text.rfind("\n", start, stop), text.rfind(" ", start, stop)):
                if space > start + LONGEST_ELEMENT // 2:
                    stop = space
                    break
        piece = trimmed(text, start, stop)
        if piece:
            yield piece
        start = stop


def trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The range without blank lines and white space at its ends (the indent of its first line stays), or None."""
    piece = text[start:end]
    kept = piece.rstrip()
    if not kept:
        return None
    lead = len(kept) - len(kept.lstrip())
    first_line = kept.rfind("\n", 0, lead) + 1
    return start + first_line, start + len(kept)
