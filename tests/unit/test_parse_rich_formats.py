"""HTML, Office, mail and PDF, good and hostile: structure where it is, and a stable reason where it cannot be read."""

import io
import zipfile
from collections.abc import Callable

import pytest
from docx import Document
from openpyxl import Workbook
from pptx import Presentation
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from pipelines import media
from pipelines.config import ParseConfig
from pipelines.model import Parsed, Reason
from pipelines.parse import ParseFailure, parse_bytes
from pipelines.parse.fingerprint import RULES, tokenizer_name
from pipelines.parse.language import is_verb, unstructured_ready

CONFIG = ParseConfig()


def elements(parsed: Parsed) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(e.kind.value, parsed.text[e.start : e.end], e.section) for e in parsed.elements]


def saved(document: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    document(buffer)
    return buffer.getvalue()


def docx() -> bytes:
    document = Document()
    document.add_heading("Rules", 1)
    document.add_paragraph("Everybody has to read these rules before the first day.")
    document.add_heading("Badges", 2)
    table = document.add_table(2, 2)
    for cell, text in zip(table._cells, ["Door", "Colour", "North", "red"], strict=True):
        cell.text = text
    return saved(document.save)


def pdf(pages: list[list[tuple[int, str]]], **options: object) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=1, **options)
    for lines in pages:
        for number, (size, text) in enumerate(lines):
            canvas.setFont("Helvetica", size)
            canvas.drawString(72, 760 - 60 * number, text)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


TWO_PAGES = [[(22, "Annual Report"), (11, "The year was good for everybody who works here.")],
             [(16, "Outlook"), (11, "Next year will be better than this one was.")]]  # fmt: skip


def with_entry(data: bytes, name: str, content: bytes, mode: int = 0) -> bytes:
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return buffer.getvalue()


def test_html_has_headings_rows_and_no_scripts() -> None:
    page = b"""<html><head><title>Site &amp; more</title><style>p{}</style><script>var secret = 1</script></head>
    <body><h1>One</h1><p>It is a sentence that says something.</p><h2>Two</h2><ul><li>first</li></ul>
    <table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>&#9744; &uuml;</td></tr></table>
    <pre><code>x = 1</code></pre></body></html>"""
    parsed = parse_bytes(page, media.HTML, CONFIG)
    assert parsed.title == "Site & more"
    assert elements(parsed) == [
        ("title", "One", ()),
        ("paragraph", "It is a sentence that says something.", ("One",)),
        ("title", "Two", ("One",)),
        ("list_item", "first", ("One", "Two")),
        ("table", "A | B\n1 | \u2610 ü", ("One", "Two")),
        ("code", "x = 1", ("One", "Two")),
    ]
    assert "secret" not in parsed.text


def test_html_in_the_encoding_that_it_declares() -> None:
    page = '<html><head><meta charset="koi8-r"><title>Мир</title></head><body><p>Привет, мир</p></body></html>'
    parsed = parse_bytes(page.encode("koi8-r"), media.HTML, CONFIG)
    assert (parsed.title, parsed.text) == ("Мир", "Привет, мир")


def test_docx_has_sections_and_table_rows() -> None:
    parsed = parse_bytes(docx(), media.DOCX, CONFIG)
    assert parsed.title == "Rules"
    assert elements(parsed)[-1] == ("table", "Door | Colour\nNorth | red", ("Rules", "Badges"))


def test_slides_have_their_number_and_title() -> None:
    deck = Presentation()
    for name in ("First", "Second"):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = name
        slide.placeholders[1].text = f"A point about the {name.lower()} thing"
    parsed = parse_bytes(saved(deck.save), media.PPTX, CONFIG)
    assert [(e.page, e.section) for e in parsed.elements] == [(1, ()), (1, ("First",)), (2, ()), (2, ("Second",))]


def test_sheets_are_titles_above_rows() -> None:
    book = Workbook()
    sheet = book.active
    sheet.title = "Prices"
    for row in (["Item", "Euro"], ["Desk", 120], ["Chair", 60]):
        sheet.append(row)
    parsed = parse_bytes(saved(book.save), media.XLSX, CONFIG)
    assert elements(parsed) == [
        ("title", "Prices", ()),
        ("table", "Item | Euro\nDesk | 120\nChair | 60", ("Prices",)),
    ]


