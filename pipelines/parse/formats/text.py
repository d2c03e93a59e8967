"""Plain text: the text is the file itself; unstructured names its paragraphs, which are then found again in it."""

import re
from collections.abc import Iterator

from pipelines.model import Element, ElementKind, Parsed
from pipelines.parse.assemble import parsed, pieces, trimmed
from pipelines.parse.decode import decode

CLASSIFIED_CHARACTERS = 2**20  # a longer text is split at blank lines only: its paragraphs get no category
CLASSIFIED_LINES = 20_000  # so is one with more lines: a log or a table
CLASSIFIED_LINE = 20_000  # and one with a longer line, which no person wrote as prose
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_CODE = re.compile(r"[={}();<>|\[\]]")
_LONG_LINE = re.compile(rf"[^\n]{{{CLASSIFIED_LINE}}}")


def parse(data: bytes) -> Parsed:
    text, flags = decode(data)
    elements = None
    small = len(text) <= CLASSIFIED_CHARACTERS and text.count("\n") <= CLASSIFIED_LINES
    if small and not _LONG_LINE.search(text):
        elements = _classified(text)
    if elements is None:
        elements = list(_paragraphs(text))
    return parsed(text, elements, flags=flags)


def _paragraphs(text: str) -> Iterator[Element]:
    start = 0
    for match in _BLANK_LINE.finditer(text):
        if span := trimmed(text, start, match.start()):
            yield Element(ElementKind.PARAGRAPH, *span)
        start = text.rfind("\n", match.start(), match.end()) + 1
    for begin, end in pieces(text, start, len(text)):
        yield Element(ElementKind.PARAGRAPH, begin, end)


def _classified(text: str) -> list[Element] | None:
    """Elements as unstructured sees them, or None where one of them cannot be found in the text."""
    from pipelines.parse.language import unstructured_ready

    unstructured_ready()
    from unstructured.partition.text import partition_text

    found = partition_text(text=text, languages=[""])
    places = [index for index, character in enumerate(text) if not character.isspace()]
    squeezed = "".join(text.split())
    kinds, ends = [], []
    cursor = 0
    for element in found:
        wanted = "".join(element.text.split())
        at = squeezed.find(wanted, cursor)
        if at < 0:
            return None
        cursor = at + len(wanted)
        kinds.append(_KINDS.get(element.category, ElementKind.PARAGRAPH))
        ends.append(places[cursor - 1] + 1)
    if not ends:
        return None
    ends[-1] = len(text)
    # What the library dropped between two elements (bullets) goes to the second of them, so nothing is lost.
    spans = [trimmed(text, start, end) for start, end in zip([0, *ends], ends, strict=False)]
    elements = [Element(kind, *span) for kind, span in zip(kinds, spans, strict=True) if span]
    return _believable_titles(text, elements)


_KINDS = {"Title": ElementKind.TITLE, "ListItem": ElementKind.LIST_ITEM}


def _believable_titles(text: str, elements: list[Element]) -> list[Element]:
    """Titles that stand alone on their line between blank lines; where most of a text looks like titles, none is.

    The library calls any short line without a verb a title: in code, tables and logs that is nearly every line.
    """
    alone = [e for e in elements if e.kind is ElementKind.TITLE and _stands_alone(text, e)]
    keep = {e.start for e in alone} if 3 * len(alone) <= len(elements) else set()
    last = elements[-1].start if elements else 0
    return [
        Element(ElementKind.TITLE, e.start, e.end, level=1)
        if e.start in keep and e.start != last
        else Element(ElementKind.PARAGRAPH if e.kind is ElementKind.TITLE else e.kind, e.start, e.end)
        for e in elements
    ]


def _stands_alone(text: str, element: Element) -> bool:
    before, after = text[max(0, element.start - 80) : element.start].rstrip(" \t"), text[element.end : element.end + 80]
    gap = after[: len(after) - len(after.lstrip())]
    piece = text[element.start : element.end]
    one_line = (not before or before.endswith("\n\n")) and gap.count("\n") >= 2 and "\n" not in piece.strip()
    return one_line and not piece.lstrip()[:1].islower() and not _CODE.search(piece)
