"""What the endpoints answer: the shapes of the command line, over HTTP."""

import re
from typing import Any

import httpx
import jsonschema
import pytest

from pipelines.index import open_index
from pipelines.index.history import version_facts
from tests.index.state import State
from tests.serve.conftest import HOSTILE, SECOND, serving

QUERY = "when does the harbour gate open"


def asked(client: httpx.Client, **parameters: Any) -> dict[str, Any]:
    """A search in the URL, which the same search in the body must not differ from."""
    body = {**parameters}
    if "filter" in body:
        body["filter"] = dict(text.split("=", 1) for text in body["filter"])
    in_url, in_body = client.get("/search", params=parameters), client.post("/search", json=body)
    assert (in_url.status_code, in_url.json()) == (200, in_body.json())
    return in_url.json()


def test_a_search_is_what_a_reader_of_the_index_finds(book: State, client: httpx.Client) -> None:
    for options in (
        {},
        {"mode": "dense"},
        {"mode": "lexical", "k": 1},
        {"mmr": True},
        {"expand": "section"},
        {"at": "v1"},
    ):
        with open_index(workspace=book.root, config=book.config) as reader:
            expected = reader.search(QUERY, **options).to_json()
        found = asked(client, query=QUERY, **options)
        assert found == expected | {"hits": [hit | {"parent": list(hit["parent"])} for hit in expected["hits"]]}
    assert "six" in asked(client, query=QUERY, at="1")["hits"][0]["text"]
    assert "seven" in asked(client, query=QUERY, at=book.version(2).snapshot[:12])["hits"][0]["text"]


def test_filters(client: httpx.Client) -> None:
    found = asked(client, query="lamps gate tea", filter=["document=new/*"])
    assert [hit["document"] for hit in found["hits"]] == ["new/lamp.md"]
    for impossible in ("day=2024-99-99", "title=[[", f"title={'[' * 900}"):  # what YAML cannot read is a text
        assert asked(client, query="lamps", filter=[impossible])["hits"] == []
    both = asked(client, query="lamps gate tea", filter=["media_type=text/markdown", "document=t*"])
    assert [hit["document"] for hit in both["hits"]] == ["tea.md"]


def test_a_vector_takes_the_place_of_the_model(book: State, client: httpx.Client) -> None:
    def search(**body: Any) -> httpx.Response:
        return client.post("/search", json={"query": QUERY, "mode": "dense", **body})

    vector = book.vector(QUERY)
    assert search(vector=vector).json() == search().json()
    assert search(vector=[1e-30 * each for each in vector]).json()["hits"][0]["document"] == "gate.md"
    other = search(vector=book.vector("tea is served at four")).json()
    assert other["hits"][0]["document"] == "tea.md"
    for wrong in ([0.0] * 64, [1.0] * 63, [], [1.0] * 20_000, ["x"], "x"):
        assert search(vector=wrong).status_code == 422
    assert client.post("/search", json={"query": "x", "mode": "lexical", "vector": vector}).status_code == 422


def test_nothing_relevant_is_an_answer(client: httpx.Client) -> None:
    assert asked(client, query=QUERY)["abstained"] is False
    assert asked(client, query="quarterly turnover of zebra farms")["abstained"] is True


def test_versions_and_what_differs(book: State, client: httpx.Client) -> None:
    listed = client.get("/versions").json()
    expected = [version_facts(version) for version in reversed(book.versions())]
    assert listed == [facts | {"created_at": facts["created_at"].isoformat()} for facts in expected]
    found = client.get("/diff", params={"from": "v1"}).json()
    assert (found["from"], found["to"]) == (1, 2)
    assert found["documents"] == {
        "added": ["notes/javascript:alert(1).md"],
        "removed": [],
        "modified": ["gate.md"],
        "renamed": [["old/lamp.md", "new/lamp.md"]],
    }
    assert found["chunks"]["added"] >= 2 and found["chunks"]["removed"] >= 1
    back = client.get("/diff", params={"from": "2", "to": "1"}).json()
    assert back["chunks"] == {"added": found["chunks"]["removed"], "removed": found["chunks"]["added"]}


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (("GET", "/search?query=x&at=v9"), 404, "index handbook has no version v9"),
        (("GET", "/search?query=x&rerank=true"), 400, "cannot put hits in order"),
        (("GET", "/search?query=x&filter=nothing"), 422, "'nothing' is not KEY=VALUE"),
        (("GET", "/search?query=x&k=101"), 422, "k is 101, and 100 is allowed"),
        (("GET", "/search?query=x&k=many"), 422, "k has to be a whole number"),
        (("GET", "/search?query="), 422, "query is empty"),
        (("GET", "/search"), 422, "query is missing"),
        (("GET", "/search?query=x&kk=1"), 422, "kk is not known"),
        (("GET", "/search?query=" + "x" * 2001), 422, "2,001 characters"),
        (("GET", "/search?query=x&at=%00"), 422, "at is not the name of a version"),
        (("GET", "/diff"), 422, "from is missing"),
        (("GET", "/diff?from=v1&to=v9"), 404, "no version v9"),
        (("GET", "/nowhere"), 404, "Not Found"),
        (("DELETE", "/search"), 405, "Method Not Allowed"),
    ],
)
def test_what_is_wrong_is_said(client: httpx.Client, request_: tuple[str, str], status: int, said: str) -> None:
    answer = client.request(*request_)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in problem["error"] and problem["hint"] and "snapdex" not in problem["hint"]
    assert set(problem) == {"error", "hint"}


