"""Pairs: what is learned, what is held out, and that nobody learns what they are asked later."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.errors import ConfigError, InputError, NotFoundError, ServiceUnavailable
from pipelines.pairs import HELD_OUT, TRAIN, Pair, pairs_folder, read_pairs
from pipelines.pairs.stage import PairsReport, run
from pipelines.pairs.text import normalised
from tests.http_server import Answer, Server, asked, says
from tests.index.state import State
from tests.training.world import make_world

GUIDE = """# Standby databases

## Failover of a primary

A standby takes over when the primary has not answered for thirty seconds and its log is complete to the last
committed record. Which standby is chosen? The one that is least behind, and among equals the one whose name comes
first in the list of the cluster.

## Rebuilding a replica

A replica that fell behind for more than a day is made anew from the last base backup, because replaying a day of log
takes longer than copying the whole database over the network.
"""
SOUP = """# Soups of the house

## Vegetable broth

Roots are cut small and boiled for two hours with bay leaves; salt comes last, when the broth has been strained and
measured, since it becomes stronger while it boils away.
"""


@pytest.fixture
def library(state: State) -> State:
    state.write({"standby.md": GUIDE, "soup.md": SOUP, "copy.md": SOUP})
    (state.root / "train.jsonl").touch()
    found = state.with_settings("chunk.max_tokens=80", "pairs.judgements=train.jsonl", "pairs.held_out=0")
    found.run()
    return found


def judge(state: State, *rows: dict[str, object], name: str = "train.jsonl") -> None:
    (state.root / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


def made(state: State) -> tuple[PairsReport, list[Pair], list[Pair]]:
    report = run(state.config, state.workspace, "handbook")
    folder = pairs_folder(state.workspace, "handbook")
    return report, list(read_pairs(folder / TRAIN)), list(read_pairs(folder / HELD_OUT))


def test_a_judged_question_gets_the_chunk_that_answers_it_as_it_is_embedded(library: State) -> None:
    judge(library, {"question": "how is a replica rebuilt from a base backup", "documents": ["standby.md"]})
    _, train, _ = made(library.with_settings("pairs.judgements=train.jsonl", "pairs.mined=0", "pairs.held_out=0"))
    (pair,) = train
    assert "made anew from the last base backup" in pair.positive
    assert pair.positive.startswith("Standby databases\n\n## Rebuilding a replica")
    assert pair.source == "judgements"


def test_a_judged_part_of_a_document_is_the_chunk_that_holds_it(library: State) -> None:
    judge(library, {"question": "how is a replica rebuilt", "documents": ["standby.md#whose name comes"]})
    _, train, _ = made(library.with_settings("pairs.judgements=train.jsonl", "pairs.mined=0", "pairs.held_out=0"))
    assert ["whose name comes" in pair.positive for pair in train] == [True]


def test_headings_and_questions_of_the_corpus_become_pairs_without_what_they_say(library: State) -> None:
    report, train, _ = made(library)
    by_query = {pair.query: pair for pair in train}
    assert set(by_query) >= {"Rebuilding a replica", "Which standby is chosen?", "Soups of the house"}
    for pair in train:
        assert normalised(pair.query) not in normalised(pair.positive)
    assert report.sources["headings"] >= 3
    assert report.sources["questions"] == 1
    assert [pair.query for pair in train].count("Soups of the house") == 1  # of two documents with the same text


def test_negatives_are_of_other_documents_and_not_too_near(state: State) -> None:
    world = make_world(state, "pairs.negatives=3", "embed.model=hash:64")  # hashed words: similarity is shared words
    world.run()
    about = "0-1-2.txt"
    words = " ".join(dict.fromkeys((state.root / "docs" / about).read_text("utf-8").split()))
    judge(state, {"question": words, "documents": [about]})
    _, (pair,), _ = made(
        world.with_settings(
            "pairs.judgements=train.jsonl",
            "pairs.mined=0",
            "embed.model=hash:64",
            "pairs.negatives=3",
            "pairs.held_out=0",
            "gate.golden=",
        )
    )
    shared = [len(set(words.split()) & set(text.split())) for text in pair.negatives]
    assert shared == [2, 2, 2]  # the nearest that are not the answer


def test_nothing_of_the_held_out_side_is_learned(state: State) -> None:
    world = make_world(state, "pairs.mined=50", "pairs.held_out=0.3")
    world.run()
    report, train, held_out = made(world)
    assert (report.train, report.held_out) == (len(train), len(held_out))
    assert len(held_out) > 20
    assert {pair.group for pair in train}.isdisjoint(pair.group for pair in held_out)
    assert {pair.positive for pair in train}.isdisjoint(pair.positive for pair in held_out)
    assert {normalised(pair.query) for pair in train}.isdisjoint(normalised(pair.query) for pair in held_out)


def test_questions_of_the_golden_set_are_not_learned(library: State) -> None:
    golden = {"question": "How is a REPLICA rebuilt?", "documents": ["standby.md"]}
    judge(library, golden, name="golden.jsonl")
    judge(
        library,
        {**golden, "question": "how is a replica rebuilt"},
        {"question": "what is salt for", "documents": ["soup.md"]},
    )
    report, train, _ = made(
        library.with_settings(
            "pairs.judgements=train.jsonl", "pairs.mined=0", "gate.golden=golden.jsonl", "pairs.held_out=0"
        )
    )
    assert [pair.query for pair in train] == ["what is salt for"]
    assert report.dropped == {"questions of gate.golden": 1}


def test_the_same_version_and_judgements_give_the_same_bytes(state: State) -> None:
    world = make_world(state)
    world.run()
    folder = pairs_folder(world.workspace, "handbook")
    made(world)
    first = [(folder / file).read_bytes() for file in (TRAIN, HELD_OUT)]
    made(world)
    assert [(folder / file).read_bytes() for file in (TRAIN, HELD_OUT)] == first


def test_pairs_that_somebody_wrote_are_taken_as_they_are(library: State) -> None:
    judge(
        library, {"query": "what is salt for", "positive": "It makes broth taste of something.", "negatives": ["Rain."]}
    )
    _, train, _ = made(library.with_settings("pairs.judgements=train.jsonl", "pairs.mined=0", "pairs.held_out=0"))
    assert [(pair.query, pair.positive, pair.negatives) for pair in train] == [
        ("what is salt for", "It makes broth taste of something.", ("Rain.",))
    ]
    judge(library, {"query": "what is salt for", "positive": ""})
    with pytest.raises(InputError, match="line 1"):
        made(library)


def test_without_a_version_or_anything_to_learn_it_says_so(state: State) -> None:
    with pytest.raises(NotFoundError, match="no version was built"):
        made(state)
    state.write({"a.txt": "one two three"})
    state.run()
    with pytest.raises(InputError, match="nothing to learn from"):
        made(state.with_settings("pairs.mined=0"))


# -- questions that a model writes -------------------------------------------------------------------------------------


@pytest.fixture
def chat() -> Iterator[Server]:
    def question(body: dict[str, Any]) -> Answer:
        passage = asked(body)
        if "standby takes over" in passage:
            return says("Who becomes the new main server when the old one is silent?")
        if "replica that fell behind" in passage:
            return says("a replica that fell behind for more than a day is made anew")  # as it stands there
        return says("When does salt go into the pot?")

    with Server(question) as running:
        yield running


def with_model(library: State, chat: Server, *settings: str) -> State:
    return library.with_settings(
        "pairs.judgements=train.jsonl",
        "pairs.held_out=0",
        "pairs.mined=0",
        "pairs.synthetic=10",
        "generate.model=openai:some",
        f"generate.endpoint={chat.url}",
        *settings,
    )


def test_questions_that_a_model_writes_are_learned_and_asked_for_once(library: State, chat: Server) -> None:
    asking = with_model(library, chat)
    report, train, _ = made(asking)
    assert report.sources == {"synthetic": 2}
    assert report.dropped == {"no good question written": 1}
    by_query = {pair.query: pair for pair in train}
    assert set(by_query) == {
        "Who becomes the new main server when the old one is silent?",
        "When does salt go into the pot?",
    }
    pair = by_query["Who becomes the new main server when the old one is silent?"]
    assert pair.positive.startswith("# Standby databases\n\n## Failover of a primary")
    assert (pair.source, pair.group) == ("synthetic", "document standby.md")
    count = len(chat.bodies)
    assert count == 3  # of two documents with the same text one is asked about
    assert made(asking)[1] == train
    assert len(chat.bodies) == count


def test_no_more_questions_are_asked_for_than_wanted_and_those_of_the_golden_set_are_not_learned(
    library: State, chat: Server
) -> None:
    judge(library, {"question": "When does salt go into the pot", "documents": ["soup.md"]}, name="golden.jsonl")
    judge(library, {"question": "what is salt for", "documents": ["soup.md"]})
    report, train, _ = made(with_model(library, chat, "pairs.synthetic=2", "gate.golden=golden.jsonl"))
    assert len(chat.bodies) == 2
    assert report.dropped["questions of gate.golden"] == 1
    assert "When does salt go into the pot?" not in {pair.query for pair in train}


def test_without_a_model_that_writes_it_says_so(library: State, chat: Server) -> None:
    with pytest.raises(ConfigError, match=r"pairs\.synthetic is 10") as caught:
        made(with_model(library, chat, "generate.model="))
    assert "generate.model" in caught.value.hint


def test_what_was_written_is_kept_when_the_model_goes_away(
    library: State, chat: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.models.service.ATTEMPTS", 1)
    asking = with_model(library, chat, "generate.concurrency=1")
    chat.answers = [chat.right, lambda _: None]
    with pytest.raises(ServiceUnavailable):
        made(asking)
    made(asking)
    assert len(chat.bodies) == 4
