"""Mail: the subject as title, then the body. Attachments are not read, only named as a flag."""

import email
import email.policy
from email.message import EmailMessage

from pipelines.media import utf16_without_bom
from pipelines.model import ElementKind, Parsed, Scalar
from pipelines.parse import guards
from pipelines.parse.assemble import Block, join, parsed
from pipelines.parse.decode import decode
from pipelines.parse.formats import html
from pipelines.parse.language import unstructured_ready

_HEADERS = {"from": "from", "to": "to", "date": "date"}


def parse(data: bytes, max_characters: int) -> Parsed:
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")) or utf16_without_bom(data):
        data = decode(data)[0].encode("utf-8")  # saved by a text editor: no mail program writes this
    message = email.message_from_bytes(data, policy=email.policy.default)
    subject = _header(message, "subject")
    metadata: dict[str, Scalar] = {name: value for name in _HEADERS if (value := _header(message, name))}
    found, flags = _body(message)
    if _has_attachment(message):
        flags.add("attachments_ignored")
    blocks = [Block(ElementKind.TITLE, subject, level=1)] if subject else []
    # Headings of the body stand below the subject.
    blocks += [Block(b.kind, b.text, b.level + 1 if b.level else 0, b.page, b.html) for b in found]
    text, elements, repairs = join(blocks, max_characters)
    return parsed(text, elements, title=subject or None, metadata=metadata, flags=flags | repairs)


def _body(message: EmailMessage) -> tuple[list[Block], set[str]]:
    for kind in ("html", "plain"):
        part = message.get_body(preferencelist=(kind,))
        if part is None:
            continue
        payload = part.get_payload(decode=True)
        text, flags = decode(payload if isinstance(payload, bytes) else b"", part.get_content_charset())
        if kind == "html":
            guards.check_html(text.encode("utf-8"))
            found = html.blocks(text)[1]
        else:
            found = _plain(text)
        if found:
            return found, flags
    return [], set()


def _plain(text: str) -> list[Block]:
    unstructured_ready()
    from unstructured.partition.text import partition_text

    kinds = {"ListItem": ElementKind.LIST_ITEM}
    elements = partition_text(text=text, languages=[""]) if text.strip() else []
    return [Block(kinds.get(e.category, ElementKind.PARAGRAPH), e.text) for e in elements if e.text.strip()]


def _has_attachment(message: EmailMessage) -> bool:
    return any(part.get_content_disposition() == "attachment" or part.get_filename() for part in message.walk())


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message.get(name, "")).split())
    except (ValueError, IndexError, AttributeError, TypeError, KeyError):
        return ""  # the header parser of the standard library trips over some malformed ones
