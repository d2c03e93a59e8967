"""One document: bytes and a media type in, text with structure out."""

import re
from dataclasses import replace

from pipelines import media
from pipelines.config import ParseConfig
from pipelines.model import Parsed, Reason
from pipelines.parse import guards
from pipelines.parse.failure import ParseFailure, failure, one_line

MIB = 2**20
_PATH = re.compile(r"(?:/[\w.+-]+){2,}|[A-Za-z]:\\\S+|\b0x[0-9a-f]{6,}\b")


def parse_bytes(data: bytes, media_type: str, config: ParseConfig) -> Parsed:
    """The parsed document; the same bytes always give the same. Raises `ParseFailure` with a stable reason.

    Runs in this process without limits on time and memory: `workers` puts those around it.
    """
    actual = media.sniff(media_type, data)
    guards.check(data, actual, config)
    try:
        result = _parse(data, actual, config)
    except (ParseFailure, ImportError):
        raise
    except RecursionError:
        raise failure(Reason.TOO_DEEP, "nested deeper than the parser can follow") from None
    except MemoryError:
        raise failure(Reason.OUT_OF_MEMORY, "the document does not fit the memory limit") from None
    except Exception as error:  # parser libraries raise anything at all on damaged files
        raise failure(Reason.CORRUPT, _without_paths(f"{type(error).__name__}: {error}")) from error
    if not result.text.strip() or not result.elements:
        raise failure(Reason.NO_TEXT, "no text in the document")
    if len(result.text.encode("utf-8")) > config.max_text_mib * MIB:
        raise failure(Reason.BOMB, f"more text than parse.max_text_mib = {config.max_text_mib}")
    if actual != media_type:
        result = replace(result, flags=tuple(sorted({*result.flags, f"sniffed:{actual}"})))
    return result


def prepare(media_type: str) -> None:
    """Import what this type needs, so that a limit on time or memory counts the document alone."""
    if media_type == media.MARKDOWN:
        from pipelines.parse.formats import markdown  # noqa: F401
    elif media_type == media.PDF:
        from pipelines.parse.formats import pdf  # noqa: F401
    if media_type in (media.TEXT, media.MAIL, media.HTML, media.PDF) or media_type in media.OOXML:
        from pipelines.parse.formats import partition

        partition.prepare(media_type)


def _parse(data: bytes, media_type: str, config: ParseConfig) -> Parsed:
    # Each import is here because only documents of that type should pay for the libraries behind it.
    limit = config.max_text_mib * MIB
    if media_type == media.BEIR:
        from pipelines.parse.formats import beir

        return beir.parse(data)
    if media_type == media.MARKDOWN:
        from pipelines.parse.formats import markdown

        return markdown.parse(data)
    if media_type == media.TEXT:
        from pipelines.parse.formats import text

        return text.parse(data)
    if media_type in (media.CSV, media.TSV):
        from pipelines.parse.formats import table

        return table.parse(data, media_type, limit)
    if media_type == media.HTML:
        from pipelines.parse.formats import html

        return html.parse(data, limit)
    if media_type == media.MAIL:
        from pipelines.parse.formats import mail

        return mail.parse(data, limit)
    if media_type == media.PDF:
        from pipelines.parse.formats import pdf

        return pdf.parse(data, limit)
    if media_type in media.OOXML:
        from pipelines.parse.formats import office

        return office.parse(data, media_type, limit)
    raise failure(Reason.UNSUPPORTED, f"no parser for {media_type}")


def _without_paths(text: str) -> str:
    """Details go into manifests that are compared between machines: no path and no address of this one."""
    return one_line(_PATH.sub("…", text))