def test_mail_has_subject_sender_and_body() -> None:
    mail = (
        b"From: Ann <ann@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        b"Date: Fri, 2 Jan 2026 10:00:00 +0000\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n"
        b"<h1>News</h1><p>The office is closed on Monday.</p>\r\n--b\r\nContent-Type: application/pdf\r\n"
        b'Content-Disposition: attachment; filename="../../x.pdf"\r\n\r\n%PDF\r\n--b--\r\n'
    )
    parsed = parse_bytes(mail, media.MAIL, CONFIG)
    assert parsed.title == "Grüße"
    assert parsed.metadata["from"] == "Ann <ann@example.org>"
    assert elements(parsed)[-1] == ("paragraph", "The office is closed on Monday.", ("Grüße", "News"))
    assert "attachments_ignored" in parsed.flags


def test_pdf_has_pages_and_titles_by_size() -> None:
    parsed = parse_bytes(pdf(TWO_PAGES), media.PDF, CONFIG)
    assert [(e.kind.value, e.page, e.section) for e in parsed.elements] == [
        ("title", 1, ()),
        ("paragraph", 1, ("Annual Report",)),
        ("title", 2, ("Annual Report",)),
        ("paragraph", 2, ("Annual Report", "Outlook")),
    ]
    assert parsed.title == "Annual Report"


def test_a_wrong_name_does_not_matter_and_is_recorded() -> None:
    parsed = parse_bytes(pdf(TWO_PAGES), media.DOCX, CONFIG)
    assert parsed.flags == ("sniffed:application/pdf",)


@pytest.mark.parametrize("build", [docx, lambda: pdf(TWO_PAGES), lambda: b"<html><h1>A</h1><p>b is here</p></html>"])
def test_the_same_bytes_give_the_same_json(build: Callable[[], bytes]) -> None:
    data = build()
    kind = media.media_type("x", data)
    assert parse_bytes(data, kind, CONFIG).to_json() == parse_bytes(data, kind, CONFIG).to_json()


def image_only_pdf() -> bytes:
    from PIL import Image
    from reportlab.lib.utils import ImageReader

    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.drawImage(ImageReader(Image.new("RGB", (50, 50), "red")), 0, 0)
    canvas.save()
    return buffer.getvalue()


def more_pages_than_there_are() -> bytes:
    return pdf(TWO_PAGES).replace(b"/Count 2", b"/Count 3")


HTML_DEEP = b"<html>" + b"<div>" * 100_000 + b"x"
OLE_ENCRYPTED = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512 + "EncryptedPackage".encode("utf-16-le")
LAUGHS = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><l>&b;</l>'

