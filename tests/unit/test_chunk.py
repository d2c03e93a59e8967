"""Chunks: verbatim slices that fit the model, cut at joints, and stable under edits elsewhere."""

import itertools
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.chunk.revision import make_revision
from pipelines.config import ChunkConfig, EmbedConfig, ParseConfig
from pipelines.files import Workspace
from pipelines.model import Chunk, Parsed, Revision
from pipelines.models import TokenCounter, load_tokenizer, resolve_model
from pipelines.parse import parse_bytes

CONFIG = ChunkConfig(max_tokens=64, min_tokens=8)


class Words:
    """A tokenizer whose tokens are words, with two special ones."""

    special_tokens = 2
    additive = False

    def spans(self, text: str) -> np.ndarray:
        return np.array([m.start() for m in re.finditer(r"\w+|[^\w\s]", text)], np.int32)

    def count(self, texts: list[str]) -> list[int]:
        return [len(self.spans(text)) + 2 for text in texts]


def markdown(text: str) -> Parsed:
    return parse_bytes(text.encode(), "text/markdown", ParseConfig())


def paragraphs(count: int, seed: int, words: int = 30) -> list[str]:
    source = random.Random(seed)
    return [" ".join(f"w{source.randrange(5000)}" for _ in range(words)) + "." for _ in range(count)]


blocks = st.lists(
    st.one_of(
        st.integers(1, 4).map(lambda level: "#" * level + f" Heading {level}"),
        st.integers(1, 90).map(lambda n: " ".join(f"word{i * 7 % 31}" for i in range(n)) + "."),
        st.integers(1, 40).map(lambda n: "\n".join(f"- item {i}" for i in range(n))),
        st.integers(1, 60).map(lambda n: "```python\n" + "\n".join(f"x{i} = {i}" for i in range(n)) + "\n```"),
        st.integers(1, 30).map(lambda n: "| a | b |\n|---|---|\n" + "\n".join(f"| {i} | v{i} |" for i in range(n))),
        st.just("x" * 400),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(
    blocks, st.sampled_from([16, 32, 64, 200]), st.sampled_from(["none", "title", "section"]), st.sampled_from([0, 6])
)
def test_chunks_are_slices_that_fit_and_cover_everything(
    parts: list[str], max_tokens: int, context: str, overlap: int
) -> None:
    parsed = markdown("\n\n".join(parts))
    config = ChunkConfig(max_tokens=max_tokens, min_tokens=4, overlap_tokens=overlap, context=context)  # type: ignore[arg-type]
    chunks = make_revision(parsed, config, Words()).chunks
    covered = bytearray(len(parsed.text))
    for chunk in chunks:
        assert chunk.text == parsed.text[chunk.start : chunk.end]
        assert chunk.text.strip()
        assert chunk.tokens == Words().count([chunk.embedded_text])[0]
        assert chunk.tokens <= max_tokens
        assert chunk.parent_start <= chunk.start < chunk.end <= chunk.parent_end
        covered[chunk.start : chunk.end] = b"\1" * (chunk.end - chunk.start)
    assert all(covered[at] or parsed.text[at].isspace() for at in range(len(parsed.text)))
    assert [chunk.end for chunk in chunks] == sorted(chunk.end for chunk in chunks)
    assert Revision.from_json(make_revision(parsed, config, Words()).to_json()).chunks == chunks


def keys(text: str, config: ChunkConfig = CONFIG) -> set[bytes]:
    return {chunk.key for chunk in make_revision(markdown(text), config, Words()).chunks}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(20, 80), st.booleans())
def test_a_paragraph_at_the_top_changes_at_most_three_chunks(seed: int, count: int, with_headings: bool) -> None:
    parts = paragraphs(count, seed)
    if with_headings:
        parts = [f"## Section {i}\n\n{part}" if i % 5 == 0 else part for i, part in enumerate(parts)]
    before = keys("# Title\n\n" + "\n\n".join(parts))
    after = keys("# Title\n\nA new paragraph that nobody saw before.\n\n" + "\n\n".join(parts))
    assert len(after - before) <= 3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 60), st.data())
def test_an_edit_changes_only_the_chunks_around_it(seed: int, count: int, data: st.DataObject) -> None:
    parts = paragraphs(count, seed)
    at = data.draw(st.integers(0, count - 1))
    edited = [*parts[:at], parts[at].replace("w", "v", 1), *parts[at + 1 :]]
    changed = keys("\n\n".join(edited)) - keys("\n\n".join(parts))
    assert len(changed) <= 3


