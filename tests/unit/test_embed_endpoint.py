"""An OpenAI-compatible server that misbehaves, over real HTTP."""

import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.config import Config, EmbedConfig, IndexConfig
from pipelines.embed import encode_query
from pipelines.embed.encoders import load_encoder
from pipelines.errors import ConfigError, InputError, IntegrityError, ServiceUnavailable, SnapdexError
from pipelines.files import Workspace
from pipelines.models import endpoint as endpoint_module
from pipelines.models import resolve_model
from pipelines.models.endpoint import Endpoint, open_endpoint
from tests.http_server import Answer, Server

KEY = "sk-canary-5f2d"


def vector(text: str, dimension: int) -> list[float]:
    return [float(len(text)), *([1.0] * (dimension - 1))]


def right(body: dict[str, Any]) -> Answer:
    rows = [
        {"index": place, "embedding": vector(text, body.get("dimensions", 4))}
        for place, text in enumerate(body["input"])
    ]
    return 200, {}, {"data": rows[::-1]}  # in the wrong order, with the right index


def status(code: int, **headers: str) -> Callable[[dict[str, Any]], Answer]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: (code, named, {"error": {"message": f"no, {KEY}"}})


def altered(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[dict[str, Any]], Answer]:
    def answer(body: dict[str, Any]) -> Answer:
        rows = right(body)[2]["data"]
        return 200, {}, {"data": change(rows)}

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(right)
    yield running
    running.close()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def client(server: Server, pauses: list[float]) -> Iterator[Endpoint]:
    with Endpoint(server.url, "some", KEY, timeout_seconds=0.5, sleep=pauses.append, chance=lambda: 0.5) as client:
        yield client


