"""Pairs that a corpus holds already: a heading and what stands under it, a question and what follows it.

What a heading says is not in the text that is learned for it, else there would be nothing to learn.
"""

import re
from collections.abc import Iterator

from pipelines.config import PairsConfig
from pipelines.files import Workspace
from pipelines.manifests import read_chunks
from pipelines.model import Chunk, Revision, digest
from pipelines.pairs.judgements import Wanted
from pipelines.pairs.text import normalised

LEAST_WORDS = 12  # of a passage
LEAST_QUERY_WORDS = 2
MOST_QUERY_WORDS = 30

_QUESTION = re.compile(r"(?:^|(?<=[.!?]\s)|(?<=\n))([A-Z\"'(][^.!?\n]{8,240}\?)(?=\s)")


def mine(config: PairsConfig, workspace: Workspace, index: str) -> list[Wanted]:
    """At most `pairs.mined`, one of each document before a second of any, in an order that is that of hashes."""
    if not config.mined:
        return []
    _, rows = read_chunks(workspace, index)
    documents = {row.revision_key: row.uri for row in rows if row.n_chunks}
    seed = str(config.seed)
    chosen = sorted(documents, key=lambda key: digest(seed, key))[: config.mined]
    if not chosen:
        return []
    each = -(-config.mined // len(chosen))
    turns: list[tuple[int, bytes, Wanted]] = []
    for key, value in workspace.store("chunks").read(chosen):
        found = sorted(_of(Revision.from_json(value), documents[key]), key=lambda one: digest(seed, one.query))
        turns += [(turn, digest(seed, key), one) for turn, one in enumerate(found[: 2 * each])]
    turns.sort(key=lambda turn: turn[:2])
    return [one for _, _, one in turns[: config.mined]]


def _of(revision: Revision, document: str) -> Iterator[Wanted]:
    seen = set()
    for chunk in revision.chunks:
        heading = _heading(revision, chunk)
        body = _without(chunk.text, heading)
        if (
            heading not in seen
            and LEAST_QUERY_WORDS <= len(normalised(heading).split()) <= MOST_QUERY_WORDS
            and len(normalised(body).split()) >= LEAST_WORDS
        ):
            seen.add(heading)
            yield Wanted(heading, (document,), chunk.key, body, "headings")
        for match in _QUESTION.finditer(chunk.text):
            rest = chunk.text[match.end() :].strip()
            if len(normalised(rest).split()) >= LEAST_WORDS and len(match[1].split()) <= MOST_QUERY_WORDS:
                yield Wanted(match[1], (document,), chunk.key, rest, "questions")


def _heading(revision: Revision, chunk: Chunk) -> str:
    """The innermost heading over a chunk, with the one above it where it is a single word."""
    path = [*chunk.section] or [revision.title or ""]
    if len(normalised(path[-1]).split()) >= LEAST_QUERY_WORDS:
        return path[-1]
    return " ".join(path[-2:] if len(path) > 1 else filter(None, [revision.title, *path]))


def _without(text: str, heading: str) -> str:
    """The chunk's text without the line that is its heading."""
    first, _, rest = text.partition("\n")
    first = first.strip("# ")  # of Markdown
    return rest.strip() if normalised(first) and normalised(first) in normalised(heading) else text
