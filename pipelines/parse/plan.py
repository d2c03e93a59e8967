"""What a run of parse has to do, found out from manifests alone."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.config import ParseConfig
from pipelines.manifests import ElementsRow, element_key
from pipelines.model import Document, Reason
from pipelines.parse.failure import LIMITED, TRANSIENT, ParseFailure, failure

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes to read as one media type."""

    content_sha256: str
    media_type: str


@dataclass(frozen=True)
class Previous:
    """The manifest of the run before."""

    rows: dict[str, ElementsRow]  # by URI
    limits: str = ""

    @property
    def keys(self) -> set[bytes]:
        """Elements that the store holds, if it is whole."""
        return {row.element_key for row in self.rows.values() if row.element_key}


@dataclass(frozen=True)
class Plan:
    """`wanted`: by element key, what must be in the store; `failed`: what is known not to parse."""

    wanted: dict[bytes, Source]
    known: set[bytes]
    failed: dict[bytes, ParseFailure]


def limits_text(config: ParseConfig) -> str:
    """The limits that decide what is too large: failures because of them are tried again when they change."""
    return f"{config.max_file_mib}/{config.max_text_mib}"


def make_plan(
    documents: Iterable[Document], previous: Previous, same_parser: bool, parser: str, config: ParseConfig
) -> Plan:
    keys = previous.keys
    failures = _Failures(previous, config) if same_parser else None
    wanted: dict[bytes, Source] = {}
    known: set[bytes] = set()
    failed: dict[bytes, ParseFailure] = {}
    for document in documents:
        key = element_key(document.content_sha256, document.media_type, parser)
        if key in keys:
            known.add(key)
        elif document.size_bytes > config.max_file_mib * MIB:
            detail = f"{document.size_bytes:,} bytes; parse.max_file_mib is {config.max_file_mib}"
            failed[key] = failure(Reason.TOO_LARGE, detail)
        elif failures and (error := failures.of(document)):
            failed[key] = error
        else:
            wanted[key] = Source(document.content_sha256, document.media_type)
    return Plan({key: source for key, source in wanted.items() if key not in failed}, known, failed)


class _Failures:
    """What the run before found that will not be different now."""

    def __init__(self, previous: Previous, config: ParseConfig) -> None:
        retried = TRANSIENT if previous.limits == limits_text(config) else TRANSIENT | LIMITED
        self._by_content: dict[tuple[str, str], ParseFailure] = {}
        self._by_uri: dict[tuple[str, str], ParseFailure] = {}
        for row in previous.rows.values():
            if row.reason is None or row.failed_sha256 is None or row.reason in retried:
                continue
            error = failure(row.reason, row.detail)
            # The row of a document that was kept names the type of what is served, not of what failed; but one URI
            # with the same bytes has the same type.
            self._by_uri[row.uri, row.failed_sha256] = error
            if row.state == "quarantined":
                self._by_content[row.content_sha256, row.media_type] = error

    def of(self, document: Document) -> ParseFailure | None:
        return self._by_uri.get((document.uri, document.content_sha256)) or self._by_content.get(
            (document.content_sha256, document.media_type)
        )