def expected(texts: list[str], dimension: int = 4) -> np.ndarray:
    rows = np.array([vector(text, dimension) for text in texts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# -- what is right -----------------------------------------------------------------------------------------------------


def test_order_comes_from_the_index_and_batches_are_bounded(
    client: Endpoint, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module, "REQUEST_ITEMS", 3)
    monkeypatch.setattr(endpoint_module, "REQUEST_TOKENS", 20)
    texts = ["a", "bb", "ccc", "dddd", "e" * 90, "f", "g" * 40, "h" * 40]
    assert np.allclose(client.embed(texts), expected(texts), atol=1e-6)
    assert [len(body["input"]) for body in server.bodies] == [3, 1, 1, 2, 1]
    assert set(server.keys) == {f"Bearer {KEY}"}


def test_the_dimension_is_asked_once(server: Server, tmp_path: Path) -> None:
    config = EmbedConfig(model="openai:some", endpoint=server.url)
    assert resolve_model(config, Workspace(tmp_path)).dimension == 4
    assert resolve_model(config, Workspace(tmp_path)).dimension == 4
    assert len(server.bodies) == 1


def test_an_encoder_adds_prefixes_and_asks_for_the_configured_dimension(server: Server, tmp_path: Path) -> None:
    config = EmbedConfig(
        model="openai:some", endpoint=server.url, dimension=6, passage_prefix="p: ", query_prefix="q: "
    )
    encoder = load_encoder(resolve_model(config, Workspace(tmp_path)), config)
    assert np.allclose(encoder.encode(["one", "three"]), expected(["p: one", "p: three"], 6), atol=1e-6)
    assert np.allclose(encoder.encode_queries(["two"]), expected(["q: two"], 6), atol=1e-6)
    assert encoder.encode([]).shape == (0, 6)
    assert server.bodies[0]["dimensions"] == 6


def test_the_base_url_may_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    with open_endpoint(EmbedConfig(), "some") as client:
        assert client.embed(["a"]).shape == (1, 4)


# -- what passes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [status(429), status(500), status(503), status(408), lambda _: None, lambda _: (200, {}, b"<html>busy</html>")],
    ids=["429", "500", "503", "408", "hang up", "no JSON"],
)
def test_trouble_that_passes_is_outwaited(
    trouble: Callable[[dict[str, Any]], Answer | None], client: Endpoint, server: Server, pauses: list[float]
) -> None:
    server.answers = [trouble, trouble, trouble]
    assert np.allclose(client.embed(["a"]), expected(["a"]), atol=1e-6)
    assert pauses == [0.5, 1.0, 2.0]


def test_a_server_that_never_answers_is_given_up(server: Server, pauses: list[float]) -> None:
    def slow(body: dict[str, Any]) -> None:
        time.sleep(0.15)

    server.answers = [slow] * 6
    with (
        Endpoint(server.url, "some", timeout_seconds=0.05, sleep=pauses.append) as client,
        pytest.raises(ServiceUnavailable, match="ReadTimeout") as caught,
    ):
        client.embed(["a"])
    assert caught.value.retryable
    assert len(pauses) == 5


def test_nobody_listens(pauses: list[float]) -> None:
    with (
        Endpoint("http://127.0.0.1:9", "some", sleep=pauses.append) as client,
        pytest.raises(ServiceUnavailable, match="ConnectError"),
    ):
        client.embed(["a"])


def test_the_server_says_how_long_to_wait(client: Endpoint, server: Server, pauses: list[float]) -> None:
    soon = formatdate(time.time() + 20, usegmt=True)
    server.answers = [status(429, Retry_After="7"), status(503, Retry_After=soon), status(503, Retry_After="soon")]
    client.embed(["a"])
    assert pauses[0] == 7
    assert 17 < pauses[1] <= 20
    assert pauses[2] == 2


def test_a_wait_of_an_hour_is_the_callers_business(client: Endpoint, server: Server, pauses: list[float]) -> None:
    server.answers = [status(429, Retry_After="3600")]
    with pytest.raises(ServiceUnavailable, match="3600 s"):
        client.embed(["a"])
    assert pauses == []


def test_requests_keep_to_the_rate(server: Server, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "REQUEST_ITEMS", 1)
    with Endpoint(server.url, "some", requests_per_minute=30, sleep=pauses.append, clock=lambda: 100.0) as client:
        client.embed(["a", "b", "c"])
    assert pauses == [2.0, 4.0]


# -- what does not pass ------------------------------------------------------------------------------------------------


def _nan(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows[0]["embedding"][0] = float("nan")
    return rows


def _moved(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"index": 0} for row in rows]


WRONG: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "too few": lambda rows: rows[:1],
    "too many": lambda rows: [*rows, rows[0]],
    "same place twice": _moved,
    "nan": _nan,
    "zero": lambda rows: [row | {"embedding": [0.0] * 4} for row in rows],
    "ragged": lambda rows: [rows[0], rows[1] | {"embedding": [1.0]}],
    "empty": lambda rows: [row | {"embedding": []} for row in rows],
    "words": lambda rows: [row | {"embedding": "AAAA"} for row in rows],
    "no list": lambda rows: None,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_refused_at_once(name: str, client: Endpoint, server: Server, pauses: list[float]) -> None:
    server.answers = [altered(WRONG[name])]
    with pytest.raises(IntegrityError, match="nothing of it was stored"):
        client.embed(["a", "b"])
    assert pauses == []


def test_another_dimension_than_asked_is_refused(server: Server) -> None:
    server.answers = [altered(lambda rows: rows)]
    with Endpoint(server.url, "some", dimension=8) as client:
        client.embed(["a"])
        server.answers = [altered(lambda rows: [row | {"embedding": [1.0, 2.0]} for row in rows])]
        with pytest.raises(IntegrityError, match="2 dimensions instead of 8"):
            client.embed(["a"])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (401, ConfigError),
        (403, ConfigError),
        (404, ConfigError),
        (302, ConfigError),
        (400, InputError),
        (413, InputError),
    ],
)
def test_a_refusal_is_final_and_never_shows_the_key(
    code: int, kind: type[SnapdexError], client: Endpoint, server: Server, pauses: list[float]
) -> None:
    server.answers = [status(code)]
    with pytest.raises(kind) as caught:
        client.embed(["a"])
    assert pauses == []
    assert KEY not in f"{caught.value!r} {caught.value.hint} {caught.value.context} {client!r} {vars(client)!r}"


def test_a_password_in_the_url_is_not_shown(pauses: list[float]) -> None:
    with (
        Endpoint("http://me:canary@127.0.0.1:9/v1", "some", sleep=pauses.append) as client,
        pytest.raises(ServiceUnavailable) as caught,
    ):
        client.embed(["a"])
    assert "canary" not in str(caught.value)


def test_who_searches_is_told_soon_that_the_server_is_away(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A job would go on for minutes."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    config = Config(
        index=IndexConfig(name="x"), embed=EmbedConfig(model="openai:some", endpoint=server.url, dimension=4)
    )
    found = encode_query(config, Workspace(tmp_path), "tea")
    assert found == pytest.approx(expected(["tea"])[0])
    server.bodies.clear()
    server.right = status(503)
    with pytest.raises(ServiceUnavailable) as caught:
        encode_query(config, Workspace(tmp_path), "tea")
    assert len(server.bodies) == 2 and "kept" not in caught.value.hint
