"""Requests made from what the service describes, and from what it does not: never a bug, always a reason."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_from_bytes

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.index.state import State
from tests.serve.conftest import serving

SAID = {200, 204, 400, 404, 405, 409, 413, 422, 503}
NASTY = st.sampled_from(
    [
        *(
            "",
            " ",
            "\0",
            "a\0b",
            "\ud800",
            "x\udfffy",
            "\u202e",
            "%",
            "%00",
            "'; DROP SCHEMA snapdex CASCADE; --",
            "{{7*7}}",
        ),
        *(
            "v1",
            "v0",
            "v-1",
            "active",
            "99999999999999999999",
            "-1",
            "1e999",
            "NaN",
            "true",
            "٣",
            "document=\\",
            "a=[[[[",
            "=",
            "d=2024-99-99",
        ),
        *("x" * 3000, "[" * 900, "<script>", "\\", "%_*", "ﷺ" * 50, "\x7f\x1b[2J"),
    ]
)
TEXT = NASTY | st.text(st.characters(), max_size=40)
NUMBER = st.integers() | st.floats() | st.sampled_from([0, -1, 10**18, 10**30, 10**400, 1e308, -0.0, 5e-324])
VALUE = st.none() | st.booleans() | NUMBER | TEXT
JSON = st.recursive(
    VALUE, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
FILTERS = st.lists(
    st.sampled_from(["a=1", "document=*", "title=Gate"]) | TEXT.map(lambda text: f"a={text}"), max_size=2
)
RAW = st.sampled_from(
    [
        *(b"", b"{", b"null", b"[]", b'"\\ud800"', b"\xff\xfe", b"[" * 100_000, b'{"query":' * 5000, b"9" * 5000),
        b'{"query":"x","filter":' + b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"}",
        b'{"query":"x","k":' + b"9" * 4000 + b"}",
        *(b'{"query":"x","vector":[1e999]}', b'{"query":"x","query":1}', b'{"query":"\\u0000","at":"\\u0000"}'),
    ]
)


@pytest.fixture(scope="module")
def fuzzed(book: State) -> Iterator[httpx.Client]:
    with serving(book, "search.cache=10") as client:
        yield client


def values(shape: dict[str, Any], components: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What the schema allows, as far as it tells by its type; now and then anything."""
    if "$ref" in shape:
        return values(components[shape["$ref"].rpartition("/")[2]], components)
    if "anyOf" in shape:
        return st.one_of([values(each, components) for each in shape["anyOf"]])
    if "enum" in shape:
        return st.sampled_from(shape["enum"])
    kind = shape.get("type")
    if kind == "string" and "pattern" in shape:
        return often(st.sampled_from(["v1", "v2", "2", "active"]), TEXT)
    if kind == "array":
        inner = values(shape["items"], components)
        whole = (
            st.lists(st.floats(-1, 1), min_size=64, max_size=64) if shape["items"].get("type") == "number" else FILTERS
        )
        return often(whole, st.lists(inner, max_size=4))
    if kind == "object":
        known = {name: values(each, components) for name, each in shape.get("properties", {}).items()}
        if not known:
            return st.dictionaries(TEXT | st.sampled_from(["document", "title"]), VALUE, max_size=2)
        required = {name: known.pop(name) for name in shape.get("required", [])}
        return st.fixed_dictionaries(required, optional=known)
    allowed = {
        "string": TEXT,
        "integer": often(st.integers(1, 100), NUMBER),
        "number": often(st.floats(-1e6, 1e6), NUMBER),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return allowed.get(str(kind), JSON)


def often(usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 4).flatmap(lambda chance: usual if chance else other)


def in_url(value: Any) -> str:
    """Any text, half surrogate pairs included, as some client would write it."""
    return quote(value if isinstance(value, str) else str(value), safe="", errors="surrogatepass")


def check(answer: httpx.Response) -> None:
    assert answer.status_code in SAID, (answer.status_code, answer.text)
    if answer.status_code >= 400 and not answer.url.path.startswith("/health"):
        problem = json.loads(answer.content)
        assert problem["error"] and problem["hint"] and "Traceback" not in answer.text
    elif "event-stream" in answer.headers.get("content-type", ""):
        assert answer.text.startswith("event: answer\ndata: {")
    elif "json" in answer.headers.get("content-type", ""):
        json.loads(answer.content, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def operations(client: httpx.Client) -> list[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    described = client.get("/openapi.json").json()
    return [
        (path, method, about, described["components"]["schemas"])
        for path, methods in described["paths"].items()
        for method, about in methods.items()
        if method == "post" or about.get("parameters")
    ]


def test_whatever_takes_something_is_fuzzed(fuzzed: httpx.Client) -> None:
    found = {(method, path) for path, method, _, _ in operations(fuzzed)}
    assert found == {("get", "/search"), ("post", "/search"), ("post", "/ask"), ("get", "/diff")}


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_request_finds_a_bug(fuzzed: httpx.Client, data: st.DataObject) -> None:
    path, method, about, components = data.draw(st.sampled_from(operations(fuzzed)))
    pairs: list[tuple[str, Any]] = []
    for parameter in about.get("parameters", []):
        if parameter.get("required") or data.draw(st.booleans()):
            value = data.draw(values(parameter["schema"], components))
            pairs += [
                (parameter["name"], each)
                for each in (value if isinstance(value, list) else [value])
                if each is not None
            ]
    pairs += data.draw(often(st.just([]), st.tuples(TEXT, TEXT).map(lambda pair: [pair])))
    url = path + "?" + "&".join(f"{in_url(name)}={in_url(value)}" for name, value in pairs)
    if method == "get":
        check(fuzzed.get(url))
        return
    shape = about["requestBody"]["content"]["application/json"]["schema"]
    described = values(shape, components).map(lambda value: json.dumps(value).encode())
    content = data.draw(often(described, RAW | JSON.map(lambda value: json.dumps(value).encode())))
    kind = data.draw(often(st.just("application/json"), st.sampled_from(["text/plain", "application/json; charset=x"])))
    check(fuzzed.post(url, content=content, headers={"Content-Type": kind}))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.binary(max_size=30), query=st.binary(max_size=30), method=st.sampled_from(["GET", "POST", "PUT", "HEAD"])
)
def test_no_address_finds_a_bug(fuzzed: httpx.Client, path: bytes, query: bytes, method: str) -> None:
    answer = fuzzed.request(method, f"/{quote_from_bytes(path)}?query={quote_from_bytes(query)}")
    assert answer.status_code in SAID
