"""Markdown and MDX: the text is the file itself, and elements are the line ranges of its blocks.

markdown-it-py gives every block its lines in the source, which unstructured's Markdown reader does not: it works on
rendered HTML. A chunk of a Markdown file is therefore always a verbatim piece of it.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from functools import cache
from itertools import pairwise
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pipelines.model import Element, ElementKind, Parsed, Scalar
from pipelines.parse.assemble import LONGEST_ELEMENT, TITLE_CHARACTERS, parsed, trimmed
from pipelines.parse.decode import decode

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_COMPONENT = re.compile(r"^\s*<[A-Z][A-Za-z0-9.]*[\s/>]", re.MULTILINE)
_FRONT_MATTER_CHARACTERS = 65536
_LONG_ITEM = 4000  # characters: a list item beyond this is given as its blocks
_LISTS = frozenset({"bullet_list_open", "ordered_list_open"})
_KINDS = {"fence": ElementKind.CODE, "code_block": ElementKind.CODE, "table_open": ElementKind.TABLE}


def parse(data: bytes) -> Parsed:
    text, flags = decode(data)
    metadata: dict[str, Scalar] = {}
    elements: list[Element] = []
    titles: dict[int, str] = {}
    body = 0
    if match := _FRONT_MATTER.match(text):
        body = match.end()
        span = trimmed(text, 0, body)
        assert span
        elements.append(Element(ElementKind.PARAGRAPH, *span))
        values = front_matter(match[1])
        if values is None:
            flags.add("front_matter_invalid")
        metadata = values or {}
    for element, title in _blocks(text, body):
        elements.append(element)
        if title is not None:
            titles[element.start] = title
    given = metadata.get("title")
    return parsed(text, elements, titles=titles, title=str(given) if given else None, metadata=metadata, flags=flags)


def front_matter(text: str) -> dict[str, Scalar] | None:
    """The scalar values of YAML front matter; None where it is not a YAML mapping."""
    if len(text) > _FRONT_MATTER_CHARACTERS:
        return None
    try:
        raw = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError, AttributeError, TypeError, OverflowError):
        return None  # besides its own errors PyYAML lets those of odd dates, numbers and keys through
    if not isinstance(raw, dict):
        return {} if raw is None else None
    return {str(key): scalar for key, value in raw.items() if (scalar := _scalar(value)) is not None}


def _scalar(value: Any) -> Scalar | None:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool) else None


@cache
def _reader(mdx: bool) -> MarkdownIt:
    reader = MarkdownIt("commonmark").enable("table")
    reader.core.ruler.enableOnly(["normalize", "block"])  # the inside of a paragraph is not needed
    if mdx:
        reader.disable("code")  # MDX has no indented code: what is indented there is the content of a component
    return reader


@cache
def _renderer() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def _blocks(text: str, body: int) -> Iterator[tuple[Element, str | None]]:
    """Elements from `body` on, in order, without gaps between them other than blank lines; and titles as plain text."""
    offsets = [body]
    offsets.extend(body + match.end() for match in re.finditer("\n", text[body:]))
    if offsets[-1] != len(text):
        offsets.append(len(text))
    last = len(offsets) - 1
    tokens = _reader(bool(_COMPONENT.search(text))).parse(text[body:])
    covered = 0  # lines
    for kind, first, end, level, title in _ranges(tokens, offsets):
        if first > covered:  # link definitions, which make no token
            yield from _element(text, ElementKind.PARAGRAPH, offsets[covered], offsets[first])
        for element, _ in _element(text, kind, offsets[max(first, covered)], offsets[min(end, last)], level):
            yield element, title
        covered = max(covered, end)
    if covered < last:
        yield from _element(text, ElementKind.PARAGRAPH, offsets[covered], offsets[last])


def _element(text: str, kind: ElementKind, start: int, end: int, level: int = 0) -> Iterator[tuple[Element, None]]:
    if span := trimmed(text, start, end):
        small = span[1] - span[0] <= LONGEST_ELEMENT  # a larger table is cut, and its parts have no HTML
        html = _renderer().render(text[slice(*span)]) if kind is ElementKind.TABLE and small else None
        yield Element(kind, *span, level=level, html=html), None


def _ranges(tokens: Sequence[Token], offsets: Sequence[int]) -> Iterator[tuple[ElementKind, int, int, int, str | None]]:
    """(kind, first line, end line, level, title) of the outermost blocks, with lists given as their items."""
    for index, token in enumerate(tokens):
        if token.level != 0 or token.map is None or token.type in _LISTS:
            if token.type == "list_item_open" and token.level == 1 and token.map:
                yield from _item(tokens, index, offsets)
            continue
        first, end = token.map
        if token.type == "heading_open":
            yield ElementKind.TITLE, first, end, int(token.tag[1:]), _plain(tokens[index + 1].content)
        elif token.nesting >= 0:
            yield _KINDS.get(token.type, ElementKind.PARAGRAPH), first, end, 0, None


def _item(
    tokens: Sequence[Token], index: int, offsets: Sequence[int]
) -> Iterator[tuple[ElementKind, int, int, int, str | None]]:
    lines = tokens[index].map
    assert lines
    first, end = lines
    starts = [first]
    if offsets[min(end, len(offsets) - 1)] - offsets[first] > _LONG_ITEM:
        for token in tokens[index + 1 :]:
            if token.type == "list_item_close" and token.level == 1:
                break
            if token.level == 2 and token.map and token.nesting >= 0 and token.map[0] > starts[-1]:
                starts.append(token.map[0])
    for start, stop in pairwise([*starts, end]):
        yield ElementKind.LIST_ITEM, start, stop, 0, None


def _plain(inline: str) -> str:
    """A heading without its markup."""
    if len(inline) > 2 * TITLE_CHARACTERS:
        return inline
    children = _renderer().parseInline(inline)[0].children or []
    return "".join(
        " " if child.type == "softbreak" else child.content for child in children if child.type != "html_inline"
    )
