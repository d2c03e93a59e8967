"""Bytes to text that can be stored, searched and shown: one encoding, one kind of newline, no control characters."""

import codecs
import re

from pipelines.media import utf16_without_bom

# The 4-byte marks first: the UTF-16 mark is a prefix of the UTF-32 one.
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 65536  # what the guess of an undeclared encoding is made from
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)")
_NEWLINE = re.compile(r"\r\n?|[\f\v]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_C1 = re.compile(r"[\x80-\x84\x86-\x9f]")  # all but NEL
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_UNUSUAL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # whatever the patterns above begin with


def decode(data: bytes, declared: str | None = None) -> tuple[str, set[str]]:
    """The text in `data`, and flags for what had to be guessed or repaired.

    A byte order mark wins, then `declared` (an encoding that the document names), then UTF-8, then a guess.
    """
    text, flags = _decode(data, declared)
    text, repairs = clean(text)
    return text, flags | repairs


def clean(text: str) -> tuple[str, set[str]]:
    """`text` with newlines as LF and without NUL, control characters, terminal sequences and lone surrogates."""
    flags: set[str] = set()
    if not _UNUSUAL.search(text):
        return text, flags
    if _C1.search(text):  # in practice punctuation of Windows that was taken for Latin-1; browsers read it so too
        text = _C1.sub(lambda match: match[0].encode("latin-1").decode("cp1252", "ignore"), text)
        flags.add("windows_punctuation")
    for pattern, replacement, flag in (
        (_ANSI, "", "ansi_removed"),
        (_NEWLINE, "\n", "newlines"),
        (_CONTROL, "", "control_removed"),
        (_SURROGATE, "", "surrogates_removed"),
    ):
        if pattern.search(text):
            if flag == "control_removed" and "\0" in text:
                flags.add("nul_removed")
            text = pattern.sub(replacement, text)
            flags.add(flag)
    return text, flags


def _decode(data: bytes, declared: str | None) -> tuple[str, set[str]]:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _lenient(data[len(mark) :], encoding)
    if declared and _is_text_encoding(declared) and codecs.lookup(declared).name != "utf-8":
        try:
            return data.decode(declared), {f"encoding:{codecs.lookup(declared).name}"}
        except UnicodeDecodeError:
            pass
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        if guess := utf16_without_bom(data):
            return _lenient(data, guess)
        return text, set()
    if guess := utf16_without_bom(data):
        return _lenient(data, guess)
    return _decode_unknown(data)


def _lenient(data: bytes, encoding: str) -> tuple[str, set[str]]:
    flags = set() if encoding == "utf-8" else {f"encoding:{encoding}"}
    try:
        return data.decode(encoding), flags
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), flags | {"undecodable_replaced"}


def _decode_unknown(data: bytes) -> tuple[str, set[str]]:
    repaired = data.decode("utf-8", "replace")
    bad = repaired.count("\ufffd")
    foreign = len(repaired.encode("utf-8")) - len(repaired) - 2 * bad  # bytes beyond the first of each good character
    if foreign > 2 * bad:  # UTF-8 with a few damaged places, not another encoding
        return repaired, {"undecodable_replaced"}
    from charset_normalizer import from_bytes  # only the rare undeclared file pays for this import

    best = from_bytes(_around_foreign(data)).best()
    likely = best.could_be_from_charset if best else []
    # Encodings that read the sample alike come in the order of the alphabet; Western European is the likelier one.
    for encoding in ("cp1252" if not best or "cp1252" in likely else best.encoding, "cp1252"):
        try:
            return data.decode(encoding), {f"encoding:{encoding}"}
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1"), {"encoding:latin-1"}


def _around_foreign(data: bytes) -> bytes:
    """A sample that holds the first byte that is not ASCII: a long English preface says nothing about the rest."""
    if len(data) <= _SAMPLE_BYTES:
        return data
    first = re.search(rb"[\x80-\xff]", data)
    start = max(0, (first.start() if first else 0) - _SAMPLE_BYTES // 4)
    return data[start : start + _SAMPLE_BYTES]


def _is_text_encoding(name: str) -> bool:
    try:
        # Codecs such as `hex` or `zlib` are not for text: the last one would even be a way to unpack a bomb.
        return bool(codecs.lookup(name)._is_text_encoding)
    except (LookupError, ValueError):
        return False
