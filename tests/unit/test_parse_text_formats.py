"""Markdown, plain text, BEIR and CSV: elements are verbatim pieces of the file, in order, and nothing is lost."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import media
from pipelines.config import ParseConfig
from pipelines.model import ElementKind, Parsed
from pipelines.parse import ParseFailure, parse_bytes

CONFIG = ParseConfig()

PAGE = """---
title: The Guide
Draft: true
weight: 1.5
tags: [a, b]
published: 2026-01-02
---
import X from 'y'

# Start `here`

Some text
over two lines.

- one
  - inner
- two

1. first

[link]: https://example.org "a definition makes no token"

Second *part*
-------------

```python
# not a heading
x = 1
```

| a | b |
|---|---|
| 1 | 2 |

> quoted

### Deeper

<!-- a comment is text -->

## Next

tail without newline"""


def texts(parsed: Parsed, kind: ElementKind) -> list[str]:
    return [parsed.text[e.start : e.end] for e in parsed.elements if e.kind is kind]


def assert_covers(parsed: Parsed) -> None:
    """Elements are in order, do not overlap, and leave out only white space."""
    position = 0
    for element in parsed.elements:
        assert position <= element.start < element.end <= len(parsed.text)
        assert not parsed.text[position : element.start].strip()
        position = element.end
    assert not parsed.text[position:].strip()


def markdown(text: str) -> Parsed:
    return parse_bytes(text.encode(), media.MARKDOWN, CONFIG)


def test_markdown_keeps_the_file_and_finds_its_blocks() -> None:
    parsed = markdown(PAGE)
    assert parsed.text == PAGE
    assert_covers(parsed)
    assert texts(parsed, ElementKind.TITLE) == [
        "# Start `here`",
        "Second *part*\n-------------",
        "### Deeper",
        "## Next",
    ]
    assert texts(parsed, ElementKind.CODE) == ["```python\n# not a heading\nx = 1\n```"]
    assert texts(parsed, ElementKind.LIST_ITEM) == ["- one\n  - inner", "- two", "1. first"]
    (table,) = [e for e in parsed.elements if e.kind is ElementKind.TABLE]
    assert table.html and "<td>2</td>" in table.html
    assert parsed.title == "The Guide"
    assert parsed.metadata == {"title": "The Guide", "draft": True, "weight": 1.5, "published": "2026-01-02"}


def test_sections_are_the_headings_above_without_their_markup() -> None:
    parsed = markdown(PAGE)
    sections = {parsed.text[e.start : e.end]: e.section for e in parsed.elements}
    assert sections["- two"] == ("Start here",)
    assert sections["> quoted"] == ("Start here", "Second part")
    assert sections["<!-- a comment is text -->"] == ("Start here", "Second part", "Deeper")
    assert sections["## Next"] == ("Start here",)
    assert sections["tail without newline"] == ("Start here", "Next")


def test_front_matter_alone_still_gives_text() -> None:
    parsed = markdown("---\ntitle: Only\n---\n")
    assert texts(parsed, ElementKind.PARAGRAPH) == ["---\ntitle: Only\n---"]
    assert parsed.title == "Only"


@pytest.mark.parametrize("broken", ["a: [", "a: !!python/object:os.system x", "- list", "? [1]\n: 2", "a: 2026-99-99"])
def test_front_matter_that_is_no_mapping_stays_text(broken: str) -> None:
    parsed = markdown(f"---\n{broken}\n---\n\nbody")
    assert_covers(parsed)
    assert texts(parsed, ElementKind.PARAGRAPH)[-1] == "body"


def test_code_inside_an_mdx_component_is_code() -> None:
    parsed = markdown("<Tabs>\n\n    ## Inside\n\n    ```sh\n    ls\n    ```\n\n</Tabs>\n")
    assert texts(parsed, ElementKind.CODE) == ["    ```sh\n    ls\n    ```"]
    assert texts(parsed, ElementKind.TITLE) == ["    ## Inside"]


LINES = [
    *("# h", "text", "", "- i", "  - j", "> q", "```", "    c", "|a|b|", "|-|-|", "[r]: /u"),
    *("===", "<Card>", "<div>", "1) n", "\t- t", "---", "***", "\u00a0", "e\u0301"),
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(LINES)))
def test_any_markdown_is_covered(lines: list[str]) -> None:
    text = "\n".join(lines)
    if not text.strip():
        return
    parsed = markdown(text)
    assert parsed.text == text
    assert_covers(parsed)
    assert Parsed.from_json(parsed.to_json()) == parsed


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=400), st.sampled_from([media.MARKDOWN, media.TEXT, media.CSV, media.BEIR]))
def test_any_bytes_are_text_or_refused(data: bytes, media_type: str) -> None:
    try:
        parsed = parse_bytes(data, media_type, CONFIG)
    except ParseFailure as error:
        assert error.detail and "\n" not in error.detail
        return
    assert parsed.to_json().encode("utf-8") == parse_bytes(data, media_type, CONFIG).to_json().encode("utf-8")
    if media_type != media.CSV:
        assert_covers(parsed)


def test_plain_text_gets_categories_and_stays_verbatim() -> None:
    text = "Opening Hours\n\nThe office is open from nine to five.\nIt is closed on Sunday.\n\n• keys\n\n• badge\n"
    parsed = parse_bytes(text.encode(), media.TEXT, CONFIG)
    assert parsed.text == text
    assert_covers(parsed)
    assert texts(parsed, ElementKind.TITLE) == ["Opening Hours"]
    assert texts(parsed, ElementKind.LIST_ITEM) == ["• keys", "• badge"]
    assert parsed.elements[1].section == ("Opening Hours",)


def test_source_code_has_no_titles() -> None:
    code = "import os\n\nclass Thing\n\ndef run():\n    return os\n\nMAIN = 1\n\nEnd\n"
    assert not texts(parse_bytes(code.encode(), media.TEXT, CONFIG), ElementKind.TITLE)


@pytest.mark.parametrize("text", ["x" * 3_000_000, "word " * 600_000, "a b\n\n" * 300_000, "ab\n" * 300_000])
def test_large_texts_are_cut_into_pieces_that_fit(text: str) -> None:
    parsed = parse_bytes(text.encode(), media.TEXT, CONFIG)
    assert_covers(parsed)
    assert max(e.end - e.start for e in parsed.elements) <= 20_000


@pytest.mark.parametrize(
    ("data", "text", "flags"),
    [
        (b"\xef\xbb\xbfplain", "plain", ()),
        ("grüße".encode("utf-16"), "grüße", ("encoding:utf-16-le",)),
        (b"Two lines\r\nand\rthree", "Two lines\nand\nthree", ("newlines",)),
        ("Übergrößenträger für äußere Öfen: Maße, Füße, Bäume".encode("cp1252"),
         "Übergrößenträger für äußere Öfen: Maße, Füße, Bäume", ("encoding:cp1252",)),
        (b"a long enough line\x00 with a nul", "a long enough line with a nul", ("control_removed", "nul_removed")),
        (b"\x1b[31mred\x1b[0m alert in a terminal", "red alert in a terminal", ("ansi_removed",)),
        ("日本語".encode() + b"\xff" + "です".encode(), "日本語\ufffdです", ("undecodable_replaced",)),
        ("it\u0092s quoted".encode(), "it\u2019s quoted", ("windows_punctuation",)),
    ],
)  # fmt: skip
def test_decoding_repairs_and_says_so(data: bytes, text: str, flags: tuple[str, ...]) -> None:
    parsed = parse_bytes(data, media.TEXT, CONFIG)
    assert (parsed.text, parsed.flags) == (text, flags)


def test_a_beir_line_is_title_and_text() -> None:
    line = json.dumps({"_id": "1", "title": "A title", "text": "The body.", "metadata": {"Year": 2020, "x": [1]}})
    parsed = parse_bytes(line.encode(), media.BEIR, CONFIG)
    assert parsed.text == "A title\n\nThe body."
    assert [(e.kind, e.section) for e in parsed.elements] == [
        (ElementKind.TITLE, ()),
        (ElementKind.PARAGRAPH, ("A title",)),
    ]
    assert (parsed.title, parsed.metadata) == ("A title", {"year": 2020})


def test_csv_values_stay_as_written() -> None:
    parsed = parse_bytes(b"id;code;note\n1;007;NA\n2;1.50;\n", media.CSV, CONFIG)
    assert parsed.text == "id | code | note\n1 | 007 | NA\n2 | 1.50"
    assert parsed.elements[0].html and "<td>007</td>" in parsed.elements[0].html


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.mdx", b"# x", media.MARKDOWN),
        ("a.txt", b"<!DOCTYPE html><html>", media.HTML),
        ("a.md", b"<html>", media.MARKDOWN),
        ("a.docx", b"%PDF-1.7", media.PDF),
        ("a.pdf", b"just text", media.TEXT),
        ("a.txt", b"\x89PNG\r\n\x1a\n", media.BINARY),
        ("a.py", b"x = 1", media.TEXT),
        ("Makefile", b"all:", media.TEXT),
        ("c.jsonl", b'{"_id": "1", "text": "x"}\n', media.BEIR),
        ("c.jsonl", b'{"id": 1}\n', media.TEXT),
        ("a.tsv", b"a\tb", media.TSV),
        ("a.eml", b"From: x", media.MAIL),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", media.BINARY),
        ("empty.md", b"", media.MARKDOWN),
    ],
)
def test_media_types(name: str, head: bytes, expected: str) -> None:
    assert media.media_type(name, head) == expected


def test_failures_survive_pickling(reload: Callable[[object], object]) -> None:
    with pytest.raises(ParseFailure) as caught:
        parse_bytes(b"", media.TEXT, CONFIG)
    copy = reload(caught.value)
    assert isinstance(copy, ParseFailure)
    assert (copy.reason, copy.detail, copy.hint) == (caught.value.reason, caught.value.detail, caught.value.hint)


@pytest.fixture
def reload() -> Callable[[object], object]:
    import pickle

    return lambda value: pickle.loads(pickle.dumps(value))