def test_health_and_figures(book: State) -> None:
    with serving(book) as client:
        assert client.get("/live").status_code == 204
        health = client.get("/health").json()
        assert health == {"status": "ok", "index": "handbook", "database": True, "version": 2} | {
            "snapshot": book.version(2).snapshot
        }
        client.get("/search", params={"query": "quarterly turnover of zebra farms"})
        client.get("/search", params={"query": QUERY})
        client.get("/search")
        client.get("/search/%2e%2e/secret?query=private")
        text = client.get("/metrics").text
    figures = dict(re.findall(r"^(snapdex_\S+) (\S+)$", text, re.MULTILINE))
    assert figures['snapdex_requests_total{route="/search",status="200"}'] == "2.0"
    assert figures['snapdex_requests_total{route="/search",status="422"}'] == "1.0"
    assert figures['snapdex_requests_total{route="other",status="404"}'] == "1.0"
    assert figures['snapdex_request_seconds_count{route="/search"}'] == "3.0"
    assert figures['snapdex_abstentions_total{index="handbook"}'] == "1.0"
    assert figures['snapdex_active_version{index="handbook"}'] == "2.0"
    assert (figures["snapdex_database_up"], figures["snapdex_requests_in_flight"]) == ("1.0", "1.0")
    assert "zebra" not in text and "private" not in text


def test_without_a_version_there_is_nothing_to_serve(state: State) -> None:
    with serving(state) as client:
        answer = client.get("/health")
        assert (answer.status_code, answer.json()["database"], answer.json()["version"]) == (503, True, None)
        assert client.get("/search", params={"query": "x"}).status_code == 404
        assert client.get("/live").status_code == 204
        state.write({"a.md": "The gate opens at six.\n"}).run()
        assert client.get("/search", params={"query": "gate"}).json()["version"] == 1


def test_a_publish_and_a_rollback_are_seen_by_the_next_request(state: State) -> None:
    state.write({"a.md": "The gate opens at six.\n"}).run()
    with serving(state) as client:
        assert "six" in client.get("/search", params={"query": "gate"}).json()["hits"][0]["text"]
        state.write({"a.md": "The gate opens at seven.\n"}).run()
        assert "seven" in client.get("/search", params={"query": "gate"}).json()["hits"][0]["text"]
        state.rollback()
        assert "six" in client.get("/search", params={"query": "gate"}).json()["hits"][0]["text"]


def test_answers_are_what_the_description_says(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    asked_for = {
        "/search": {"query": QUERY},
        "/versions": {},
        "/diff": {"from": "v1"},
        "/health": {},
    }
    for path, parameters in asked_for.items():
        shape = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        validator = jsonschema.Draft202012Validator({**shape, "components": described["components"]})
        assert list(validator.iter_errors(client.get(path, params=parameters).json())) == []
    problem = described["paths"]["/search"]["get"]["responses"]["404"]["content"]["application/json"]["schema"]
    assert problem["$ref"].endswith("/Problem")
    for path, methods in described["paths"].items():
        for about in methods.values():
            assert about["summary"] and about["description"], path


def test_hostile_text_comes_as_it_is_and_never_as_a_page(client: httpx.Client) -> None:
    answer = client.get("/search", params={"query": "ferry island", "k": 1})
    assert answer.json()["hits"][0]["document"] in SECOND and HOSTILE in answer.json()["hits"][0]["text"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
