"""What is checked on the raw bytes before any library opens them: hostile files are refused by cheap linear scans."""

import io
import re
import struct
import zipfile
import zlib
from pathlib import PurePosixPath

from pipelines import media
from pipelines.config import ParseConfig
from pipelines.model import Reason
from pipelines.parse.failure import failure

MIB = 2**20
MAX_ENTRIES = 10_000  # in an Office file: a deck of a thousand slides has some 5,000
MAX_RATIO = 200  # unpacked to packed size of one large entry; XML of real documents stays below 60
RATIO_FROM_BYTES = 8 * MIB  # smaller entries may be as repetitive as they like
MAX_DEPTH = 200  # of nested HTML elements: libxml2 stops at 256, and silently
MAX_XML_DEPTH = 200  # of nested elements in Office XML; real files reach 40
MAX_BRACKETS = 5_000  # in a row, opened and not closed: Markdown links, quotes

_KNOWN = {
    b"\xd0\xcf\x11\xe0": "a binary Office file of before 2007",
    b"PK\x03\x04": "a zip archive",
    b"{\\rtf": "RTF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"II*\0": "a picture",
    b"MM\0*": "a picture",
    b"\x1f\x8b": "a compressed file",
    b"BZh": "a compressed file",
}  # only for the line that people read
_NESTED_ARCHIVE = frozenset(
    {".zip", ".jar", ".7z", ".rar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".tar", ".docx", ".pptx"}
)
_TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9:_-]*)")
# Elements without an end tag, or with one that browsers and lxml supply.
_UNNESTED = frozenset(
    b"area base br col embed hr img input link meta param source track wbr p li dt dd option tr td th thead tbody "
    b"tfoot colgroup rt rp optgroup html head body".split()
)
# What is up to the end tag of these is text.
_RAW_ENDS = {name: re.compile(rb"</" + name, re.IGNORECASE) for name in (b"script", b"style", b"textarea")}
_ENTITY = re.compile(rb"<!(?:ENTITY|DOCTYPE[^>\[]{0,1000}\[)", re.I)


def check(data: bytes, media_type: str, config: ParseConfig) -> None:
    """Raises `ParseFailure` for what must not reach a parser."""
    if not data:
        raise failure(Reason.EMPTY, "zero bytes")
    if len(data) > config.max_file_mib * MIB:
        raise failure(Reason.TOO_LARGE, f"{len(data):,} bytes; parse.max_file_mib is {config.max_file_mib}")
    if media_type == media.BINARY:
        known = next((name for magic, name in _KNOWN.items() if data.startswith(magic)), "neither text nor known")
        raise failure(Reason.UNSUPPORTED, known)
    if media_type in media.OOXML:
        _check_office(data, config)
    elif media_type == media.HTML:
        check_html(data)
    elif media_type == media.MARKDOWN:
        _check_brackets(data)
    elif media_type == media.TEXT and data.lstrip()[:9].lower().startswith((b"<?xml", b"<!doctype")):
        _check_entities(data)


def check_html(data: bytes) -> None:
    """Raises `ParseFailure` for HTML that declares entities or is nested too deep."""
    _check_entities(data)
    _check_depth(data, MAX_DEPTH)


def _check_entities(data: bytes) -> None:
    if b"\0" in data[:64]:  # UTF-16
        data = data.replace(b"\0", b"")
    if _ENTITY.search(data[: 64 * 1024]):
        raise failure(Reason.XML_ENTITIES, "the document declares entities")


def _check_depth(data: bytes, limit: int) -> None:
    """One pass over the tags. Every search that finds nothing ends the scan, so the time is linear."""
    depth = position = 0
    while (start := data.find(b"<", position)) >= 0:
        if data.startswith((b"<!--", b"<![CDATA["), start):
            mark = b"-->" if data.startswith(b"<!--", start) else b"]]>"
            end = data.find(mark, start + 4)
            if end < 0:
                return
            position = end + len(mark)
            continue
        tag = _TAG.match(data, start)
        if tag is None:
            position = start + 1
            continue
        name = tag[2].lower()
        end = data.find(b">", tag.end())
        if end < 0:
            return
        position = end + 1
        if data[end - 1 : end] == b"/" or name in _UNNESTED:
            continue
        if not tag[1] and (raw_end := _RAW_ENDS.get(name)):
            closing = raw_end.search(data, position)
            if closing is None:
                return
            position = data.find(b">", closing.end()) + 1 or len(data)
            continue
        depth = max(0, depth - 1) if tag[1] else depth + 1
        if depth > limit:
            raise failure(Reason.TOO_DEEP, f"more than {limit} nested elements")


