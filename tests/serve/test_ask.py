"""Answers over HTTP: the same as those of the command line, whole and piece by piece."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from pipelines.ask import Answerer
from pipelines.index import open_index
from tests.http_server import Server, chatting
from tests.index.state import State
from tests.serve.conftest import FIRST, SECOND, serving

QUESTION = "When does the harbour gate open?"
TIMES = ("seconds", "search_seconds", "model_seconds")


def events_of(answer: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    parts = [part.split("\n") for part in answer.text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in parts]


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in TIMES}


@pytest.fixture
def chat() -> Iterator[Server]:
    yield from chatting(lambda said: "The harbour gate opens at seven [1].")


def test_an_answer_is_that_of_the_command_line(book: State, client: httpx.Client) -> None:
    for body, texts in (({}, SECOND), ({"at": "v1"}, FIRST)):
        found = client.post("/ask", json={"question": QUESTION, **body}).json()
        with (
            open_index(workspace=book.root, config=book.config) as reader,
            Answerer(book.config, book.workspace) as answerer,
        ):
            expected = answerer.ask(reader, QUESTION, **body).to_json()
        assert plain(found) == json.loads(json.dumps(plain(expected)))
        (first, *_) = found["citations"]
        assert texts[first["document"]][first["start"] : first["end"]] == first["quote"]
        schema = client.get("/openapi.json").json()
        shape = schema["components"]["schemas"]["AnswerShape"] | {"components": schema["components"]}
        jsonschema.validate(found, shape)


def test_nothing_relevant_is_an_answer(client: httpx.Client) -> None:
    found = client.post("/ask", json={"question": "zebra quantum"}).json()
    assert found["abstained"] and found["citations"] == [] and found["nearest"]
    assert "snapdex_abstentions_total" in client.get("/metrics").text


def test_pieces_then_the_answer(book: State, chat: Server) -> None:
    lines = [{"choices": [{"delta": {"content": part}}]} for part in ("The harbour gate ", "opens at seven [1].")]
    written = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
    chat.right = lambda body: (200, {}, written.encode())
    with serving(book, "generate.model=openai:small", f"generate.endpoint={chat.url}") as client:
        answer = client.post("/ask", json={"question": QUESTION, "stream": True})
        assert answer.headers["content-type"].startswith("text/event-stream")
        *pieces, (name, last) = events_of(answer)
        assert [each["text"] for _, each in pieces] == ["The harbour gate ", "opens at seven [1]."]
        assert (name, last["answer"]) == ("answer", "The harbour gate opens at seven [1].")
        assert last["citations"][0]["quote"] == "The harbour gate opens at seven."

        broken = written.replace("data: [DONE]\n\n", 'data: {"error": {"type": "overloaded"}}\n\n')
        chat.right = lambda body: (200, {}, broken.encode())
        *_, (name, last) = events_of(client.post("/ask", json={"question": QUESTION, "stream": True}))
        assert name == "error" and "overloaded" in last["error"] and last["hint"]

        chat.right = lambda body: (401, {}, {})
        ((name, last),) = events_of(client.post("/ask", json={"question": QUESTION, "stream": True}))
        assert name == "error" and "key" in last["error"]
        refused = client.post("/ask", json={"question": QUESTION})
        assert refused.status_code == 400 and "key" in refused.json()["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"question": QUESTION, "at": "v9"}, 404),
        ({"question": "x" * 10_000}, 422),
        ({"question": QUESTION, "k": 9999}, 422),
        ({"question": ""}, 422),
        ({"question": " ?! "}, 422),
        ({"question": QUESTION, "stream": "perhaps"}, 422),
        ({"query": QUESTION}, 422),
    ],
)
def test_what_cannot_be_answered_says_why(client: httpx.Client, body: dict[str, Any], status: int) -> None:
    for more in ({}, {"stream": True}):
        answer = client.post("/ask", json=more | body)
        assert answer.status_code == status and answer.json()["error"] and answer.json()["hint"]


def test_asking_needs_the_token(book: State) -> None:
    with serving(book, tokens=["secret-token-of-somebody"]) as client:
        asked = {"json": {"question": QUESTION}}
        assert client.post("/ask", **asked).status_code == 200
        assert client.post("/ask", **asked, headers={"Authorization": "Bearer wrong"}).status_code == 401
