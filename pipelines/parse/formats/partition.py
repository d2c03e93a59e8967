"""Elements of unstructured to blocks: the one place that knows its categories."""

import io
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from pipelines import media
from pipelines.model import ElementKind
from pipelines.parse.assemble import Block
from pipelines.parse.language import unstructured_ready

LARGEST_HTML = 200_000  # characters of one table's HTML; beyond it the text of the rows has to do
CELL_SEPARATOR = " | "

_KINDS = {
    "Title": ElementKind.TITLE,
    "ListItem": ElementKind.LIST_ITEM,
    "Table": ElementKind.TABLE,
    "CodeSnippet": ElementKind.CODE,
}
_READERS = {
    media.TEXT: ("text",),
    media.PDF: ("text",),
    media.HTML: ("html",),
    media.MAIL: ("html", "text"),
    media.DOCX: ("docx",),
    media.PPTX: ("pptx",),
    media.XLSX: ("xlsx",),
}
_SKIPPED = frozenset({"PageBreak", "PageNumber"})


def prepare(media_type: str) -> None:
    """Import the reader of unstructured for this type, ready for use without a network."""
    unstructured_ready()
    for name in _READERS.get(media_type, ()):
        import_module(f"unstructured.partition.{name}")


def blocks(elements: Iterable[Any], *, deepest_title: int = 9) -> Iterator[Block]:
    """A block for each element that has text; a title without depth, or deeper than `deepest_title`, is a paragraph."""
    for element in elements:
        if element.category in _SKIPPED or not element.text.strip():
            continue
        kind = _KINDS.get(element.category, ElementKind.PARAGRAPH)
        page = element.metadata.page_number
        if kind is ElementKind.TITLE:
            depth = element.metadata.category_depth
            if depth is None or depth >= deepest_title:
                yield Block(ElementKind.PARAGRAPH, element.text, page=page)
            else:
                yield Block(kind, element.text, level=depth + 1, page=page)
        elif kind is ElementKind.TABLE and element.metadata.text_as_html:
            html = element.metadata.text_as_html
            text = table_text(html) or element.text
            yield Block(kind, text, page=page, html=html if len(html) <= LARGEST_HTML else None)
        else:
            yield Block(kind, element.text, page=page)


def table_text(html: str) -> str:
    """One line per row of an HTML table, cells apart: the plain text of the library runs them together."""
    from lxml import etree

    lines = []
    for _, row in etree.iterparse(
        io.BytesIO(html.encode("utf-8")), html=True, encoding="utf-8", tag="tr", huge_tree=True
    ):
        cells = [" ".join("".join(cell.itertext()).split()) for cell in row if cell.tag in ("td", "th")]
        lines.append(row_text(cells))
        row.clear()
    return "\n".join(line for line in lines if line)


def row_text(cells: Iterable[str]) -> str:
    """The cells of a row in one line; empty ones keep their place, except at the end."""
    filled = list(cells)
    while filled and not filled[-1]:
        filled.pop()
    return CELL_SEPARATOR.join(filled)
