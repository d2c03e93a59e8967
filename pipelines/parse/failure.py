"""Why a document cannot be parsed."""

from pipelines.errors import InputError
from pipelines.model import Reason

# The next run tries these again: the machine may have been busy, and the limit is not part of the document.
TRANSIENT = frozenset({Reason.TIMEOUT, Reason.OUT_OF_MEMORY, Reason.CRASHED})
# These depend on a limit in the parameters, so they are tried again when the limits change.
LIMITED = frozenset({Reason.TOO_LARGE, Reason.BOMB})

DETAIL_CHARACTERS = 200

_HINTS = {
    Reason.EMPTY: "the file has no bytes: remove it or exclude it",
    Reason.NO_TEXT: "nothing to index in this file: exclude it",
    Reason.UNSUPPORTED: "convert it to PDF, DOCX, HTML or text, or exclude it",
    Reason.ENCRYPTED: "save it without a password",
    Reason.CORRUPT: "open it in its own program and save it again",
    Reason.TIMEOUT: "split the document, or raise parse.timeout_seconds",
    Reason.OUT_OF_MEMORY: "split the document, or raise parse.memory_mib",
    Reason.CRASHED: "the parser library died on this file: convert it to another format",
    Reason.NEEDS_OCR: "run it through OCR first: it holds pictures of text",
    Reason.BOMB: "it unpacks to far more than its size; raise parse.max_text_mib if you trust it",
    Reason.XML_ENTITIES: "remove the DTD from the file",
    Reason.TOO_DEEP: "its structure is nested deeper than any reader would follow: flatten it",
    Reason.UNREADABLE: "fetch the store with `dvc pull`",
    Reason.TOO_LARGE: "split the file, or raise parse.max_file_mib",
}


class ParseFailure(InputError):
    """One document cannot be parsed. `reason` is the stable code, `detail` is a line for people."""

    @property
    def reason(self) -> Reason:
        return Reason(self.context["reason"])

    @property
    def detail(self) -> str:
        return self.message


def failure(reason: Reason, detail: str) -> ParseFailure:
    """The error for `reason`, with a detail that fits one line of a manifest."""
    return ParseFailure(one_line(detail), hint=_HINTS[reason], reason=reason.value)


def one_line(text: str) -> str:
    """`text` without control characters and line breaks, cut to `DETAIL_CHARACTERS`."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * DETAIL_CHARACTERS])
    line = " ".join(printable.split())
    return line if len(line) <= DETAIL_CHARACTERS else line[: DETAIL_CHARACTERS - 1] + "…"