def test_headings_give_section_context_and_parent() -> None:
    text = "# Guide\n\nIntro.\n\n## Restore\n\n" + "\n\n".join(paragraphs(6, 1)) + "\n\n## Verify\n\nShort."
    chunks = make_revision(markdown(text), CONFIG, Words()).chunks
    inside = [chunk for chunk in chunks if chunk.section == ("Guide", "Restore")]
    assert len(inside) >= 3
    assert all(text[c.parent_start : c.parent_end].startswith("## Restore") for c in inside)
    assert inside[-1].context == "Guide > Restore"
    first = inside[0]
    assert first.text.startswith("## Restore")
    assert first.context == "Guide", "a heading that the chunk shows is not repeated in its context"


def test_front_matter_stays_with_the_first_section() -> None:
    text = "---\ntitle: Guide\nowner: platform\n---\n\n# Guide\n\nIntro of the guide.\n\n## More\n\n" + "\n\n".join(
        paragraphs(6, 9)
    )
    first = make_revision(markdown(text), CONFIG, Words()).chunks[0]
    assert first.text.startswith("---")
    assert "# Guide" in first.text
    assert first.section == ("Guide",)


def test_a_heading_is_not_left_behind_by_its_text() -> None:
    text = "\n\n".join(f"## Part {i}\n\n{part}" for i, part in enumerate(paragraphs(30, 2, words=25)))
    for chunk in make_revision(markdown(text), CONFIG, Words()).chunks:
        assert not chunk.text.rstrip().split("\n")[-1].startswith("#")


def test_tables_and_code_that_fit_stay_whole() -> None:
    table = "| name | port |\n|---|---|\n" + "\n".join(f"| svc{i} | {7000 + i} |" for i in range(5))
    code = "```sh\n" + "\n".join(f"run step{i}" for i in range(8)) + "\n```"
    text = "\n\n".join([*paragraphs(4, 3), table, *paragraphs(3, 4), code, *paragraphs(3, 5)])
    bodies = [chunk.text for chunk in make_revision(markdown(text), CONFIG, Words()).chunks]
    assert any(table in body for body in bodies)
    assert any(code in body for body in bodies)


def test_overlap_repeats_the_end_of_the_chunk_before() -> None:
    text = "\n\n".join(paragraphs(12, 6))
    chunks = make_revision(markdown(text), ChunkConfig(max_tokens=64, min_tokens=8, overlap_tokens=10), Words()).chunks
    assert all(later.start < earlier.end for earlier, later in itertools.pairwise(chunks))


def test_the_title_comes_from_content_and_identity_covers_the_context() -> None:
    with_title, without = markdown("# A\n\nSame text."), markdown("# B\n\nSame text.")
    keys_of = [{c.key for c in make_revision(p, CONFIG, Words()).chunks} for p in (with_title, without)]
    assert keys_of[0].isdisjoint(keys_of[1])
    assert Chunk("text", 0, 4, "context").key != Chunk("context\n\ntext", 0, 4).key


@pytest.fixture(scope="module")
def minilm() -> TokenCounter:
    return load_tokenizer(resolve_model(EmbedConfig(), Workspace.__new__(Workspace)))


def test_the_real_tokenizer_never_sees_a_chunk_over_the_window(minilm: TokenCounter) -> None:
    text = (
        "# Ünïcode\n\n" + "日本語のテキスト。" * 300 + "\n\n" + "a1-b2_c3/" * 300 + "\n\n" + "plain words here. " * 400
    )
    chunks = make_revision(markdown(text), ChunkConfig(), minilm).chunks
    assert max(chunk.tokens for chunk in chunks) <= 256
    assert minilm.count([chunk.embedded_text for chunk in chunks]) == [chunk.tokens for chunk in chunks]


@settings(max_examples=30, deadline=None)
@given(blocks)
def test_counting_once_gives_what_counting_each_chunk_gives(parts: list[str]) -> None:
    counter = load_tokenizer(resolve_model(EmbedConfig(model="hash:8"), Workspace.__new__(Workspace)))
    chunks = make_revision(markdown("\n\n".join(parts)), CONFIG, counter).chunks
    assert counter.count([chunk.embedded_text for chunk in chunks]) == [chunk.tokens for chunk in chunks]
