"""A second look at the best hits, by real models: small ones that are made here, of random weights."""

import json
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from pipelines.errors import ConfigError, InputError
from pipelines.index import open_index
from tests.index.state import State
from tests.small_models import cross_encoder, sentence_model

WORDS = ["tea", "coffee", "milk", "water", "cup", "pot"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross_encoder(tmp_path_factory.mktemp("reranker"), WORDS, width=16)


@pytest.fixture
def kitchen(state: State, model: Path) -> State:
    drinks = ["tea cup", "tea pot", "coffee cup tea", "milk tea", "water tea milk", "tea tea coffee pot"]
    state.write({f"{n}.txt": text for n, text in enumerate(drinks)})
    state.run()
    return state.with_settings(f"search.reranker=path:{model}")


def test_the_model_decides_the_order_and_nothing_else(kitchen: State) -> None:
    with open_index(workspace=kitchen.root, config=kitchen.config) as reader:
        plain = reader.search("tea cup", k=6)
        second = reader.search("tea cup", k=6, rerank=True)
        assert {hit.chunk for hit in second.hits} == {hit.chunk for hit in plain.hits}
        assert [hit.chunk for hit in second.hits] != [hit.chunk for hit in plain.hits]
        scores = [hit.score for hit in second.hits]
        assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)
        assert [hit.rank for hit in second.hits] == [1, 2, 3, 4, 5, 6]


def test_it_reads_deeper_than_it_returns(kitchen: State) -> None:
    with open_index(workspace=kitchen.root, config=kitchen.config) as reader:
        best = [hit.chunk for hit in reader.search("tea cup", k=6, rerank=True).hits]
        assert [hit.chunk for hit in reader.search("tea cup", k=2, rerank=True).hits] == best[:2]
        reader.config = kitchen.with_settings(
            f"search.reranker={kitchen.config.search.reranker}", "search.rerank_depth=1"
        ).config
        plain = reader.search("tea cup", k=6).hits
        assert reader.search("tea cup", k=1, rerank=True).hits[0].chunk == plain[0].chunk
        reader.config = kitchen.with_settings(
            f"search.reranker={kitchen.config.search.reranker}", "search.rerank_depth=3"
        ).config
        second = reader.search("tea cup", k=6, rerank=True).hits
        assert {hit.chunk for hit in second[:3]} == {hit.chunk for hit in plain[:3]}
        assert second[3:] == plain[3:]
        assert [hit.rank for hit in second] == [1, 2, 3, 4, 5, 6]


def test_a_remembered_answer_is_not_taken_for_a_reranked_one(kitchen: State) -> None:
    with open_index(workspace=kitchen.root, config=kitchen.config) as reader:
        first, second = reader.search("tea cup", k=6), reader.search("tea cup", k=6, rerank=True)
        assert (reader.search("tea cup", k=6), reader.search("tea cup", k=6, rerank=True)) == (first, second)
        assert first != second


def test_without_a_model_of_its_own_that_of_the_version_compares_word_by_word(state: State, tmp_path: Path) -> None:
    """The score is the mean over the words of the query of the cosine with the nearest word of the passage."""
    base = sentence_model(tmp_path / "base", WORDS, width=16)
    texts = {"a.txt": "tea cup milk", "b.txt": "coffee pot", "c.txt": "cup water water tea", "d.txt": "milk pot"}
    state = state.with_settings(
        f"embed.model=path:{base}", "embed.threads=1", "chunk.max_tokens=16", "chunk.min_tokens=0"
    )
    state.write(texts).run()
    library = SentenceTransformer(str(base), device="cpu")

    def words_of(text: str) -> torch.Tensor:
        states = library.encode(text, output_value="token_embeddings", show_progress_bar=False)
        return torch.nn.functional.normalize(states[1:-1], dim=1)

    with open_index(workspace=state.root, config=state.config) as reader:
        found = reader.search("tea milk", k=3, rerank=True).hits
    asked = words_of("tea milk")
    expected = {name: (asked @ words_of(text).T).max(1).values.mean().item() for name, text in texts.items()}
    best = sorted(expected, key=lambda name: -expected[name])[:3]
    assert [hit.document for hit in found] == best
    assert [hit.score for hit in found] == pytest.approx([expected[name] for name in best], abs=1e-5)


def test_a_model_that_knows_no_words_says_what_to_set(state: State) -> None:
    state.write({"a.txt": "tea"}).run()
    with (
        open_index(workspace=state.root, config=state.config) as reader,
        pytest.raises(ConfigError, match="cannot put hits in order") as refused,
    ):
        reader.search("tea", rerank=True)
    assert "search.reranker" in refused.value.hint


def test_models_that_could_run_code_or_score_no_pairs_are_refused(kitchen: State, model: Path, tmp_path: Path) -> None:
    spoiled = {
        "one score": {"id2label": {"0": "no", "1": "yes"}},
        "code of its own": {"auto_map": {"AutoModel": "evil.Model"}},
    }
    config = json.loads((model / "config.json").read_text("utf-8"))
    for number, (reason, change) in enumerate(spoiled.items()):
        directory = tmp_path / str(number)
        directory.mkdir()
        for file in model.iterdir():
            (directory / file.name).write_bytes(file.read_bytes())
        (directory / "config.json").write_text(json.dumps(config | change), "utf-8")
        changed = kitchen.with_settings(f"search.reranker=path:{directory}")
        with (
            open_index(workspace=kitchen.root, config=changed.config) as reader,
            pytest.raises(InputError, match=reason),
        ):
            reader.search("tea", rerank=True)
