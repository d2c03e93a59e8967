"""A document's URI: its path with the few bytes encoded that a line of text cannot hold.

Encoded as `%HH` are control characters (tab and newline among them), bytes that are not UTF-8, and a `%` that two
hexadecimal digits follow, so that decoding is unambiguous. Everything else stays as it is, spaces and other scripts
included. There is no Unicode normalisation: two names that differ in bytes are two documents.
"""

import re

_ENCODE = re.compile(r"[\x00-\x1f\x7f-\x9f\udc80-\udcff]|%(?=[0-9A-Fa-f]{2})")
_DECODE = re.compile(rb"%([0-9A-Fa-f]{2})")


def to_uri(path: bytes) -> str:
    """The URI of a path: valid text without control characters. `from_uri` gives back exactly `path`."""
    # With surrogateescape a byte that is not UTF-8 becomes one of U+DC80..U+DCFF, which nothing else decodes to.
    return _ENCODE.sub(_encode, path.decode("utf-8", "surrogateescape"))


def from_uri(uri: str) -> bytes:
    """The path that `to_uri` encoded."""
    return _DECODE.sub(lambda match: bytes([int(match[1], 16)]), uri.encode("utf-8"))


def _encode(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))
