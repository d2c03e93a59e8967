"""Questions of a golden set that a model has written, from a real chat server, as users ask for them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipelines.cli.app import cli
from pipelines.errors import ServiceUnavailable
from pipelines.evaluate import read_golden
from tests.http_server import Server, asked, says
from tests.index.state import State

TEXTS = {
    "harbour.md": "# Harbour\n\nThe harbour master opens the northern gate every morning when the tide is high enough.",
    "orchard.md": "# Orchard\n\nApples of the old orchard are picked by hand before the first frost of the year comes.",
    "copy.md": "# Orchard\n\nApples of the old orchard are picked by hand before the first frost of the year comes.",
    "short.md": "# Short\n\nToo little to ask.",
}


def about(text: str) -> str:
    return (
        "1. Who lets ships in?"
        if "harbour" in text
        else '"When are apples of the old orchard picked by hand?"\n\nHope it helps!'
    )


@pytest.fixture
def chat() -> Iterator[Server]:
    with Server(lambda body: says(about(asked(body)))) as running:
        yield running


@pytest.fixture
def library(state: State) -> State:
    state.write(TEXTS)
    state.run()
    return state


def draft(library: State, chat: Server, file: Path, *more: str) -> dict[str, Any]:
    words = ["golden", "draft", str(file), "--model", "openai:some", "--set", f"generate.endpoint={chat.url}"]
    done = CliRunner().invoke(cli, [*words, "--home", str(library.root), "--json", *more])
    if done.exception:
        raise done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_model_is_asked_about_each_chunk_once(library: State, chat: Server, tmp_path: Path) -> None:
    file = tmp_path / "drafts.jsonl"
    report = draft(library, chat, file, "--set", "generate.price_per_million_prompt_tokens=1000")
    assert report == {
        "golden": str(file),
        "added": 2,
        "known": 0,
        "model": "openai:some",
        "written": 2,
        "cost": 0.02,
    }
    rows = {row["documents"][0]: row for row in map(json.loads, file.read_text("utf-8").splitlines())}
    assert rows["harbour.md"]["question"] == "Who lets ships in?"
    assert "trivial" not in rows["harbour.md"]
    assert rows["harbour.md"]["section"] == ["Harbour"]
    assert "northern gate" in rows["harbour.md"]["passage"]
    (orchard,) = [row for document, row in rows.items() if document != "harbour.md"]
    assert orchard["question"] == "When are apples of the old orchard picked by hand?"
    assert orchard["trivial"] is True
    assert [query.draft for query in read_golden(file, drafts=True)] == [True, True]
    again = draft(library, chat, file)
    assert (again["added"], again["known"], again["written"]) == (0, 2, 0)
    assert len(chat.bodies) == 2


def test_what_was_written_before_the_server_went_away_is_kept(
    library: State, chat: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.models.service.ATTEMPTS", 1)
    one = ("--set", "generate.concurrency=1")
    chat.answers = [lambda body: says(about(asked(body))), lambda _: (503, {}, {})]
    with pytest.raises(ServiceUnavailable):
        draft(library, chat, tmp_path / "drafts.jsonl", *one)
    assert not (tmp_path / "drafts.jsonl").exists()
    assert draft(library, chat, tmp_path / "drafts.jsonl", *one)["written"] == 1
    assert len(chat.bodies) == 3


def test_what_is_no_question_is_left_out(library: State, chat: Server, tmp_path: Path) -> None:
    chat.right = lambda body: says("\n\n" if "harbour" in asked(body) else "Why? " * 50)
    assert draft(library, chat, tmp_path / "drafts.jsonl")["added"] == 0
