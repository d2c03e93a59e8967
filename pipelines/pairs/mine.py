"""Pairs that a corpus holds already: a heading and what stands under it, a question and what follows it. And pairs of
which a language model writes the question.

What a heading or a question says is not in the text that is learned for it, else there would be nothing to learn.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pipelines.config import Config, PairsConfig
from pipelines.errors import ConfigError
from pipelines.files import Workspace
from pipelines.generate import LEAST_WORDS, Writer, passage_of, write_questions
from pipelines.manifests import read_chunks
from pipelines.model import Chunk, Revision, digest
from pipelines.pairs.judgements import Wanted
from pipelines.pairs.text import normalised
from pipelines.progress import Progress

LEAST_QUERY_WORDS = 2
MOST_QUERY_WORDS = 30

_QUESTION = re.compile(r"(?:^|(?<=[.!?]\s)|(?<=\n))([A-Z\"'(][^.!?\n]{8,240}\?)(?=\s)")


def mine(config: PairsConfig, workspace: Workspace, index: str) -> list[Wanted]:
    """At most `pairs.mined`, one of each document before a second of any, in an order that is that of hashes."""
    if not config.mined:
        return []
    return _in_turns(workspace, index, config.mined, str(config.seed), _of)


@dataclass(frozen=True)
class Synthetic:
    """Pairs with questions that a model wrote, and how many chunks it wrote none for that can be learned from."""

    wanted: list[Wanted]
    failed: int


def synthetic(config: Config, workspace: Workspace, progress: Progress) -> Synthetic:
    """For at most `pairs.synthetic` chunks, chosen as `mine` does. The same chunk is asked about once.

    Raises `ConfigError` where there is no `generate.model`, and what that model raises.
    """
    if not config.pairs.synthetic:
        return Synthetic([], 0)
    if not config.generate.model:
        raise ConfigError(
            f"pairs.synthetic is {config.pairs.synthetic}, and there is no model to write questions",
            hint="set generate.model, or pairs.synthetic to 0",
        )
    with Writer(config.generate, workspace, progress) as writer:
        chosen = _in_turns(workspace, config.index.name, config.pairs.synthetic, str(config.pairs.seed), _passages)
        progress.start("questions", len(chosen))
        questions = write_questions(writer, [each.query for each in chosen])
    found = [
        replace(each, query=questions[each.query]) for each in chosen if _is_worth(questions[each.query], each.query)
    ]
    return Synthetic(found, len(chosen) - len(found))


def _in_turns(
    workspace: Workspace, index: str, count: int, seed: str, of: Callable[[Revision, str], Iterator[Wanted]]
) -> list[Wanted]:
    """At most `count` of what `of` finds in the revisions: one of each document before a second of any."""
    _, rows = read_chunks(workspace, index)
    documents = {row.revision_key: row.uri for row in rows if row.n_chunks}
    chosen = sorted(documents, key=lambda key: digest(seed, key))[:count]
    if not chosen:
        return []
    each = -(-count // len(chosen))
    turns: list[tuple[int, bytes, Wanted]] = []
    for key, value in workspace.store("chunks").read(chosen):
        found = sorted(of(Revision.from_json(value), documents[key]), key=lambda one: digest(seed, one.query))
        turns += [(turn, digest(seed, key), one) for turn, one in enumerate(found[: 2 * each])]
    turns.sort(key=lambda turn: turn[:2])
    return [one for _, _, one in turns[:count]]


def _passages(revision: Revision, document: str) -> Iterator[Wanted]:
    """Chunks that say enough, with what a model is shown of them in the place of the question."""
    for chunk in revision.chunks:
        if len(normalised(chunk.text).split()) >= LEAST_WORDS:
            passage = passage_of(chunk.section, chunk.text)
            yield Wanted(passage, (document,), chunk.key, source="synthetic")


def _is_worth(question: str, passage: str) -> bool:
    words = normalised(question)
    return LEAST_QUERY_WORDS <= len(words.split()) <= MOST_QUERY_WORDS and words not in normalised(passage)


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
