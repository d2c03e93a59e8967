"""DOCX, PPTX and XLSX, through unstructured. The archive was checked by `guards` before."""

import io
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from lxml import etree

from pipelines import media
from pipelines.model import ElementKind, Parsed, Scalar
from pipelines.parse.assemble import Block, join, parsed
from pipelines.parse.formats import partition
from pipelines.parse.language import unstructured_ready

# Finding several tables in one sheet compares cells with their neighbours: on larger sheets one table per sheet.
SUBTABLE_SHEET_BYTES = 8 * 2**20

_DUBLIN_CORE = {
    "{http://purl.org/dc/elements/1.1/}title": "title",
    "{http://purl.org/dc/elements/1.1/}creator": "author",
    "{http://purl.org/dc/elements/1.1/}subject": "subject",
}


def parse(data: bytes, media_type: str, max_characters: int) -> Parsed:
    read = _partition(media_type)
    properties = _properties(data)
    title = properties.pop("title", None)
    options: dict[str, Any] = {"languages": [""]}
    if media_type == media.XLSX:
        options["find_subtable"] = _largest_sheet(data) <= SUBTABLE_SHEET_BYTES
    found = read(file=io.BytesIO(data), **options)
    if media_type == media.XLSX:
        blocks = _sheets(found)
    else:
        # On a slide only the title placeholder is a title; deeper ones are short texts in boxes.
        blocks = partition.blocks(found, deepest_title=1 if media_type == media.PPTX else 9)
    text, elements, flags = join(blocks, max_characters)
    first = next((text[e.start : e.end] for e in elements if e.kind is ElementKind.TITLE and e.level == 1), None)
    if media_type == media.XLSX:
        first = None
    return parsed(text, elements, title=first or (str(title) if title else None), metadata=properties, flags=flags)


def _partition(media_type: str) -> Callable[..., list[Any]]:
    unstructured_ready()
    if media_type == media.DOCX:
        from unstructured.partition.docx import partition_docx

        return partition_docx
    if media_type == media.PPTX:
        from unstructured.partition.pptx import partition_pptx

        return partition_pptx
    from unstructured.partition.xlsx import partition_xlsx

    return partition_xlsx


def _sheets(elements: list[Any]) -> Iterator[Block]:
    """The name of each sheet as a title above what stands on it."""
    sheet: int | None = None
    for element in elements:
        if element.metadata.page_number != sheet:
            sheet = element.metadata.page_number
            if element.metadata.page_name:
                yield Block(ElementKind.TITLE, element.metadata.page_name, level=1, page=sheet)
        if element.category == "Title":
            yield Block(ElementKind.TITLE, element.text, level=2, page=sheet)
        else:
            yield from partition.blocks([element])


def _largest_sheet(data: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return max((e.file_size for e in archive.infolist() if "worksheets/" in e.filename), default=0)


def _properties(data: bytes) -> dict[str, Scalar]:
    """Title, author and subject that the author gave; an empty or unreadable part has none."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if "docProps/core.xml" not in archive.namelist():
            return {}
        content = archive.read("docProps/core.xml")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    root = etree.fromstring(content, parser)
    if root is None:
        return {}
    return {_DUBLIN_CORE[e.tag]: e.text.strip() for e in root if e.tag in _DUBLIN_CORE and e.text and e.text.strip()}
