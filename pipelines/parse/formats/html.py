"""HTML, through unstructured. Scripts and styles are dropped, and nothing that a page points to is fetched."""

import re

from pipelines.model import Parsed, Reason
from pipelines.parse.assemble import Block, join, parsed
from pipelines.parse.decode import decode
from pipelines.parse.failure import failure
from pipelines.parse.formats import partition
from pipelines.parse.language import unstructured_ready

# libxml2 stops at 256 nested nodes, and unstructured then reports part of the page, or none of it, without a word.
DEEPEST = 250

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"\A\s*<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([A-Za-z0-9_.:-]{2,40})")
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")


def parse(data: bytes, max_characters: int) -> Parsed:
    head = data[:65536]  # some pages put kilobytes of comments before it
    declared = _XML_ENCODING.search(head) or _CHARSET.search(head)
    source, flags = decode(data, declared[1].decode("ascii") if declared else None)
    title, found = blocks(source)
    text, elements, repairs = join(found, max_characters)
    return parsed(text, elements, title=title, flags=flags | repairs)


def blocks(source: str) -> tuple[str | None, list[Block]]:
    """The title of a page and its blocks. Raises `too_deep` where the library would leave something out."""
    source = _XML_DECLARATION.sub("", source)  # lxml refuses text that names an encoding
    title = _checked_title(source)
    unstructured_ready()
    from unstructured.partition.html import partition_html

    if not source.strip():
        return title, []
    return title, list(partition.blocks(partition_html(text=source, languages=[""])))


def _checked_title(source: str) -> str | None:
    from lxml import etree

    parser = etree.HTMLPullParser(events=("start", "end"), huge_tree=True, remove_comments=True, remove_pis=True)
    depth = 0
    title = None
    parser.feed(source)
    parser.close()
    for event, element in parser.read_events():
        depth += 1 if event == "start" else -1
        if depth > DEEPEST:
            raise failure(Reason.TOO_DEEP, f"more than {DEEPEST} nested elements")
        if event == "end" and title is None and element.tag == "title" and "svg" not in _tags_above(element):
            title = " ".join("".join(element.itertext()).split()) or None
    return title


def _tags_above(element: object) -> set[str]:
    return {above.tag for above in element.iterancestors()}  # type: ignore[attr-defined]
