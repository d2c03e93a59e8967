"""A second look at the best hits, by a real cross-encoder: a small one that is made here, of random weights."""

import json
from pathlib import Path

import pytest

from pipelines.errors import ConfigError, InputError
from pipelines.index import open_index
from tests.index.state import State
from tests.small_models import cross_encoder

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
        first = reader.search("tea cup", k=1).hits[0]
        assert reader.search("tea cup", k=1, rerank=True).hits[0].chunk == first.chunk


def test_a_remembered_answer_is_not_taken_for_a_reranked_one(kitchen: State) -> None:
    with open_index(workspace=kitchen.root, config=kitchen.config) as reader:
        first, second = reader.search("tea cup", k=6), reader.search("tea cup", k=6, rerank=True)
        assert (reader.search("tea cup", k=6), reader.search("tea cup", k=6, rerank=True)) == (first, second)
        assert first != second


def test_without_a_model_it_says_what_to_set(state: State) -> None:
    state.write({"a.txt": "tea"}).run()
    with (
        open_index(workspace=state.root, config=state.config) as reader,
        pytest.raises(ConfigError, match="no model to rerank with"),
    ):
        reader.search("tea", rerank=True)


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
