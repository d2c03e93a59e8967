"""What a language model says about a chunk before it is embedded: `chunk.context: model`.

One or two sentences that say where in its document the chunk belongs, after title and section path. They are written
once for a chunk of a document, whatever changes around it, so an edit elsewhere moves no vector. The model is no part
of the truth: what it wrote is in the revision, and in the revision's key, so that a second answer makes another
revision and never another content of the same one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipelines.config import ChunkConfig
from pipelines.generate import Conversation, Message, Writer
from pipelines.model import Chunk, Parsed, Revision, canonical_json, digest, revision_key
from pipelines.models import TokenCounter

VERSION = 1  # of the words below and of what is shown: a change of them is a new recipe
DOCUMENT_CHARACTERS = 6000  # that are shown of a document: about 1,500 tokens of English
ANSWER_TOKENS = 120
USUAL_TOKENS = 60  # of two sentences, for estimates
TOKEN_CHARACTERS = 4  # of English, for estimates

ASK = """You help a search engine. Say in one or two short sentences where the passage belongs: what the document is, \
and what the passage says about which part of it. Name the people, products, places and dates that the passage only \
points to. Do not repeat the passage and do not judge it. Write in the language of the passage, the sentences alone."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SENTENCE_END = re.compile(r"(?<=[.!?。])\s+")


@dataclass(frozen=True)
class Cut:
    """A document after cutting: its chunks have headings alone as their context.

    `uri`: the first with its bytes; `before`: what it was by the same recipe, from which contexts are taken over, so
    that also a clone without kept answers asks about new chunks only.
    """

    uri: str
    parsed: Parsed
    revision: Revision
    before: Revision | None = None


@dataclass
class Estimate:
    """What a dry run would ask a model for."""

    contexts: int = 0
    prompt_tokens: int = 0

    @property
    def completion_tokens(self) -> int:
        return self.contexts * USUAL_TOKENS


def write_contexts(cuts: Sequence[Cut], writer: Writer, config: ChunkConfig, counter: TokenCounter) -> list[Revision]:
    """The revisions with what the model says. Raises what the model raises; what it wrote until then is kept."""
    known, asked = _sorted_out(cuts, writer)
    return _with_contexts(cuts, writer, known | writer.write(asked, ANSWER_TOKENS), config, counter)


def guess_contexts(
    cuts: Sequence[Cut], writer: Writer, config: ChunkConfig, counter: TokenCounter, estimate: Estimate
) -> list[Revision]:
    """The same without asking: contexts that are not written yet are something that no chunk has, and are counted."""
    known, asked = _sorted_out(cuts, writer)
    known |= writer.found(asked)
    missing = {key: conversation for key, conversation in asked.items() if key not in known}
    estimate.contexts += len(missing)
    estimate.prompt_tokens += (
        sum(len(message.content) for each in missing.values() for message in each) // TOKEN_CHARACTERS
    )
    return _with_contexts(cuts, writer, known | {key: key.hex() for key in missing}, config, counter)


def key_of(content_sha256: str, media_type: str, recipe: str, revision: Revision) -> bytes:
    """32 bytes: the key of a revision with contexts, which are part of what it is."""
    contexts = canonical_json([chunk.context for chunk in revision.chunks])
    return revision_key(content_sha256, media_type, digest(recipe, contexts).hex())


def _sorted_out(cuts: Sequence[Cut], writer: Writer) -> tuple[dict[bytes, str], dict[bytes, Conversation]]:
    """What earlier revisions have, and what is to be asked."""
    known: dict[bytes, str] = {}
    asked: dict[bytes, Conversation] = {}
    for cut in cuts:
        contexts: dict[str, list[str]] = {}
        for chunk in cut.before.chunks if cut.before else ():
            contexts.setdefault(chunk.text, []).append(chunk.context)
        for chunk in cut.revision.chunks:
            said = _said_before(chunk, contexts.get(chunk.text, []))
            if said is None:
                messages = [Message("system", ASK), Message("user", _shown(cut.parsed, chunk))]
                asked[_key(cut, chunk, writer)] = messages
            else:
                known[_key(cut, chunk, writer)] = said
    return known, asked


def _said_before(chunk: Chunk, contexts: Sequence[str]) -> str | None:
    """What the model said about the same text under the same headings."""
    for context in contexts:
        heading, _, said = context.rpartition("\n")  # neither of them has a line break
        if said and heading == chunk.context:
            return said
    return None


def _key(cut: Cut, chunk: Chunk, writer: Writer) -> bytes:
    """Not of what is around the chunk. Of the document: the same words elsewhere belong somewhere else, and what was
    written from one document must not say in another what only the first one knows."""
    return writer.key(f"context {VERSION}", cut.uri, chunk.context, chunk.text)


def _shown(parsed: Parsed, chunk: Chunk) -> str:
    headed = f"{chunk.context}\n\n{chunk.text}" if chunk.context else chunk.text
    return f"<document>\n{_window(parsed.text, chunk)}\n</document>\n\n<passage>\n{headed}\n</passage>"


def _window(text: str, chunk: Chunk) -> str:
    """The document; of a long one how it begins, and what is around the chunk."""
    if len(text) <= DOCUMENT_CHARACTERS:
        return text
    third = DOCUMENT_CHARACTERS // 3
    start, end = chunk.start - third, chunk.end + third
    return text[:end] if start <= third else f"{text[:third]}\n[...]\n{text[start:end]}"


def _with_contexts(
    cuts: Sequence[Cut], writer: Writer, answers: Mapping[bytes, str], config: ChunkConfig, counter: TokenCounter
) -> list[Revision]:
    revisions = []
    for cut in cuts:
        chunks = cut.revision.chunks
        said = [_sentences(answers[_key(cut, chunk, writer)]) for chunk in chunks]
        fitted = (_fitted(chunk, words, config, counter) for chunk, words in zip(chunks, said, strict=True))
        revisions.append(replace(cut.revision, chunks=tuple(fitted)))
    return revisions


def _fitted(chunk: Chunk, said: str, config: ChunkConfig, counter: TokenCounter) -> Chunk:
    """The chunk with as much of it as fits: whole sentences, then words from the beginning."""
    while said:
        longer = replace(chunk, context=f"{chunk.context}\n{said}" if chunk.context else said)
        (tokens,) = counter.count([longer.embedded_text])
        if tokens <= config.max_tokens:
            return replace(longer, tokens=tokens)
        said = _shorter(said)
    return chunk


def _shorter(said: str) -> str:
    *sentences, _ = _SENTENCE_END.split(said)
    if sentences:
        return " ".join(sentences)
    words = said.split()
    return " ".join(words[: len(words) * 3 // 4])


def _sentences(answer: str) -> str:
    return " ".join(_CONTROL.sub(" ", answer).split())
