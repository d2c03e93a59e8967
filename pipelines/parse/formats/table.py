"""CSV and TSV: a line of text per row, values exactly as they are written.

Read with the standard library. unstructured reads them through pandas, which turns `007` into `7` and `NA` into
nothing, needs 250 times the memory of the file, and takes 2 s for a megabyte.
"""

import csv
import io
from collections.abc import Iterator
from html import escape
from itertools import islice

from pipelines import media
from pipelines.model import ElementKind, Parsed
from pipelines.parse.assemble import Block, join, parsed
from pipelines.parse.decode import decode
from pipelines.parse.formats.partition import row_text

ROWS_PER_ELEMENT = 200  # a long table is given in parts, each with HTML of a bearable size
_DELIMITERS = ",;\t|"
_SNIFFED_CHARACTERS = 65536
_LONGEST_FIELD = 2**20


def parse(data: bytes, media_type: str, max_characters: int) -> Parsed:
    source, flags = decode(data)
    delimiter = "\t" if media_type == media.TSV else _delimiter(source[:_SNIFFED_CHARACTERS])
    csv.field_size_limit(_LONGEST_FIELD)
    rows = csv.reader(io.StringIO(source, newline=""), delimiter=delimiter)
    text, elements, repairs = join(_blocks(rows), max_characters)
    return parsed(text, elements, flags=flags | repairs)


def _delimiter(sample: str) -> str:
    """The delimiter that splits the first rows most evenly; a comma where none does."""

    def score(delimiter: str) -> tuple[int, int]:
        widths = [
            len(row) for row in islice(csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter), 20) if row
        ]
        common = max(set(widths), key=widths.count, default=1)
        return (widths.count(common) if common > 1 else 0, common)

    return max(_DELIMITERS, key=score)


def _blocks(rows: Iterator[list[str]]) -> Iterator[Block]:
    while part := list(islice(rows, ROWS_PER_ELEMENT)):
        cells = [[" ".join(cell.split()) for cell in row] for row in part]
        lines = [line for row in cells if (line := row_text(row))]
        if lines:
            body = "".join(
                "<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in cells if any(row)
            )
            yield Block(ElementKind.TABLE, "\n".join(lines), html=f"<table>{body}</table>")