BAD: list[tuple[str, str, Callable[[], bytes], Reason]] = [
    ("zero bytes", media.MARKDOWN, lambda: b"", Reason.EMPTY),
    ("white space", media.TEXT, lambda: b" \n\t\n", Reason.NO_TEXT),
    ("html without text", media.HTML, lambda: b"<html><body></body></html>", Reason.NO_TEXT),
    ("picture", media.TEXT, lambda: b"\x89PNG\r\n\x1a\n" + bytes(50), Reason.UNSUPPORTED),
    ("old word", media.BINARY, lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), Reason.UNSUPPORTED),
    ("locked office", media.XLSX, lambda: OLE_ENCRYPTED, Reason.ENCRYPTED),
    ("locked pdf", media.PDF, lambda: pdf(TWO_PAGES, encrypt=StandardEncryption("pw", strength=128)), Reason.ENCRYPTED),
    ("half docx", media.DOCX, lambda: docx()[: len(docx()) // 2], Reason.CORRUPT),
    ("flipped docx", media.DOCX, lambda: flipped(docx()), Reason.CORRUPT),
    ("half pdf", media.PDF, lambda: pdf(TWO_PAGES)[:900], Reason.CORRUPT),
    ("missing page", media.PDF, more_pages_than_there_are, Reason.CORRUPT),
    ("scanned pdf", media.PDF, image_only_pdf, Reason.NEEDS_OCR),
    ("blank pdf", media.PDF, lambda: pdf([[]]), Reason.NO_TEXT),
    ("zip bomb", media.DOCX, lambda: with_entry(docx(), "word/x.xml", b"a" * 50_000_000), Reason.BOMB),
    ("nested archive", media.DOCX, lambda: with_entry(docx(), "word/x.zip", b"PK"), Reason.BOMB),
    ("way out", media.DOCX, lambda: with_entry(docx(), "../../evil", b"x"), Reason.CORRUPT),
    ("link", media.DOCX, lambda: with_entry(docx(), "word/l", b"/etc/passwd", 0o120777), Reason.CORRUPT),
    ("entities in docx", media.DOCX, lambda: with_entry(docx(), "word/e.xml", LAUGHS), Reason.XML_ENTITIES),
    ("entities", media.TEXT, lambda: LAUGHS, Reason.XML_ENTITIES),
    ("entities in html", media.HTML, lambda: LAUGHS.replace(b"l [", b"html ["), Reason.XML_ENTITIES),
    ("deep html", media.HTML, lambda: HTML_DEEP, Reason.TOO_DEEP),
    ("deep list", media.HTML, lambda: b"<html>" + b"<ul><li>x" * 190, Reason.TOO_DEEP),
    ("deep xml", media.DOCX, lambda: with_entry(docx(), "word/d.xml", b"<a>" * 100_000), Reason.TOO_DEEP),
    ("deep markdown", media.MARKDOWN, lambda: b"[" * 100_000, Reason.TOO_DEEP),
    ("deep json", media.BEIR, lambda: b'{"text":"x","a":' + b"[" * 200_000, Reason.TOO_DEEP),
    ("deep mail", media.MAIL, lambda: b"Content-Type: message/rfc822\n\n" * 3000, Reason.TOO_DEEP),
    ("not json", media.BEIR, lambda: b"{", Reason.CORRUPT),
]


def flipped(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entry = archive.getinfo("word/document.xml")
    at = entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize(("media_type", "build", "reason"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_has_its_reason(media_type: str, build: Callable[[], bytes], reason: Reason) -> None:
    with pytest.raises(ParseFailure) as caught:
        parse_bytes(build(), media_type, CONFIG)
    assert caught.value.reason is reason
    assert caught.value.detail.isprintable() and "/site-packages" not in caught.value.detail


def test_limits_on_file_and_text() -> None:
    small = ParseConfig(max_file_mib=1, max_text_mib=1)
    with pytest.raises(ParseFailure) as caught:
        parse_bytes(b"a " * 2**20, media.TEXT, small)
    assert caught.value.reason is Reason.TOO_LARGE
    with pytest.raises(ParseFailure) as caught:
        parse_bytes(b"a,\xc3\xa9\n" * 170_000, media.CSV, small)
    assert caught.value.reason is Reason.BOMB


@pytest.mark.parametrize("data", [b"<html>" + b"<!--" * 500_000, b"<html>" + b"<a '" * 300_000,
                                  b"<html><p " + b"a" * 2_000_000, b"<html>" + b"<script>" * 200_000])  # fmt: skip
def test_hostile_html_takes_linear_time(data: bytes) -> None:
    with pytest.raises(ParseFailure) as caught:
        parse_bytes(data, media.HTML, CONFIG)
    assert caught.value.reason is Reason.NO_TEXT


def test_the_place_where_the_rules_are_put_exists() -> None:
    from unstructured.nlp import tokenize

    assert hasattr(tokenize, "_get_nlp"), "unstructured moved it: see pipelines/parse/language.py"
    unstructured_ready()
    if tokenizer_name() == RULES:
        assert tokenize.pos_tag("The cat is here")[2] == ("is", "VB")
        assert len(tokenize.sent_tokenize("One is here. Two is there.")) == 2


def test_verbs() -> None:
    words = ["the", "board", "approved", "it", "and", "will", "probably", "publish"]
    verbs = [word for before, word in zip(["", *words], words, strict=False) if is_verb(word, before)]
    assert "approved" in verbs and "will" in verbs and "board" not in verbs
