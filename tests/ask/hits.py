"""Passages without an index around them."""

from pipelines.ask.passages import Passage, numbered
from pipelines.index import Hit


def hit(text: str, document: str = "a.md", **more: object) -> Hit:
    values: dict[str, object] = {
        "rank": 1,
        "score": 1.0,
        "document": document,
        "content_sha256": "0" * 64,
        "revision": "1" * 64,
        "chunk": f"{abs(hash((document, text))):064x}",
        "text": text,
        "section": [],
        "page": None,
        "start": 100,
        "end": 100 + len(text),
        "parent": (0, 1000),
        "also_in": [],
        "similar": [],
        "metadata": {},
    }
    return Hit(**(values | more))  # type: ignore[arg-type]


def passages(*texts: str) -> list[Passage]:
    return numbered([hit(text, f"{place}.md") for place, text in enumerate(texts, 1)])
