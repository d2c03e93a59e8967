"""Errors in the words of who asks."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pipelines.doors import HTTP, MCP, Door, hint_at, wrong_request
from pipelines.errors import ConfigError, NotFoundError
from pipelines.serve.shapes import SearchInBody

SOURCE = "".join(path.read_text("utf-8") for path in Path("pipelines").rglob("*.py") if path.name != "doors.py")


@pytest.mark.parametrize("door", [HTTP, MCP])
def test_hints_that_are_replaced_are_hints_of_ours(door: Door) -> None:
    assert [hint for hint in door.instead if hint not in SOURCE] == []
    lost = NotFoundError("no version v9", hint="`snapdex log` lists the versions")
    assert hint_at(door, lost) == door.versions and "snapdex" not in door.versions
    assert hint_at(door, NotFoundError("x", hint="leave one out")) == "leave one out"


@pytest.mark.parametrize(
    "hint", ["make one with: snapdex run", "check OPENAI_API_KEY", "set generate.model", "pip install 'x[y]'"]
)
def test_what_only_the_owner_can_do_is_said_to_be_theirs(hint: str) -> None:
    assert hint_at(HTTP, ConfigError("x", hint=hint)) == f"for whoever runs the service: {hint}"


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"query": "x", "k": 0}, "k has to be 1 or more"),
        ({"query": "x", "k": 10**9}, "k has to be 10000 or less"),
        ({"query": "x", "k": "many"}, "k has to be a whole number"),
        ({"query": "x", "mode": "fuzzy"}, "mode has to be 'dense', 'lexical' or 'hybrid'"),
        ({"query": "x", "mmr": 7}, "mmr has to be true or false"),
        ({"query": "x", "at": "<v1>"}, "at is not the name of a version"),
        ({"query": "x", "filter": []}, "filter has to be an object"),
        (
            {"query": "x", "filter": {"a": [1]}},
            "filter.a has to be text or a whole number or a number or true or false",
        ),
        ({"query": "x", "vector": []}, "vector has no entry"),
        ({"query": "x", "vector": ["y"]}, "vector.0 has to be a number"),
        ({"query": ""}, "query is empty"),
        ({}, "query is missing"),
        ({"query": "x", "colour": "red"}, "colour is not known"),
        ([], "the body has to be an object"),
    ],
)
def test_a_request_is_refused_in_one_line_without_what_it_holds(body: Any, wrong: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(SearchInBody).validate_python(body)
    error, hint = wrong_request(HTTP, caught.value.errors(), "the body")
    assert sorted(error.replace(",", "").split()) == sorted(wrong.replace(",", "").split()) and "\n" not in error
    assert hint and "pydantic" not in hint
