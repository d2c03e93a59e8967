"""What a model says about a chunk: shown little enough, and cut to what fits."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_chunk import Words, blocks, markdown

from pipelines.chunk import written
from pipelines.chunk.revision import make_revision
from pipelines.chunk.written import DOCUMENT_CHARACTERS, Cut, Estimate, guess_contexts, write_contexts
from pipelines.config import ChunkConfig, GenerateConfig
from pipelines.files import Workspace
from pipelines.generate import Writer
from pipelines.model import Revision

GENERATE = GenerateConfig(model="openai:none", endpoint="http://127.0.0.1:9/v1")


class Saying(Writer):
    """Says the same about everything, without a server."""

    def __init__(self, said: str) -> None:
        super().__init__(GENERATE, Workspace(Path("/nonexistent")))
        self.said = said
        self.shown: list[str] = []

    def write(self, wanted, max_tokens):  # type: ignore[no-untyped-def]
        self.shown += [conversation[-1].content for conversation in wanted.values()]
        return dict.fromkeys(wanted, self.said)


def revised(text: str, config: ChunkConfig, writer: Saying) -> tuple[Revision, Revision]:
    """As it was cut, and with contexts."""
    parsed = markdown(text)
    cut = make_revision(parsed, config, Words())
    (found,) = write_contexts([Cut("a.md", parsed, cut)], writer, config, Words())
    return cut, found


@settings(max_examples=40, deadline=None)
@given(blocks, st.sampled_from([16, 32, 64, 200]), st.sampled_from(["word " * 90, "Short one. " * 3, "x", ""]))
def test_with_what_the_model_says_chunks_still_fit(parts: list[str], limit: int, said: str) -> None:
    config = ChunkConfig(max_tokens=limit, min_tokens=4, context="model")
    cut, found = revised("\n\n".join(parts), config, Saying(said))
    assert [chunk.text for chunk in found.chunks] == [chunk.text for chunk in cut.chunks]
    for before, chunk in zip(cut.chunks, found.chunks, strict=True):
        assert chunk.tokens == Words().count([chunk.embedded_text])[0]
        assert chunk.tokens <= limit or chunk == before  # a single piece that is too long by itself
        assert chunk.context.startswith(before.context)


def test_whole_sentences_are_kept_as_long_as_they_fit() -> None:
    config = ChunkConfig(max_tokens=40, min_tokens=4, context="model")
    said = "This is the first of them. " + "And a second one with many words " * 4 + "."
    _, found = revised("# Title\n\nA paragraph of a few words.", config, Saying(said))
    assert found.chunks[0].context == "This is the first of them."
    longer = ChunkConfig(max_tokens=64, min_tokens=4, context="model")
    _, found = revised("# Title\n\nA paragraph of a few words.", longer, Saying(said))
    assert found.chunks[0].context.endswith("many words .")


def test_where_cuts_fall_does_not_depend_on_what_is_said() -> None:
    text = "\n\n".join(f"## Part {n}\n\n" + f"word{n} " * 70 for n in range(6))
    config = ChunkConfig(max_tokens=64, min_tokens=8, context="model")
    places = {
        tuple((chunk.start, chunk.end) for chunk in revised(text, config, Saying(said))[1].chunks)
        for said in ("", "One.", "many words " * 50)
    }
    assert len(places) == 1


def test_of_a_long_document_the_model_sees_the_beginning_and_what_is_around() -> None:
    text = "# The whole\n\n" + "\n\n".join(f"Paragraph {n} " + "of some words " * 12 for n in range(400))
    writer = Saying("x")
    revised(text, ChunkConfig(max_tokens=64, context="model"), writer)
    assert len(writer.shown) > 100
    for shown in writer.shown:
        assert len(shown) < DOCUMENT_CHARACTERS + 3000
        assert shown.startswith("<document>\n# The whole")
        document, _, passage = shown.partition("</document>")
        assert passage.removeprefix("\n\n<passage>\n").removesuffix("\n</passage>").split("\n\n")[-1] in document


def test_control_characters_do_not_get_into_a_context() -> None:
    _, found = revised("A few words.", ChunkConfig(context="model"), Saying("one\x00 two\n\n\tthree\x9b"))
    assert found.chunks[0].context == "one two three"


def test_a_guess_is_of_a_chunk_that_there_is_not(tmp_path: Path) -> None:
    parsed = markdown("# Title\n\nA paragraph of a few words.")
    config = ChunkConfig(context="model")
    cut = Cut("a.md", parsed, make_revision(parsed, config, Words()))
    estimate = Estimate()
    with Writer(GENERATE, Workspace(tmp_path)) as writer:
        (found,) = guess_contexts([cut], writer, config, Words(), estimate)
    assert {chunk.key for chunk in found.chunks}.isdisjoint(chunk.key for chunk in cut.revision.chunks)
    assert estimate.contexts == len(found.chunks) == 1
    assert estimate.prompt_tokens > 50
    assert list(tmp_path.iterdir()) == []


def test_a_change_of_the_words_is_another_recipe_and_another_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Writer(GENERATE, Workspace(tmp_path)) as writer:
        before = writer.key(f"context {written.VERSION}", "a.md", "", "text")
        monkeypatch.setattr(written, "VERSION", 2)
        assert writer.key(f"context {written.VERSION}", "a.md", "", "text") != before