def _check_brackets(data: bytes) -> None:
    depth = 0
    for match in re.finditer(rb"[\[\]]|\n[^\S\n]*\n", data):
        if match[0] == b"[":
            depth += 1
        elif match[0] == b"]":
            depth = max(0, depth - 1)
        else:
            depth = 0
        if depth > MAX_BRACKETS:
            raise failure(Reason.TOO_DEEP, f"more than {MAX_BRACKETS} brackets left open")


# -- Office files ------------------------------------------------------------------------------------------------------


def _check_office(data: bytes, config: ParseConfig) -> None:
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise failure(Reason.ENCRYPTED, "the Office file is protected by a password")
        raise failure(Reason.UNSUPPORTED, "a binary Office file of before 2007")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OSError, UnicodeDecodeError) as error:
        raise failure(Reason.CORRUPT, f"not a whole zip archive: {error}") from None
    with archive:
        entries = archive.infolist()
        _check_entries(entries, len(data), config)
        names = {entry.filename for entry in entries}
        if any(name.endswith("workbook.bin") for name in names):
            raise failure(Reason.UNSUPPORTED, "a binary workbook (.xlsb)")
        if "[Content_Types].xml" not in names:
            raise failure(Reason.CORRUPT, "not an Office file: it has no list of content types")
        for entry in entries:
            _check_entry(archive, entry)


def _check_entries(entries: list[zipfile.ZipInfo], size_bytes: int, config: ParseConfig) -> None:
    if len(entries) > MAX_ENTRIES:
        raise failure(Reason.BOMB, f"{len(entries):,} entries in the archive")
    limit = (config.max_file_mib + 4 * config.max_text_mib) * MIB  # XML holds its text at four times its size or more
    total = sum(entry.file_size for entry in entries)
    if total > limit:
        raise failure(Reason.BOMB, f"it unpacks to {total:,} bytes")
    packed = sum(entry.compress_size for entry in entries)
    if packed > size_bytes:
        raise failure(Reason.BOMB, "entries of the archive overlap")
    seen: set[str] = set()
    for entry in entries:
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", entry.filename):
            raise failure(Reason.CORRUPT, "an entry of the archive points out of it")
        if (entry.external_attr >> 16) & 0o170000 == 0o120000:
            raise failure(Reason.CORRUPT, "an entry of the archive is a link")
        if entry.filename in seen:
            raise failure(Reason.CORRUPT, "two entries of the archive have one name")
        seen.add(entry.filename)
        if entry.flag_bits & 0x1:
            raise failure(Reason.ENCRYPTED, "entries of the archive are encrypted")
        if entry.file_size > RATIO_FROM_BYTES and entry.file_size > MAX_RATIO * max(1, entry.compress_size):
            raise failure(
                Reason.BOMB, f"an entry unpacks to {entry.file_size // max(1, entry.compress_size):,} times its size"
            )
        nested = path.suffix.lower() in _NESTED_ARCHIVE and "embeddings" not in path.parts
        if nested:
            raise failure(Reason.BOMB, "an archive inside the archive")


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Unpacks a part once, so that its checksum is verified, and looks for a DTD in it. The size was bounded before."""
    try:
        with archive.open(entry) as part:
            content = part.read(entry.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError, RuntimeError) as error:
        raise failure(Reason.CORRUPT, f"a part of the archive is damaged: {error}") from None
    if len(content) > entry.file_size:
        raise failure(Reason.BOMB, "a part is larger than the archive says")
    if entry.filename.endswith((".xml", ".rels", ".vml")):
        if re.search(rb"<!(?:DOCTYPE|ENTITY)", content[: 64 * 1024].replace(b"\0", b""), re.I):
            raise failure(Reason.XML_ENTITIES, "a part of the file declares a document type")
        _check_depth(content, MAX_XML_DEPTH)
