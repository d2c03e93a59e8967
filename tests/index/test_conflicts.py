"""What one run must not do to another, and content that must come back as it went in."""

import pytest

from pipelines import embed, ingest
from pipelines.errors import ConfigError, ConflictError, InputError
from tests.index.state import State


def test_a_slow_run_does_not_undo_what_was_published_meanwhile(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    state.write({"a.md": "# A\n\nfirst text"}).run()
    other = State.make(state.root.parent / "other", state.url)
    other.write({"a.md": "# A\n\nfirst text", "b.md": "# B\n\nsecond text", "c.md": "# C\n\nthird text"})
    embed_here = embed.run

    def embed_slowly(*given, **options):
        monkeypatch.setattr(embed, "run", embed_here)
        other.run()  # while this run embeds, another workspace publishes
        return embed_here(*given, **options)

    monkeypatch.setattr(embed, "run", embed_slowly)
    state.write({"d.md": "# D\n\nfourth text"})
    with pytest.raises(ConflictError, match="published by somebody else"):
        state.run()
    assert set(state.documents("active")) == {"a.md", "b.md", "c.md"}
    report = state.run()
    assert report["documents"]["removed"] == 2, "the next run knows what it would take away"


@pytest.mark.parametrize("value", ["1.0e+16", "-0.0", "1.0e+308", "1.5e-10", "0.1", "12345678901234567890123", "1.0"])
def test_numbers_in_metadata_do_not_break_verification(state: State, value: str) -> None:
    state.write({"a.md": f"---\ntitle: T\nnumber: {value}\n---\n# A\n\nSome text here."}).run()
    assert state.problems() == []


def test_a_name_too_long_for_the_database_costs_that_document_only(state: State) -> None:
    sources = state.write_corpus(
        [{"_id": "x" * 6000, "text": "much too long a name"}, {"_id": "ok", "text": "a document with a good name"}]
    )
    plan = state.plan(sources=sources)
    report = state.run(sources=sources)
    assert report["documents"] == plan["documents"]
    assert (report["documents"]["total"], report["documents"]["excluded"]) == (1, 1)


def test_fixed_parameters_are_refused_by_the_plan_too(state: State) -> None:
    state.write({"a.md": "# A\n\ntext"}).run()
    for attempt in (ingest.plan, ingest.run):
        with pytest.raises(ConfigError, match=r"index\.language"):
            attempt(state.with_settings("index.language=german").config, state.workspace)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "nonsense"},
        {"filter": {"document": ["a"]}},
        {"filter": {"x": float("nan")}},
        {"dense_weight": 5},
        {"k": 0},
    ],
)
def test_questions_that_make_no_sense_are_refused(state: State, options: dict[str, object]) -> None:
    state.write({"a.md": "# A\n\ntext"}).run()
    with pytest.raises(InputError):
        state.search("text", **{"mode": "hybrid", **options})  # type: ignore[arg-type]


def test_a_filter_matches_everything_that_a_hit_shows(state: State) -> None:
    state.write({"a.md": "# Alpha\n\nshared words", "b.md": "# Beta\n\nshared words too"}).run()
    for hit in state.search("shared words").hits:
        for key, value in hit.metadata.items():
            assert hit.document in {found.document for found in state.search("shared words", filter={key: value}).hits}
    assert [hit.document for hit in state.search("shared", filter={"title": "Beta"}).hits] == ["b.md"]


def test_queries_with_characters_that_postgres_has_not(state: State) -> None:
    state.write({"a.md": "# A\n\nplain words"}).run()
    assert state.search("plain\0 words \ud800", mode="lexical").hits[0].document == "a.md"
