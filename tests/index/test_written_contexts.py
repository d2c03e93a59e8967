"""Contexts of chunks that a language model has written: once, kept, part of the version; from a real chat server."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines import erase as erasure
from pipelines.errors import ConfigError, ServiceUnavailable
from pipelines.files import read_manifest
from pipelines.manifests import read_chunks
from pipelines.model import Chunk, Revision
from tests.conftest import Databases
from tests.http_server import Answer, Server, asked, says
from tests.index.state import State


def page(about: str, *more: str) -> str:
    """A page of one chunk for each of its sections."""
    sections = [f"## Part {name}\n\nWhat is said of {name} in {about} goes on for some more words." for name in more]
    return "\n\n".join([f"# The {about}", *sections]) + "\n"


def passage(body: dict[str, Any]) -> str:
    found = re.search(r"<passage>\n(.*)\n</passage>", asked(body), re.DOTALL)
    assert found
    return found[1]


def about(body: dict[str, Any]) -> Answer:
    """Two sentences that name the passage by a word of its own."""
    word = hashlib.sha256(passage(body).encode()).hexdigest()[:8]
    return says(f"It is the part w{word} of a guide.\n\0Nobody asks twice.")


@pytest.fixture
def chat() -> Iterator[Server]:
    with Server(about) as running:
        yield running


@pytest.fixture
def guides(state: State, chat: Server) -> State:
    state.write({"harbour.md": page("harbour", "a", "b", "c"), "orchard.md": page("orchard", "a")})
    return with_model(state, chat)


def with_model(state: State, chat: Server, *settings: str) -> State:
    return state.with_settings(
        "chunk.max_tokens=48",
        "chunk.context=model",
        "generate.model=openai:some",
        f"generate.endpoint={chat.url}",
        *settings,
    )


def chunks(state: State) -> dict[str, list[Chunk]]:
    """Of each document."""
    _, rows = read_chunks(state.workspace, state.name)
    revisions = dict(state.workspace.store("chunks").read({row.revision_key for row in rows}))
    return {row.uri: list(Revision.from_json(revisions[row.revision_key]).chunks) for row in rows}


# -- what is written ---------------------------------------------------------------------------------------------------


def test_what_the_model_says_is_embedded_and_searched_beside_the_headings(guides: State, chat: Server) -> None:
    report = guides.run()
    found = chunks(guides)
    assert report["written"] == len(chat.bodies) == sum(map(len, found.values())) >= 4
    for document, of in found.items():
        text = (guides.root / "docs" / document).read_text("utf-8")
        for chunk in of:
            heading, _, said = chunk.context.rpartition("\n")
            assert re.fullmatch(r"It is the part w[0-9a-f]{8} of a guide\.( Nobody asks twice\.)?", said)
            assert heading in ("", "The harbour", "The orchard") or heading.startswith("The ")
            assert text[chunk.start : chunk.end] == chunk.text
            assert chunk.tokens <= 48
            word = said.split()[4]
            assert [hit.chunk for hit in guides.search(word, mode="lexical").hits] == [chunk.key.hex()]
    shown = asked(chat.bodies[0])
    assert shown.startswith("<document>\n# The ")
    assert guides.problems() == []


def test_a_chunk_is_written_about_once(guides: State, chat: Server) -> None:
    first = guides.run()
    count = len(chat.bodies)
    assert guides.run()["snapshot"] == first["snapshot"]
    guides.path("harbour.md").rename(guides.path("port.md"))
    shutil.copy(guides.path("orchard.md"), guides.path("second.md"))
    moved = guides.run()
    assert (moved["written"], moved["embedded"], len(chat.bodies)) == (0, 0, count)
    guides.write({"orchard.md": page("orchard", "a", "z")})
    edited = guides.run()
    new = len(chat.bodies) - count
    assert edited["written"] == edited["embedded"] == new
    assert all("Part z" in passage(body) or "Part z" in asked(body) for body in chat.bodies[count:])
    assert new <= 2


def test_an_edit_elsewhere_in_a_document_asks_nothing_about_the_rest(guides: State, chat: Server) -> None:
    guides.run()
    before = {chunk.text: chunk for chunk in chunks(guides)["harbour.md"]}
    count = len(chat.bodies)
    guides.write({"harbour.md": page("harbour", "a", "b", "c").replace("What is said of c", "What was said of c")})
    report = guides.run()
    after = chunks(guides)["harbour.md"]
    kept = [chunk for chunk in after if chunk.text in before]
    assert kept and all(chunk.key == before[chunk.text].key for chunk in kept)
    assert report["written"] == report["embedded"] == len(chat.bodies) - count == len(after) - len(kept) == 1


def test_without_the_cache_an_edit_asks_about_what_is_new_alone(guides: State, chat: Server) -> None:
    """As in a clone, which has what was recorded and nothing else."""
    guides.run()
    before = {chunk.key for chunk in chunks(guides)["harbour.md"]}
    shutil.rmtree(guides.workspace.state / "cache")
    guides.write({"harbour.md": page("harbour", "a", "b", "c").replace("What is said of c", "What was said of c")})
    planned = guides.plan()
    report = guides.run()
    assert (planned["to_write"], report["written"], report["embedded"]) == (1, 1, 1)
    assert len(before - {chunk.key for chunk in chunks(guides)["harbour.md"]}) == 1


def test_another_model_writes_anew_and_the_way_back_asks_nothing(guides: State, chat: Server) -> None:
    first = guides.run()
    count = len(chat.bodies)
    other = with_model(guides, chat, "generate.model=openai:other")
    second = other.run()
    assert len(chat.bodies) == 2 * count
    assert second["snapshot"] != first["snapshot"]
    assert guides.run()["snapshot"] == first["snapshot"]
    assert guides.with_settings("chunk.max_tokens=48").run()["written"] == 0
    assert len(chat.bodies) == 2 * count


def test_a_plan_asks_nothing_and_says_what_would_be_written(guides: State, chat: Server) -> None:
    priced = with_model(guides, chat, "generate.price_per_million_prompt_tokens=1000")
    planned = priced.plan()
    assert chat.bodies == []
    assert planned["estimate"]["cost"] > 0
    ran = priced.run()
    assert (planned["to_write"], planned["to_embed"]) == (ran["written"], ran["embedded"])
    assert planned["chunks"] == ran["chunks"]
    again = priced.plan()
    assert (again["to_write"], again["to_embed"], again["estimate"]["cost"]) == (0, 0, 0)


# -- when something is away --------------------------------------------------------------------------------------------


def test_a_model_that_goes_away_leaves_the_old_version_and_what_it_wrote(
    guides: State, chat: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.models.service.ATTEMPTS", 1)
    one = with_model(guides, chat, "generate.concurrency=1")
    first = one.run()
    guides.write({"new.md": page("mill", "a", "b", "c", "d")})
    manifest = one.workspace.manifest(one.name, "chunks")
    before, count = manifest.read_bytes(), len(chat.bodies)
    chat.answers = [about, about, lambda _: (503, {}, {})]
    with pytest.raises(ServiceUnavailable, match="status 503") as caught:
        one.run()
    assert caught.value.retryable
    assert manifest.read_bytes() == before
    assert one.version("active").snapshot == first["snapshot"]
    second = one.run()
    assert len(chat.bodies) - count == 3 + second["written"]
    assert second["embedded"] == second["written"] + 2
    bodies = [passage(body) for body in chat.bodies]
    assert len(bodies) - len(set(bodies)) == 1  # only the one that failed was asked again


def test_without_a_model_it_says_so(guides: State, chat: Server) -> None:
    with pytest.raises(ConfigError, match="no model that writes") as caught:
        with_model(guides, chat, "generate.model=").run()
    assert "generate.model" in caught.value.hint


def test_an_empty_database_is_filled_without_the_model(
    guides: State, chat: Server, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = guides.run()
    count = len(chat.bodies)
    shutil.rmtree(guides.workspace.state / "cache")
    with databases() as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        again = State(guides.root, url, guides.config).run()
    assert (again["snapshot"], again["written"], again["embedded"]) == (first["snapshot"], 0, 0)
    assert len(chat.bodies) == count


def test_other_answers_for_the_same_bytes_make_another_revision(guides: State, chat: Server) -> None:
    """As from a second machine that has none of the files, and a model that does not say the same twice."""
    first = guides.run()
    shutil.rmtree(guides.workspace.state / "cache")
    shutil.rmtree(guides.root / "data")
    chat.right = lambda body: says("Something else altogether.")
    second = guides.run()
    assert second["snapshot"] != first["snapshot"]
    assert second["chunks"]["added"] == second["written"] == first["written"]
    assert guides.problems(1) == guides.problems(2) == []
    assert not guides.search("guide", mode="lexical").hits
    assert guides.search("guide", mode="lexical", at=1).hits


# -- what does not stay ------------------------------------------------------------------------------------------------


def test_erasing_a_document_forgets_what_was_written(guides: State, chat: Server) -> None:
    guides.run()
    cache = guides.workspace.state / "cache"
    assert list(cache.glob("answers.sqlite*"))
    erasure.erase(guides.config, guides.workspace, "orchard.md")
    assert not list(cache.glob("answers.sqlite*"))
    count = len(chat.bodies)
    report = guides.run()
    assert (report["written"], len(chat.bodies)) == (0, count)


def test_the_same_words_in_another_document_are_asked_about_again(guides: State, chat: Server) -> None:
    """What was written from one document must not say in another what only the first one knows."""
    guides.run()
    count = len(chat.bodies)
    guides.write({"second.md": page("orchard", "a") + "\nAnd a secret.\n"})
    assert guides.run()["written"] == len(chat.bodies) - count >= 1


def test_the_manifest_names_the_recipe_with_the_model(guides: State, chat: Server) -> None:
    recipes = set()
    for state in (
        guides,
        with_model(guides, chat, "generate.model=openai:other"),
        with_model(guides, chat, "generate.temperature=0.5"),
        guides.with_settings("chunk.max_tokens=48"),
    ):
        state.run()
        manifest = read_manifest(state.workspace.manifest(state.name, "chunks"), "chunks")
        assert manifest
        recipes.add(manifest.facts["recipe"])
    assert len(recipes) == 4
