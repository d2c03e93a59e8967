"""A reader that stays open remembers answers, and never gives one that is not true any more."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipelines import erase
from pipelines.errors import NotFoundError
from pipelines.index import Reader, Version, open_index
from tests.index.state import State

QUERY = "when does the gate open"


@contextmanager
def reader(state: State) -> Iterator[tuple[Reader, list[str]]]:
    """An open index, and the queries that were embedded since."""
    embedded: list[str] = []

    def encode(query: str, version: Version) -> list[float]:
        embedded.append(query)
        return state.vector(query)

    with open_index(state.name, workspace=state.root, config=state.config, encode=encode) as opened:
        yield opened, embedded


def test_the_same_question_again_runs_no_encoder(state: State) -> None:
    state.write({"gate.md": "The gate opens at six.\n", "tea.md": "Tea is at four.\n"}).run()
    with reader(state) as (opened, embedded):
        first = opened.search(QUERY)
        first.hits[0].section.append("written into by the caller")
        assert opened.search(QUERY).hits[0].section == []
        assert embedded == [QUERY]
        for other in (
            {"k": 1},
            {"mode": "dense"},
            {"exact": True},
            {"filter": {"document": "tea*"}},
            {"fusion": "rrf"},
        ):
            opened.search(QUERY, **other)
        for other in ({"mmr": True}, {"expand": "section"}):
            opened.search(QUERY, **other)
        assert len(embedded) == 8, "whatever decides an answer makes another question"


def test_what_was_found_can_be_read_as_the_list_of_its_hits(state: State) -> None:
    state.write({"gate.md": "The gate opens at six.\n", "tea.md": "Tea is at four.\n"}).run()
    with reader(state) as (opened, _):
        hits = opened.search(QUERY)
        assert [hit.document for hit in hits] == ["gate.md", "tea.md"]
        assert (len(hits), hits[0].document, hits[1:]) == (2, "gate.md", hits.hits[1:])
        assert hits and not opened.search(QUERY, filter={"document": "none"})


def test_no_more_is_kept_than_asked_for(state: State) -> None:
    state.write({"gate.md": "The gate opens at six.\n"}).run()
    for size, expected in (("0", ["a", "a", "b", "a"]), ("1", ["a", "b", "a"]), ("2", ["a", "b"])):
        with reader(state.with_settings(f"search.cache={size}")) as (opened, embedded):
            for query in ("a", "a", "b", "a"):
                opened.search(query)
            assert embedded == expected


def test_publish_and_rollback_reach_a_warm_reader(state: State) -> None:
    state.write({"gate.md": "The gate opens at six.\n"}).run()
    with reader(state) as (opened, embedded):
        assert "six" in opened.search(QUERY).hits[0].text
        state.write({"gate.md": "The gate opens at seven.\n"}).run()
        assert (opened.search(QUERY).version, "seven" in opened.search(QUERY).hits[0].text) == (2, True)
        state.rollback()
        assert (opened.search(QUERY).version, "six" in opened.search(QUERY).hits[0].text) == (1, True)
        assert len(embedded) == 2, "what version 1 answers was known"


def test_erase_reaches_a_warm_reader(state: State) -> None:
    state.write({"gate.md": "The gate opens at six.\n", "secret.md": "The gate opens for Ann.\n"}).run()
    with reader(state) as (opened, _):
        assert len(opened.search(QUERY).hits) == 2
        erase.erase(state.config, state.workspace, "secret.md")
        assert [hit.document for hit in opened.search(QUERY).hits] == ["gate.md"]


def test_what_no_version_is_called_is_not_found(state: State) -> None:
    """Names come from programs too: 0 is not the active version, and no character is an error of ours."""
    state.write({"gate.md": "The gate opens at six.\n"}).run()
    with reader(state) as (opened, _):
        for name in (0, -1, 10**30, "v0", "a\0b", "\ud800", "%"):
            with pytest.raises(NotFoundError):
                opened.search(QUERY, at=name)
        assert opened.search(QUERY, at="active").version == opened.search(QUERY, at=None).version == 1
