"""A chat server that misbehaves, over real HTTP."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import GenerateConfig
from pipelines.errors import ConfigError, InputError, IntegrityError, ServiceUnavailable, SnapdexError
from pipelines.files import Workspace
from pipelines.generate import Message, load_generator
from pipelines.generate.endpoint import EndpointModel
from pipelines.models import Generator, resolve_generator
from tests.http_server import Answer, Answerer, Server, asked, says

KEY = "sk-canary-77ab"
Conversation = list[Message]


def user(text: str) -> Conversation:
    return [Message("system", "Be brief."), Message("user", text)]


def status(code: int, **headers: str) -> Answerer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: (code, named, {"error": {"message": f"no, {KEY}"}})


def events(*pieces: str, end: bool = True, more: bytes = b"") -> Answer:
    rows = [{"choices": [{"delta": {"content": piece}, "finish_reason": None}]} for piece in pieces]
    lines = [f"data: {json.dumps(row)}\n\n" for row in rows] + (["data: [DONE]\n\n"] if end else [])
    return 200, {"Content-Type": "text/event-stream"}, b": waking up\n\n" + "".join(lines).encode() + more


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(lambda body: says(f"You said: {asked(body)}")) as running:
        yield running


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def model(server: Server, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[EndpointModel]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    config = GenerateConfig(model="openai:some", endpoint=server.url, timeout_seconds=0.5, max_tokens=7)
    with EndpointModel(named(), config, sleep=pauses.append, chance=lambda: 0.5) as opened:
        yield opened


def named() -> Generator:
    return Generator("openai:some", "endpoint", "0" * 64)


# -- what is right -----------------------------------------------------------------------------------------------------


def test_answers_come_in_order_whatever_takes_longest(model: EndpointModel, server: Server) -> None:
    def slow_first(body: dict[str, Any]) -> Answer:
        time.sleep(0.1 if asked(body) == "a" else 0)
        return says(f"You said: {asked(body)}")

    server.right = slow_first
    found = list(model.complete(map(user, "abcdefgh")))
    assert [each.text for each in found] == [f"You said: {letter}" for letter in "abcdefgh"]
    assert {(each.prompt_tokens, each.completion_tokens, each.finish) for each in found} == {(10, 3, "stop")}
    assert found[0].seconds >= 0.1
    assert set(server.paths) == {"/v1/chat/completions"}
    assert set(server.keys) == {f"Bearer {KEY}"}
    (first,) = [body for body in server.bodies if asked(body) == "a"]
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (first["model"], first["max_tokens"], first["temperature"]) == ("some", 7, 0)


def test_only_a_few_are_asked_ahead(model: EndpointModel, server: Server) -> None:
    read = []

    def endless() -> Iterator[Conversation]:
        for number in range(1000):
            read.append(number)
            yield user(str(number))

    answers = model.complete(endless(), max_tokens=3)
    assert next(answers).text == "You said: 0"
    answers.close()
    assert len(read) <= 5
    assert server.bodies[0]["max_tokens"] == 3


def test_an_answer_is_streamed(model: EndpointModel, server: Server) -> None:
    server.answers = [lambda _: events("Seven ", "", "ports.")]
    assert list(model.stream(user("how many?"))) == ["Seven ", "ports."]
    assert server.bodies[0]["stream"] is True


def test_a_model_is_resolved_without_a_request(server: Server, tmp_path: Path) -> None:
    config = GenerateConfig(model="openai:some", endpoint=server.url)
    found = resolve_generator(config, Workspace(tmp_path))
    assert (found.kind, found.name, len(found.revision)) == ("endpoint", "openai:some", 64)
    other = resolve_generator(GenerateConfig(model="openai:other", endpoint=server.url), Workspace(tmp_path))
    assert other.revision != found.revision
    assert server.bodies == []
    with load_generator(found, config) as model:
        assert next(model.complete([user("x")])).text == "You said: x"


def test_what_no_database_takes_is_left_out(model: EndpointModel, server: Server) -> None:
    server.answers = [lambda _: (200, {}, says("")[2] | {"choices": [{"message": {"content": "a\0b\ud800c"}}]})]
    assert next(model.complete([user("x")])).text == "ab?c"


# -- what passes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        status(429),
        status(500),
        lambda _: None,
        lambda _: (200, {}, b'{"choices": [{"mess'),
        lambda _: (200, {"Content-Length": "1000"}, b'{"choices": ['),
    ],
    ids=["429", "500", "hang up", "no JSON", "cut off"],
)
def test_trouble_that_passes_is_outwaited(
    trouble: Answerer, model: EndpointModel, server: Server, pauses: list[float]
) -> None:
    server.answers = [trouble, trouble]
    assert next(model.complete([user("a")])).text == "You said: a"
    assert pauses == [0.5, 1.0]


def test_the_server_says_how_long_to_wait(model: EndpointModel, server: Server, pauses: list[float]) -> None:
    server.answers = [status(429, Retry_After="7"), status(503, Retry_After="9")]
    assert next(model.complete([user("a")])).text == "You said: a"
    assert pauses == [7, 9]
    server.answers = [status(429, Retry_After="8"), lambda _: events("fine")]
    assert list(model.stream(user("a"))) == ["fine"]
    assert pauses == [7, 9, 8]


def test_a_server_that_never_answers_is_given_up(
    model: EndpointModel, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.models.service.ATTEMPTS", 2)
    server.answers = [lambda _: time.sleep(0.8)] * 2  # type: ignore[list-item, func-returns-value]
    with pytest.raises(ServiceUnavailable, match="completions: ReadTimeout") as caught:
        next(model.complete([user("a")]))
    assert caught.value.retryable


def test_what_was_answered_before_the_trouble_is_not_lost(model: EndpointModel, server: Server) -> None:
    def until_two(body: dict[str, Any]) -> Answer:
        return says("fine") if int(asked(body)) < 2 else (500, {}, {})

    server.right = until_two
    found = []
    with pytest.raises(ServiceUnavailable, match="status 500"):
        for each in model.complete(user(str(number)) for number in range(100)):
            found.append(each.text)  # noqa: PERF401 - that is the point
    assert found == ["fine", "fine"]
    assert {int(asked(body)) for body in server.bodies} <= set(range(6))  # the rest was never asked


@pytest.mark.parametrize("streamed", [False, True])
def test_a_person_who_waits_is_told_soon(streamed: bool, server: Server, pauses: list[float]) -> None:
    """Of a server that is away after one more attempt, of one that is silent after none; a job would go on."""
    config = GenerateConfig(model="openai:some", endpoint=server.url, timeout_seconds=0.3)
    with EndpointModel(named(), config, patient=False, sleep=pauses.append, chance=lambda: 0.5) as model:
        for trouble, attempts in ((lambda _: None, 2), (lambda _: time.sleep(0.6), 1)):
            server.bodies.clear()
            server.right = trouble  # type: ignore[assignment]
            with pytest.raises(ServiceUnavailable, match="does not answer with completions") as caught:
                next(model.stream(user("a")) if streamed else model.complete([user("a")]))
            assert len(server.bodies) == attempts
            assert "kept" not in caught.value.hint and "generate.endpoint" in caught.value.hint
    assert pauses == [0.5]


# -- what does not pass ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        events("Seven ", end=False),
        (200, {"Content-Length": "100000"}, events("Seven ", end=False)[2]),
        events(
            "Seven ", end=False, more=b'data: {"error": {"message": "no, sk-canary-77ab", "type": "overloaded"}}\n\n'
        ),
    ],
    ids=["ends early", "cut off", "error"],
)
def test_a_cut_stream_is_noticed(answer: Answer, model: EndpointModel, server: Server) -> None:
    server.answers = [lambda _: answer]
    pieces = model.stream(user("a"))
    assert next(pieces) == "Seven "
    with pytest.raises(ServiceUnavailable, match="middle") as caught:
        next(pieces)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [{}, [], {"choices": []}, {"choices": [{"message": {}}]}, {"choices": [{"message": {"content": [1]}}]}]
)
def test_a_wrong_answer_is_refused_at_once(
    answer: object, model: EndpointModel, server: Server, pauses: list[float]
) -> None:
    server.answers = [lambda _: (200, {}, answer)]
    with pytest.raises(IntegrityError, match="nothing of it was stored"):
        next(model.complete([user("a")]))
    assert pauses == []


def test_a_wrong_event_is_refused(model: EndpointModel, server: Server) -> None:
    server.answers = [lambda _: (200, {}, b"data: {half\n\n")]
    with pytest.raises(IntegrityError, match="no part of a completion"):
        list(model.stream(user("a")))


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        (401, ConfigError, "OPENAI_API_KEY"),
        (403, ConfigError, "OPENAI_API_KEY"),
        (404, ConfigError, "generate.model"),
        (400, InputError, "generate.max_tokens"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_refusal_is_final_and_never_shows_the_key(
    code: int,
    kind: type[SnapdexError],
    hint: str,
    streamed: bool,
    model: EndpointModel,
    server: Server,
    pauses: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answers = [status(code)]
    with pytest.raises(kind) as caught:
        next(model.stream(user("a")) if streamed else model.complete([user("a")]))
    assert hint in caught.value.hint
    assert pauses == []
    shown = f"{caught.value!r} {caught.value.hint} {caught.value.context} {model!r} {vars(model)!r} {caplog.text}"
    assert KEY not in shown


def test_openai_itself_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="needs a key") as caught:
        load_generator(named(), GenerateConfig(model="openai:some"))
    assert "generate.endpoint" in caught.value.hint
    with pytest.raises(ConfigError, match="endpoint is not a URL"):
        load_generator(named(), GenerateConfig(model="openai:some", endpoint="localhost"))
