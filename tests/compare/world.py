"""Ports and their codes: questions that only the documents answer, and an office that wants its answers in JSON."""

import json
import re
from pathlib import Path
from typing import Any

from pipelines import compare
from pipelines.compare import Asking
from tests.http_server import Answer, asked, says
from tests.index.state import State

NAMES = [
    *(
        "harbour",
        "ledger",
        "falcon",
        "orchard",
        "granite",
        "velvet",
        "lantern",
        "meadow",
        "copper",
        "thistle",
        "walnut",
    ),
    *("ember", "cedar", "pepper", "saddle", "anchor", "marble", "ribbon", "turnip", "candle", "basket", "hammer"),
    *("mirror", "needle"),
]
WORDS = [
    *("red", "blue", "green", "black", "white", "brown", "amber", "pink", "grey", "violet", "gold", "silver"),
    *("bronze", "iron", "steel", "glass", "stone", "wood", "clay", "sand", "salt", "sugar", "honey", "lemon"),
]
CODES = dict(zip(NAMES, WORDS, strict=True))
SCHEMA = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
UNKNOWN = "I do not know."


def documents() -> dict[str, str]:
    return {f"{name}.md": f"The code of {name} is {code}.\n" for name, code in CODES.items()}


def question(name: str) -> str:
    return f"What is the code of {name}?"


def written_down(name: str, code: str) -> str:
    return f"Write down the code {code} of {name}."


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def knowledge() -> list[dict[str, Any]]:
    """The answer stands in one document each."""
    return [
        {"question": question(name), "documents": [f"{name}.md"], "answer": code, "_id": name}
        for name, code in CODES.items()
    ]


def behaviour() -> list[dict[str, Any]]:
    """The answer stands in the question, and in no document; what is wanted is its form."""
    return [
        {
            "question": written_down(name, code),
            "documents": [],
            "answer": json.dumps({"code": code}),
            "checks": {"json_schema": SCHEMA},
        }
        for name, code in CODES.items()
    ]


def both() -> list[dict[str, Any]]:
    """The answer stands in a document, and has a form."""
    return [
        row | {"answer": json.dumps({"code": row["answer"]}), "checks": {"json_schema": SCHEMA}} for row in knowledge()
    ]


def speak(body: dict[str, Any]) -> Answer:
    """A model that finds the code in what it is told; `plain` says it in words, `terse` alone, `formed` as JSON."""
    said = asked(body)
    wanted = re.search(r"code(?: \w+)? of (\w+)[?.]\s*$", said)
    known = dict(re.findall(r"code of (\w+) is (\w+)", said)) | {
        name: code for code, name in re.findall(r"the code (\w+) of (\w+)", said)
    }
    code = known.get(wanted[1]) if wanted else None
    if code is None:
        return says(UNKNOWN)
    forms = {"plain": f"Sure: it is {code}!", "terse": code, "formed": json.dumps({"code": code})}
    return says(forms[body["model"]])


def run_compare(state: State, rows: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    golden = write_rows(state.root / "golden.jsonl", rows)
    return compare.run(state.config, state.workspace, Asking(golden, **options))
