"""What a file is, from its name and its first bytes. Content that proves a type beats the name.

Collect asks `media_type` with the head of a file, parse asks `sniff` again with all of its bytes.
"""

import json
import re
from pathlib import PurePosixPath

MARKDOWN = "text/markdown"
HTML = "text/html"
TEXT = "text/plain"
CSV = "text/csv"
TSV = "text/tab-separated-values"
MAIL = "message/rfc822"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
BEIR = "application/x-beir+json"  # one line of a BEIR corpus.jsonl: an object with _id, title, text, metadata
BINARY = "application/octet-stream"  # anything that no parser reads

OOXML = frozenset({DOCX, PPTX, XLSX})
HEAD_BYTES = 65536  # as much as `media_type` and `sniff` look at; callers need not read more

_BY_SUFFIX = {
    ".md": MARKDOWN,
    ".mdx": MARKDOWN,
    ".markdown": MARKDOWN,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".csv": CSV,
    ".tsv": TSV,
    ".tab": TSV,
    ".eml": MAIL,
    ".pdf": PDF,
    ".docx": DOCX,
    ".docm": DOCX,
    ".pptx": PPTX,
    ".pptm": PPTX,
    ".xlsx": XLSX,
    ".xlsm": XLSX,
}
_BY_FOLDER = {"word": DOCX, "ppt": PPTX, "xl": XLSX}  # the folder in an OOXML archive that holds the content
_BEIR_SUFFIXES = frozenset({".jsonl", ".ndjson"})

_ZIP_ENTRY = re.compile(rb"PK(?:\x03\x04.{22}|\x01\x02.{24})(..)", re.DOTALL)  # up to and with the length of the name
_ZIP_NAME_AT = {b"\x03\x04": 30, b"\x01\x02": 46}  # local header, entry of the central directory
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OTHER_MAGIC = (
    *(b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\x00", b"MM\x00*", b"\x00\x00\x01\x00"),
    *(b"OggS", b"ID3", b"fLaC", b"wOFF", b"wOF2", b"\x00\x01\x00\x00\x00"),
    *(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a", b"\x28\xb5\x2f\xfd"),
    *(b"\x7fELF", b"MZ\x90", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"SQLite format 3\x00", b"PAR1", b"\x93NUMPY"),
    *(b"{\\rtf", b"%!PS"),
)  # fmt: skip
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,2000}?-->\s*){0,8}(?:<!doctype\s+html\b|<html[\s>])", re.I | re.S
)
_CONTROL = bytes(sorted(set(range(32)) - set(b"\t\n\r\f\b\x1b")))
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def media_type(name: str, head: bytes) -> str:
    """The media type of a file called `name` that begins with `head` (`HEAD_BYTES` are enough, all of it is better).

    Everything that reads as text and has no type of its own (source code, logs, reStructuredText, JSON) is
    `text/plain`; what is neither text nor a supported format is `application/octet-stream`. A `.jsonl` file whose
    first line is a BEIR record is `application/x-beir+json`: collect makes one document of each of its lines.
    """
    suffix = PurePosixPath(name).suffix.lower()
    named = _BY_SUFFIX.get(suffix, TEXT)
    if suffix in _BEIR_SUFFIXES and _is_beir(head):
        return BEIR
    return sniff(named, head)


def sniff(declared: str, data: bytes) -> str:
    """The type that the content proves, else `declared`; binary data declared as text is `application/octet-stream`."""
    head = data[:HEAD_BYTES]
    if not head:
        return declared
    if head.lstrip().startswith(b"%PDF-") or (declared == PDF and b"%PDF-" in head[:1024]):
        return PDF
    if head.startswith(b"PK\x03\x04"):
        return _zip_type(declared, data)
    if head.startswith(_OLE):
        # An encrypted OOXML file is an OLE container: its name still says what it is, and parse says that it is locked.
        return declared if declared in OOXML else BINARY
    if declared in OOXML or declared == PDF:
        return declared if not looks_like_text(head) else _text_type(TEXT, head)
    if head.startswith(_OTHER_MAGIC) or not looks_like_text(head):
        return BINARY
    return _text_type(declared, head)


def looks_like_text(head: bytes) -> bool:
    """Whether these bytes are text in some encoding, a few stray control characters allowed."""
    if head.startswith(_BOMS):
        return True
    if utf16_without_bom(head):
        return True
    strange = len(head) - len(head.translate(None, _CONTROL))
    return strange * 20 <= len(head) + 20


def utf16_without_bom(head: bytes) -> str | None:
    """`utf-16-le` or `utf-16-be` where every other byte is mostly zero and the rest is not; else None."""
    sample = head[:4096]
    if len(sample) < 8:
        return None
    even, odd = sample[0::2].count(0) / len(sample[0::2]), sample[1::2].count(0) / len(sample[1::2])
    if odd > 0.6 and even < 0.1:
        return "utf-16-le"
    return "utf-16-be" if even > 0.6 and odd < 0.1 else None


def _text_type(declared: str, head: bytes) -> str:
    # Markdown may begin with HTML, and the body of a mail is below its headers: there the name is the better witness.
    if declared in (MARKDOWN, MAIL, BEIR):
        return declared
    text = head
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head[: len(head) // 2 * 2].decode("utf-16", "replace").encode("utf-8")
    return HTML if _HTML.match(text.removeprefix(b"\xef\xbb\xbf")) else declared


def _zip_type(declared: str, data: bytes) -> str:
    ends = (data[:HEAD_BYTES], data[-HEAD_BYTES:] if len(data) > HEAD_BYTES else b"")
    for part in ends:
        for match in _ZIP_ENTRY.finditer(part):
            start = match.start() + _ZIP_NAME_AT[part[match.start() + 2 : match.start() + 4]]
            folder = part[start : start + 5].split(b"/")[0].decode("latin-1")
            if folder in _BY_FOLDER:
                return _BY_FOLDER[folder]
    return declared if declared in OOXML else BINARY


def _is_beir(head: bytes) -> bool:
    line = head.lstrip().split(b"\n", 1)[0]
    if not line.startswith(b"{"):
        return False
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        # The first line is longer than the head: look for the two fields that make a BEIR record.
        return len(line) >= HEAD_BYTES - 8 and b'"_id"' in line and b'"text"' in line
    return isinstance(record, dict) and isinstance(record.get("text"), str) and "_id" in record
