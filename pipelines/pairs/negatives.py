"""Hard negatives: what search finds for a question beside what answers it.

A chunk that is nearly as near as the answer may be an answer that nobody judged. So one is taken only below a share of
the positive's similarity (`pairs.negatives_below`): "TopK-PercPos" of NV-Retriever (Moreira et al. 2024).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines import index
from pipelines.config import PairsConfig
from pipelines.files import Workspace
from pipelines.index.search import Hit
from pipelines.model import Revision
from pipelines.pairs.judgements import Wanted
from pipelines.pairs.rows import Pair

DEPTH = 100  # chunks that are looked at for each question

Place = tuple[bytes, bytes]  # the key of a revision in the store `chunks`, the key of a chunk in it


@dataclass(frozen=True)
class Candidate:
    """A pair before its texts are read."""

    wanted: Wanted
    positive: Place
    negatives: tuple[Place, ...]
    document: str


def add_negatives(reader: index.Reader, version: int, wanted: Wanted, config: PairsConfig) -> Iterator[Candidate]:
    """One candidate for each document that answers the question, none where the version has no such document."""
    hits = reader.search(wanted.query, k=DEPTH, at=version, exact=True).hits
    for item in wanted.relevant:
        positive = _positive(reader, version, wanted, item, hits)
        if positive is None:
            continue
        limit = config.negatives_below * positive.score
        others = [
            hit
            for hit in hits
            if hit.score < limit and hit.text != positive.text and not _answers(hit, wanted.relevant)
        ]
        yield Candidate(
            wanted, _place(positive), tuple(_place(hit) for hit in others[: config.negatives]), positive.document
        )


def _positive(reader: index.Reader, version: int, wanted: Wanted, item: str, hits: Sequence[Hit]) -> Hit | None:
    """The chunk that answers: the one that is known, else the nearest one of the document or with the words."""

    def first(hits: Sequence[Hit]) -> Hit | None:
        known = wanted.chunk.hex() if wanted.chunk else None
        return next((hit for hit in hits if (hit.chunk == known if known else _answers(hit, (item,)))), None)

    found = first(hits)
    for document in dict.fromkeys((item, item.partition("#")[0])):
        if found is None:
            found = first(
                reader.search(wanted.query, k=DEPTH, at=version, exact=True, filter={"document": document}).hits
            )
    return found


def _answers(hit: Hit, relevant: Sequence[str]) -> bool:
    """Whether a golden set that names `relevant` counts this hit: its document, or a part of its text."""
    for document in (hit.document, *hit.also_in):
        for item in relevant:
            if item == document or (item.startswith(f"{document}#") and item[len(document) + 1 :] in hit.text):
                return True
    return False


def _place(hit: Hit) -> Place:
    return bytes.fromhex(hit.revision), bytes.fromhex(hit.chunk)


def texts_of(candidates: Sequence[Candidate], workspace: Workspace) -> Iterator[Pair]:
    """The pairs, with every text as it is embedded; each revision is read once."""
    wanted: dict[bytes, set[bytes]] = {}
    for each in candidates:
        for revision, chunk in (each.positive, *each.negatives):
            wanted.setdefault(revision, set()).add(chunk)
    texts: dict[bytes, str] = {}
    for key, value in workspace.store("chunks").read(wanted):
        texts |= {c.key: c.embedded_text for c in Revision.from_json(value).chunks if c.key in wanted[key]}
    for each in candidates:
        yield Pair(
            each.wanted.query,
            each.wanted.passage or texts[each.positive[1]],
            tuple(texts[chunk] for _, chunk in each.negatives),
            each.document,
            each.wanted.source,
        )
