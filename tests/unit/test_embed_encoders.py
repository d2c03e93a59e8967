"""Texts to vectors: order, independence of batches, windows, and the library that ours must agree with."""

import hashlib
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import EmbedConfig
from pipelines.embed.encoders import BertEncoder, Encoder, LibraryEncoder, TokenEncoder, checked, load_encoder
from pipelines.errors import InputError, IntegrityError
from pipelines.files import Workspace
from pipelines.models import EmbeddingModel, load_tokenizer, resolve_model

NOWHERE = Workspace(Path("/nonexistent"))
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), min_size=1, max_size=20)
PASSAGES = [
    "Publishing a version moves one pointer.",
    "Rollback names an earlier version. " * 12,
    "naïve café 你好 😀",
    "x",
    "| table | of | cells |\n|---|---|---|\n| 1 | 2 | 3 |",
    "A quarantined document keeps its last good revision serving. " * 15,
]


def hashed(dimension: int) -> Encoder:
    return load_encoder(resolve_model(EmbedConfig(model=f"hash:{dimension}"), NOWHERE), EmbedConfig())


@pytest.fixture(scope="module")
def minilm() -> EmbeddingModel:
    return resolve_model(EmbedConfig(), NOWHERE)


@pytest.fixture(scope="module")
def bert(minilm: EmbeddingModel) -> Encoder:
    encoder = load_encoder(minilm, EmbedConfig())
    assert isinstance(encoder, BertEncoder)
    return encoder


# -- hash --------------------------------------------------------------------------------------------------------------


@given(TEXTS, st.sampled_from([1, 2, 7, 384]))
def test_hash_gives_each_text_its_own_unit_vector_in_any_batch(texts: list[str], dimension: int) -> None:
    vectors = checked(hashed(dimension).encode(texts), len(texts), dimension)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    alone = np.concatenate([hashed(dimension).encode([text]) for text in texts])
    assert vectors.tobytes() == alone.tobytes()


def test_hash_is_the_same_on_every_machine() -> None:
    vectors = hashed(384).encode([*PASSAGES, ""])
    assert (
        hashlib.sha256(vectors.tobytes()).hexdigest()
        == "755343c38351dcdc8465e5c8861599fda10055e8ab58915c982b46cddb729dd9"
    )


def test_hash_puts_texts_with_common_words_near() -> None:
    near, far = hashed(384).encode(["Our refund policy: 30 days.", "Kittens like milk."])
    (query,) = hashed(384).encode_queries(["refund policy"])
    assert query @ near > 0.4 > 0.2 > query @ far


def test_hash_is_fast_enough_for_large_rehearsals() -> None:
    words = [f"w{n}" for n in range(5000)]
    texts = [" ".join(words[start : start + 150]) for start in range(4000)]
    encoder = hashed(384)
    begun = time.perf_counter()
    encoder.encode(texts)
    assert time.perf_counter() - begun < 2  # takes about 0.1 s


# -- a real model ------------------------------------------------------------------------------------------------------


def test_bert_agrees_with_sentence_transformers(minilm: EmbeddingModel, bert: Encoder) -> None:
    library = LibraryEncoder(minilm, 2048, "cpu")
    assert np.abs(bert.encode(PASSAGES) - library.encode(PASSAGES)).max() < 1e-5
    assert np.abs(bert.encode_queries(PASSAGES) - library.encode_queries(PASSAGES)).max() < 1e-5


def test_both_know_the_same_tokens_of_a_text_and_of_a_long_one_the_first(minilm: EmbeddingModel, bert: Encoder) -> None:
    library = LibraryEncoder(minilm, 2048, "cpu")
    texts = [*PASSAGES, "and so on " * 400, ""]
    assert isinstance(bert, TokenEncoder)
    for ours, theirs in zip(bert.tokens(texts), library.tokens(texts), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max(initial=0) < 1e-5
        assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    assert [len(each) for each in bert.tokens(texts)][-2:] == [minilm.max_tokens - 2, 0]
    assert len(bert.tokens(["x"])[0]) == 1
    assert not isinstance(hashed(8), TokenEncoder)


@pytest.mark.parametrize("batch_tokens", [1, 64, 100_000])
def test_order_and_batches_do_not_change_a_vector(minilm: EmbeddingModel, bert: Encoder, batch_tokens: int) -> None:
    other = load_encoder(minilm, EmbedConfig(batch_tokens=batch_tokens))
    order = [3, 1, 5, 0, 4, 2]
    vectors = other.encode([PASSAGES[place] for place in order])
    assert np.abs(vectors - bert.encode(PASSAGES)[order]).max() < 1e-6
    assert other.encode([]).shape == (0, 384)


def test_first_token_pooling_and_prefixes_agree_too(minilm: EmbeddingModel, tmp_path: Path) -> None:
    assert minilm.directory is not None
    shutil.copytree(minilm.directory, tmp_path / "cls")
    (tmp_path / "cls" / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 384, "pooling_mode": "cls"}')
    config = EmbedConfig(model="path:cls", query_prefix="query: ", passage_prefix="passage: ")
    model = resolve_model(config, Workspace(tmp_path))
    ours, library = load_encoder(model, config), LibraryEncoder(model, 2048, "cpu")
    assert isinstance(ours, BertEncoder)
    assert np.abs(ours.encode(PASSAGES) - library.encode(PASSAGES)).max() < 1e-5
    assert np.abs(ours.encode_queries(["where?"]) - library.encode_queries(["where?"])).max() < 1e-5
    assert np.abs(ours.encode_queries(["where?"]) - ours.encode(["where?"])).max() > 1e-3


def test_a_model_of_another_form_goes_through_the_library(minilm: EmbeddingModel, tmp_path: Path) -> None:
    assert minilm.directory is not None
    shutil.copytree(minilm.directory, tmp_path / "max")
    (tmp_path / "max" / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 384, "pooling_mode": "max"}')
    config = EmbedConfig(model="path:max")
    encoder = load_encoder(resolve_model(config, Workspace(tmp_path)), config)
    assert isinstance(encoder, LibraryEncoder)
    vectors = checked(encoder.encode(PASSAGES), len(PASSAGES), 384)
    alone = np.concatenate([encoder.encode([text]) for text in PASSAGES])
    assert np.abs(vectors - alone).max() < 1e-5


@pytest.mark.parametrize("name", ["minilm", "hash:16"])
def test_a_text_over_the_window_is_refused_and_one_that_fills_it_is_not(name: str) -> None:
    config = EmbedConfig(model=name)
    model = resolve_model(config, NOWHERE)
    encoder = load_encoder(model, config)
    full = "word " * (model.max_tokens - model.special_tokens)
    assert load_tokenizer(model).count([full]) == [model.max_tokens]
    encoder.encode([full])
    with pytest.raises(InputError, match=f"{model.max_tokens + 1:,} tokens"):
        encoder.encode(["fine", full + "word"])
    with pytest.raises(InputError):
        encoder.encode_queries(["fine", full + "word"])


# -- the check of every encoder's answer -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vectors",
    [np.ones((1, 4)), np.ones((2, 3)), np.ones(2), np.array([[1, 1, 1, 1], [0, 0, 0, 0]]), np.full((2, 4), np.nan)],
    ids=["count", "dimension", "shape", "zero", "nan"],
)
def test_wrong_vectors_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(IntegrityError, match="nothing of it was stored"):
        checked(vectors, 2, 4)


def test_a_space_has_its_own_prefix(minilm: EmbeddingModel) -> None:
    assert replace(minilm, passage_prefix="passage: ").space != minilm.space
