"""One line of a BEIR corpus: a small JSON object, safe and fast to read in the parent process."""

import json

from pipelines.model import Element, ElementKind, Parsed, Reason
from pipelines.parse.assemble import SEPARATOR, parsed
from pipelines.parse.decode import clean
from pipelines.parse.failure import failure

LARGEST_BYTES = 16 * 2**20


def parse(data: bytes) -> Parsed:
    if len(data) > LARGEST_BYTES:
        raise failure(Reason.TOO_LARGE, f"a BEIR record of {len(data):,} bytes")
    try:
        record = json.loads(data)
    except ValueError as error:
        raise failure(Reason.CORRUPT, f"not a JSON object: {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get("text", ""), str):
        raise failure(Reason.CORRUPT, "not an object with a text")
    title, title_flags = clean(record["title"]) if isinstance(record.get("title"), str) else ("", set())
    body, body_flags = clean(record.get("text", ""))
    title, body = title.strip(), body.strip()
    elements = []
    if title:
        elements.append(Element(ElementKind.TITLE, 0, len(title), level=1))
    text = SEPARATOR.join(part for part in (title, body) if part)
    if body:
        elements.append(Element(ElementKind.PARAGRAPH, len(text) - len(body), len(text)))
    values = record.get("metadata")
    metadata = values if isinstance(values, dict) else {}
    return parsed(
        text,
        elements,
        title=title or None,
        metadata={key: value for key, value in metadata.items() if isinstance(value, str | int | float | bool)},
        flags=title_flags | body_flags,
    )
