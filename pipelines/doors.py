"""What is wrong and what to do, in the words of who asks through a door: over HTTP, or a model.

At the command line a hint may name commands, parameters and variables. At a door nobody has them: what can be done
there is said in its own terms, and the rest is for whoever runs it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.errors import SnapdexError


@dataclass(frozen=True)
class Door:
    """How its hints begin, or what they are."""

    versions: str  # where to look for them
    allowed: str  # where it is said what a request may have
    owner: str  # before a hint that is not for who asks

    @property
    def instead(self) -> dict[str, str]:
        """Hints of the command line for which there is another one here."""
        return {
            "`snapdex log` lists the versions": self.versions,
            "`snapdex log` lists what there is": self.versions,
            "see `snapdex search --help`": self.allowed,
            "run again": "ask again",
            "run again: finished work is kept": "ask again",
            "for documents: lower chunk.max_tokens; for a query: ask in fewer words": "ask in fewer words",
            "bring that model back, or search with --mode lexical": "search in the mode lexical, which needs no model",
        }


HTTP = Door(
    versions="GET /versions lists the versions",
    allowed="GET /openapi.json says what is allowed",
    owner="for whoever runs the service",
)
MCP = Door(
    versions="the tool `versions` lists them",
    allowed="the schema of the tool says what is allowed",
    owner="tell the person who runs this server",
)

_FOR_THE_OWNER = re.compile(  # a command, a package, a page of ours, a variable, an option, a parameter
    r"\bsnapdex [a-z]|\bpip install|\bdocs/|\b[A-Z]+_[A-Z_]+\b|--[a-z]"
    r"|\b(?:ask|chunk|embed|generate|index|log|search|serve)\.[a-z]"
)
_KINDS = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "dict": "an object",
    "model": "an object",
    "list": "a list",
}


def hint_at(door: Door, error: SnapdexError) -> str:
    """What to do about an error of ours."""
    known = door.instead.get(error.hint)
    if known is None and _FOR_THE_OWNER.search(error.hint):
        return f"{door.owner}: {error.hint}"
    return known or error.hint


def wrong_request(door: Door, errors: Sequence[Any], whole: str) -> tuple[str, str]:
    """What is wrong with a request that pydantic refuses, and what to do. whole: what the request as such is called.

    Nothing of a value is repeated: it may be long, or not even text.
    """
    first = errors[0]
    place = _place(first)
    where = ".".join(place)[:100] or whole
    same = dict.fromkeys(_wrong(each) for each in errors if _place(each) == place)  # of a union, each of its kinds
    wrong = " or ".join(each if not index else each.removeprefix("has to be ") for index, each in enumerate(same))
    if first["type"] == "missing":
        return f"{where} is missing", f"send it; {door.allowed}"
    if first["type"] == "string_pattern_mismatch":
        return f"{where} {wrong}", "such as v3, 3, a tag, active, or the beginning of a snapshot id"
    if not place:
        return f"{where} {wrong}", "send an object as JSON, with the header Content-Type: application/json"
    return f"{where} {wrong}", door.allowed


def _place(error: Any) -> tuple[str, ...]:
    """The names that lead to what is wrong, without which member of a union it could not be."""
    place = tuple(map(str, error["loc"]))
    if error["type"] == "json_invalid":
        return ()
    return place[:-1] if len(place) > 1 and place[-1] in ("str", "int", "float", "bool") else place


def _wrong(error: Any) -> str:
    kind, about = error["type"], error.get("ctx", {})
    said = {
        "missing": "is missing",
        "extra_forbidden": "is not known",
        "json_invalid": "is not JSON",
        "string_too_short": "is empty",
        "string_pattern_mismatch": "is not the name of a version",
        "greater_than_equal": f"has to be {about.get('ge')} or more",
        "less_than_equal": f"has to be {about.get('le')} or less",
        "literal_error": f"has to be {about.get('expected')}",
        "too_long": f"has more than {about.get('max_length')} entries",
        "too_short": "has no entry",
    }.get(kind)
    if said is None and (named := _KINDS.get(kind.partition("_")[0])):
        said = f"has to be {named}"
    return said or f"cannot be used: {error['msg'][:1].lower()}{error['msg'][1:]}"
