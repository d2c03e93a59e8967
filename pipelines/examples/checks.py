"""What an answer must fulfil, as a set of examples declares it, and whether one does.

    {"json_schema": {...}, "regex": "...", "required": ["..."], "forbidden": ["..."], "min_words": 1, "max_words": 50,
     "refusal": false}

`json_schema` is the format, the others are constraints. Regular expressions are searched for, and texts are compared
without regard to case.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from pipelines.errors import InputError
from pipelines.model import canonical_json

FORMAT = "json_schema"
CONSTRAINTS = ("regex", "required", "forbidden", "min_words", "max_words", "refusal")
SHOWN = 120  # characters of what a validator says

_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am)? (?:do not|don't|cannot|can't|could not|couldn't|am not able|not able|unable|sorry)"
    r"|(?:i am|i'm) (?:sorry|afraid)|no (?:information|answer)|not (?:mentioned|stated|answerable)"
    r"|(?:does|do) not (?:contain|say|mention|provide|include|specify)|doesn't (?:say|mention|provide|contain))\b",
    re.IGNORECASE,
)


def read_checks(path: Path) -> dict[str, Any]:
    """The checks of a file. Raises `InputError` where they are none."""
    try:
        checks = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint="name a JSON file of checks") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}", hint="see docs/behaviour.md") from None
    wrong = declared_wrong(checks) if isinstance(checks, dict) else "it is no object"
    if wrong:
        raise InputError(f"{path}: {wrong}", hint="see docs/behaviour.md")
    return dict(checks)


def declared_wrong(checks: Mapping[str, Any]) -> str:
    """Why these are no checks, or nothing."""
    try:
        canonical_json(checks).encode("utf-8")
    except (ValueError, RecursionError) as error:
        return f"they cannot be written: {error}"
    for name, value in checks.items():
        if name == FORMAT:
            try:
                Draft202012Validator.check_schema(value)
            except SchemaError as error:
                return f"{FORMAT} is no JSON schema: {error.message[:SHOWN]}"
        elif name == "regex":
            try:
                re.compile(value)
            except (re.error, TypeError) as error:
                return f"regex is no regular expression: {error}"
        elif name in ("required", "forbidden"):
            if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
                return f"{name} is not a list of texts"
        elif name in ("min_words", "max_words"):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                return f"{name} is not a number of words"
        elif name == "refusal":
            if not isinstance(value, bool):
                return "refusal is neither true nor false"
        else:
            return f"{name} is not known: the checks are {', '.join((FORMAT, *CONSTRAINTS))}"
    return ""


def format_wrong(checks: Mapping[str, Any], answer: str) -> str:
    """Why the answer has not the declared format, or nothing; nothing too where none is declared."""
    if FORMAT not in checks:
        return ""
    try:
        value = json.loads(answer, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return "is not JSON"
    try:
        error = next(iter(_validator(canonical_json(checks[FORMAT])).iter_errors(value)), None)
    except Unresolvable as missing:
        return f"has a schema with a $ref that leads nowhere: {missing.ref[:SHOWN]}"
    if error is None:
        return ""
    where = "/".join(map(str, error.absolute_path))
    return f"does not match its schema{f' at {where}' if where else ''}: {error.message[:SHOWN]}"


def constraints_broken(checks: Mapping[str, Any], answer: str) -> Iterator[str]:
    """Each declared constraint that the answer breaks, in a few words."""
    words = len(answer.split())
    said = answer.casefold()
    if (pattern := checks.get("regex")) and not _pattern(pattern).search(answer):
        yield f"does not match {pattern}"
    for text in checks.get("required", ()):
        if text.casefold() not in said:
            yield f"does not say {text!r}"
    for text in checks.get("forbidden", ()):
        if text.casefold() in said:
            yield f"says {text!r}"
    if words < checks.get("min_words", 0):
        yield f"has {words} words, fewer than {checks['min_words']}"
    if words > checks.get("max_words", words):
        yield f"has {words} words, more than {checks['max_words']}"
    if "refusal" in checks and is_refusal(answer) != checks["refusal"]:
        yield "does not refuse" if checks["refusal"] else "refuses"


def has_constraints(checks: Mapping[str, Any]) -> bool:
    return any(name in checks for name in CONSTRAINTS)


def is_refusal(answer: str) -> bool:
    """Whether an answer says, in English, that it gives none: by its first two sentences, so that a quote is none."""
    return bool(_REFUSAL.search(" ".join(re.split(r"(?<=[.!?])\s+", answer.strip())[:2])))


@lru_cache(maxsize=1000)
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema), registry=Registry())  # of which nothing is fetched


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@lru_cache(maxsize=1000)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
