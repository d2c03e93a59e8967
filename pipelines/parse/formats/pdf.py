"""PDF with a text layer, through pdfminer.six; unstructured says what each text box is.

unstructured's own PDF reader needs its whole inference stack, and gives no elements without a word where a part of it
is missing. A file that is damaged is refused: fewer pages than it says it has are not a smaller document.
"""

import io
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pdfminer.high_level import extract_pages
from pdfminer.layout import LAParams, LTChar, LTFigure, LTImage, LTTextBox, LTTextLine
from pdfminer.pdfdocument import PDFDocument, PDFEncryptionError, PDFPasswordIncorrect
from pdfminer.pdfpage import PDFPage
from pdfminer.pdfparser import PDFParser
from pdfminer.pdftypes import resolve1
from pdfminer.psexceptions import PSException
from pdfminer.utils import decode_text

from pipelines.model import ElementKind, Parsed, Reason, Scalar
from pipelines.parse.assemble import Block, join, parsed
from pipelines.parse.failure import failure
from pipelines.parse.language import unstructured_ready

END_BYTES = 4096  # where the end marker must be; some writers pad or sign after it
TITLE_SIZE = 1.15  # times the size of most of the text
TITLE_CHARACTERS = 200
DEEPEST_TITLE = 4

_FROM_FILE_NAME = re.compile(r"(?i)^(?:microsoft \w+ - |untitled)|\.[a-z]{2,4}$")
_UNREADABLE = re.compile(r"\(cid:\d+\)")


@dataclass(frozen=True, slots=True)
class _Box:
    text: str
    size: float  # of most of its characters, in points, to the half
    bold: bool
    page: int


def parse(data: bytes, max_characters: int) -> Parsed:
    losses = _Losses()
    with losses:
        pages, metadata = _inspect(data)
        boxes, pictures, without_text = _boxes(data)
    if losses.stream:
        raise failure(Reason.CORRUPT, "a stream of the file is damaged")
    readable = sum(len(_UNREADABLE.sub("", box.text)) for box in boxes)
    if 2 * readable < sum(len(box.text) for box in boxes):
        raise failure(Reason.NEEDS_OCR, "the fonts do not say which characters they show")
    if not boxes:
        if pictures:
            raise failure(Reason.NEEDS_OCR, f"{pages} pages of pictures without a text layer")
        raise failure(Reason.NO_TEXT, f"{pages} pages without text")
    text, elements, flags = join(_blocks(boxes), max_characters)
    if without_text:
        flags.add(f"pages_without_text:{without_text}")
    if losses.string:
        flags.add("damaged_strings_left_out")
    title = str(metadata.pop("title", ""))
    return parsed(
        text,
        elements,
        title=None if not title or _FROM_FILE_NAME.search(title) else title,
        metadata=metadata,
        flags=flags,
    )


def _inspect(data: bytes) -> tuple[int, dict[str, Scalar]]:
    """Pages and metadata. Raises `encrypted` or `corrupt`."""
    if data.rstrip(b"\0\r\n\t ").rfind(b"%%EOF", -END_BYTES) < 0:
        raise failure(Reason.CORRUPT, "the file ends before its end marker")
    try:
        document = PDFDocument(PDFParser(io.BytesIO(data)))
        found = sum(1 for _ in PDFPage.create_pages(document))
        root = resolve1(document.catalog.get("Pages"))
        said = resolve1(root.get("Count")) if isinstance(root, dict) else None
    except (PDFPasswordIncorrect, PDFEncryptionError):
        raise failure(Reason.ENCRYPTED, "the PDF is protected by a password") from None
    except PSException as error:
        raise failure(Reason.CORRUPT, f"{type(error).__name__}: {error}") from None
    if not found or not isinstance(said, int) or found < said:
        raise failure(Reason.CORRUPT, f"{found} of {said} pages can be read")
    info = document.info[0] if document.info else {}
    return found, {key.lower(): value for key in ("Title", "Author", "Subject") if (value := _text(info.get(key)))}


def _text(value: object) -> str:
    value = resolve1(value)
    return decode_text(value).strip() if isinstance(value, bytes) else ""


def _boxes(data: bytes) -> tuple[list[_Box], int, int]:
    """Text boxes in reading order; the number of pictures; the number of pages that have pictures and no text."""
    boxes: list[_Box] = []
    pictures = without_text = 0
    for number, page in enumerate(extract_pages(io.BytesIO(data), laparams=LAParams(all_texts=True)), start=1):
        before, pictures_before = len(boxes), pictures
        for item in _walk(page):
            if isinstance(item, LTImage):
                pictures += 1
            elif isinstance(item, LTTextBox) and (box := _box(item, number)):
                boxes.append(box)
        without_text += len(boxes) == before and pictures > pictures_before
    return boxes, pictures, without_text


def _walk(container: object) -> Iterator[object]:
    for item in container:  # type: ignore[attr-defined]
        yield item
        if isinstance(item, LTFigure):
            yield from _walk(item)


def _box(box: LTTextBox, page: int) -> _Box | None:
    lines = [" ".join(line.get_text().split()) for line in box if isinstance(line, LTTextLine)]
    text = "\n".join(line for line in lines if line)
    if not text:
        return None
    characters = [c for line in box if isinstance(line, LTTextLine) for c in line if isinstance(c, LTChar)]
    sizes = Counter(round(2 * c.size) / 2 for c in characters)
    bold = sum("bold" in c.fontname.lower() for c in characters)
    return _Box(text, sizes.most_common(1)[0][0] if sizes else 0.0, 2 * bold > len(characters), page)


def _blocks(boxes: list[_Box]) -> Iterator[Block]:
    unstructured_ready()
    from unstructured.partition.text import element_from_text
    from unstructured.partition.text_type import is_possible_title

    weights: Counter[float] = Counter()
    for box in boxes:
        weights[box.size] += len(box.text)
    body = weights.most_common(1)[0][0]
    larger = sorted({b.size for b in boxes if b.size >= TITLE_SIZE * body and _may_be_title(b.text)}, reverse=True)
    levels = {size: min(rank, DEEPEST_TITLE - 1) for rank, size in enumerate(larger, start=1)}
    for box in boxes:
        line = " ".join(box.text.split())
        if box.size in levels and _may_be_title(box.text):
            yield Block(ElementKind.TITLE, line, level=levels[box.size], page=box.page)
        elif box.bold and _may_be_title(box.text) and is_possible_title(line):
            yield Block(ElementKind.TITLE, line, level=DEEPEST_TITLE, page=box.page)
        elif element_from_text(line).category == "ListItem":
            yield Block(ElementKind.LIST_ITEM, box.text, page=box.page)
        else:
            yield Block(ElementKind.PARAGRAPH, line, page=box.page)


def _may_be_title(text: str) -> bool:
    letters = sum(c.isalpha() for c in text)
    return 2 < len(text) <= TITLE_CHARACTERS and text.count("\n") < 3 and 2 * letters >= len(text)


class _Losses(logging.Handler):
    """Notices that pdfminer went on without a part of the file: it says so in its log and nowhere else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.stream = False
        self.string = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        self.stream = self.stream or "Data-loss" in message
        self.string = self.string or "Cannot render" in message

    def __enter__(self) -> None:
        logging.getLogger("pdfminer").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("pdfminer").removeHandler(self)
