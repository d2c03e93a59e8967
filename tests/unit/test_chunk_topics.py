"""Semantic chunks: cut where the topic changes, and in all else like structural ones."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_chunk import Words, blocks, markdown, paragraphs

from pipelines import chunk
from pipelines.chunk.revision import make_revision
from pipelines.chunk.topics import Encode
from pipelines.config import ChunkConfig, Config, EmbedConfig
from pipelines.embed import load_encoder
from pipelines.errors import ConfigError
from pipelines.files import Workspace
from pipelines.model import Chunk
from pipelines.models import load_tokenizer, resolve_model

NOWHERE = Workspace.__new__(Workspace)
SEMANTIC = ChunkConfig(max_tokens=64, min_tokens=8, method="semantic")
BREAD = [
    "A sourdough starter is flour and water in which wild yeast lives.",
    "Feed the starter with fresh flour every day until it doubles in a few hours.",
    "Mix the dough, let it rest, and fold it four times while it rises.",
    "Shape the loaf, put it in a basket, and leave it in the refrigerator overnight.",
    "Bake the bread in a hot iron pot, first with the lid and then without it.",
]
NETWORK = [
    "A TCP sender keeps a congestion window of packets that are not acknowledged yet.",
    "The window grows with every acknowledgement until the network loses a packet.",
    "After a timeout the sender halves its threshold and starts slowly again.",
    "Fast retransmit sends the missing segment after three duplicate acknowledgements.",
    "Routers can mark packets instead of dropping them when their queues grow.",
]


def of_two_topics(texts: Sequence[str]) -> NDArray[np.float32]:
    """One direction for texts that name a gateway, another for all others."""
    return np.array([[1.0, 0.1] if "gateway" in text else [0.1, 1.0] for text in texts], np.float32)


def not_asked(texts: Sequence[str]) -> NDArray[np.float32]:
    raise AssertionError(texts)


def hashed(text: str) -> NDArray[np.float32]:
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8).astype(np.float32)


def by_hash(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.array([hashed(text) for text in texts])


def chunks(text: str, config: ChunkConfig = SEMANTIC, encode: Encode | None = by_hash) -> tuple[Chunk, ...]:
    return make_revision(markdown(text), config, Words(), encode).chunks


@pytest.mark.parametrize("join", [" ".join, "\n\n".join], ids=["one paragraph", "a paragraph each"])
@pytest.mark.parametrize(("first", "second"), [(BREAD, NETWORK), (NETWORK[:4], BREAD[1:]), (BREAD[:4], NETWORK)])
def test_the_model_cuts_between_two_topics(
    join: Callable[[list[str]], str], first: list[str], second: list[str]
) -> None:
    model = resolve_model(EmbedConfig(), NOWHERE)
    config = ChunkConfig(max_tokens=128, min_tokens=16, method="semantic")
    text = f"# Notes\n\n{join([*first, *second])}"
    encode = load_encoder(model, EmbedConfig()).encode
    made = make_revision(markdown(text), config, load_tokenizer(model), encode).chunks
    assert text.index(second[0]) in {each.start for each in made}
    assert len(made) == 2
    assert make_revision(markdown(text), config, load_tokenizer(model), encode).chunks == made


def test_a_change_of_topic_counts_more_than_a_paragraph() -> None:
    here = [f"The gateway has port number {i} of the list." for i in range(6)]
    there = [f"Our kitchen serves meal number {i} of the week." for i in range(6)]
    text = "# S\n\n" + " ".join(here[:3]) + "\n\n" + " ".join([*here[3:], *there])
    config = replace_max(SEMANTIC, 80)
    assert [each.start for each in chunks(text, config, of_two_topics)] == [0, text.index(there[0])]
    structural = chunks(text, config, None)
    assert text.index(there[0]) not in [each.start for each in structural]


def replace_max(config: ChunkConfig, max_tokens: int, **more: int) -> ChunkConfig:
    return config.model_copy(update={"max_tokens": max_tokens, **more})


@settings(max_examples=40, deadline=None)
@given(blocks, st.sampled_from([16, 32, 64]), st.sampled_from([0, 6]), st.sampled_from([0, 90, 100]))
def test_semantic_chunks_are_slices_that_fit_and_cover_everything(
    parts: list[str], max_tokens: int, overlap: int, percentile: int
) -> None:
    text = "\n\n".join(parts)
    config = replace_max(SEMANTIC, max_tokens, min_tokens=4, overlap_tokens=overlap, topic_percentile=percentile)
    made = chunks(text, config)
    covered = bytearray(len(text))
    for each in made:
        assert each.text == text[each.start : each.end]
        assert each.tokens == Words().count([each.embedded_text])[0] <= max_tokens
        covered[each.start : each.end] = b"\1" * (each.end - each.start)
    assert all(covered[at] or text[at].isspace() for at in range(len(text)))
    assert chunks(text, config) == made


def test_a_change_of_topic_is_no_reason_for_a_small_chunk() -> None:
    sentences = ["The gateway is up.", *(f"Our kitchen serves meal number {i} of this week." for i in range(12))]
    made = chunks("# S\n\n" + " ".join(sentences), replace_max(SEMANTIC, 64, min_tokens=12), of_two_topics)
    assert min(len(Words().spans(each.text)) for each in made) >= 12


def test_what_fits_is_not_embedded_and_stays_whole() -> None:
    text = "\n\n".join(f"## Part {i}\n\n{part}" for i, part in enumerate(paragraphs(20, 3, words=25)))
    assert chunks(text, SEMANTIC, not_asked) == chunks(text, SEMANTIC, None)


def test_lists_tables_and_code_are_cut_as_ever() -> None:
    table = "| a | b |\n|---|---|\n" + "\n".join(f"| {i} | v{i} |" for i in range(30))
    code = "```\n" + "\n".join(f"x{i} = {i}" for i in range(60)) + "\n```"
    text = "# S\n\n" + "\n\n".join([table, code, "\n".join(f"- item {i}" for i in range(60))])
    assert chunks(text, SEMANTIC, not_asked) == chunks(text, SEMANTIC, None)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_an_edit_in_one_section_leaves_the_others(seed: int, data: st.DataObject) -> None:
    parts = [f"## Section {i}\n\n" + "\n\n".join(paragraphs(6, seed + i, words=20)) for i in range(5)]
    at = data.draw(st.integers(0, 4))
    edited = [*parts[:at], parts[at].replace("w", "v", data.draw(st.integers(1, 20))), *parts[at + 1 :]]
    before, after = (
        {each.key for each in chunks("\n\n".join(each)) if each.section != (f"Section {at}",)}
        for each in (parts, edited)
    )
    assert after == before


def test_the_recipe_names_method_and_model_only_where_they_matter() -> None:
    model = resolve_model(EmbedConfig(model="hash:16"), NOWHERE)
    structural = chunk.recipe(ChunkConfig(), "parser", model)
    assert structural == "7a7e1dedbaab2bc9dde4a5fc0ca44ebeaeaf579f71da38598a83f5f148235f2f", "every index is built anew"
    assert chunk.recipe(ChunkConfig(topic_percentile=50), "parser", model) == structural
    others = [
        chunk.recipe(ChunkConfig(method="semantic"), "parser", model),
        chunk.recipe(ChunkConfig(method="semantic", topic_percentile=50), "parser", model),
        chunk.recipe(ChunkConfig(method="semantic"), "parser", replace(model, revision="0" * 64)),
    ]
    assert len({structural, *others}) == 4


def test_semantic_chunks_need_a_model_whose_vectors_come_again() -> None:
    config = Config(
        chunk=SEMANTIC, embed=EmbedConfig(model="openai:some", endpoint="http://localhost:1/v1", dimension=8)
    )
    with pytest.raises(ConfigError, match="twice"):
        chunk.run(config, NOWHERE)
