"""What one answer is worth: numbers between 0 and 1, and the name of what is wrong with it."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.examples.checks import FORMAT, constraints_broken, format_wrong, has_constraints, is_refusal
from pipelines.model import canonical_json

FIELD = "exact_match/"  # and the name of a field, of answers that are JSON objects
CLOSE = 0.5  # ROUGE-L from which an answer that is not the expected one is near it
CUT_OFF = "cut off"
EMPTY = "empty"
WRONG_FORMAT = "wrong format"
BROKEN_CONSTRAINT = "broken constraint"
REFUSED = "refused"
NOT_REFUSED = "did not refuse"
NEARLY = "nearly the expected answer"
OTHER = "another answer"


@dataclass(frozen=True)
class Score:
    """`metrics`: those that apply; `problem`: the first kind of failure that fits, or nothing; `detail`: in words."""

    metrics: dict[str, float]
    problem: str
    detail: str


def score(answer: str, expected: str, checks: Mapping[str, Any], *, cut_off: bool = False) -> Score:
    """Compare an answer with the expected one, and with what was declared about it.

    `format` where a JSON schema is declared; `constraints` where one is; `exact_match` of JSON is of the values;
    `exact_match/FIELD` of each field of an expected JSON object. f1: of words (Rajpurkar et al. 2016); rouge_l: of the
    longest common subsequence of words (Lin 2004).
    """
    wrong_format = format_wrong(checks, answer)
    broken = list(constraints_broken(checks, answer))
    said, wanted = _words(answer), _words(expected)
    metrics: dict[str, float] = {}
    if FORMAT in checks:
        metrics["format"] = float(not wrong_format)
    if has_constraints(checks):
        metrics["constraints"] = float(not broken)
    is_exact = _same(answer, expected)
    metrics |= {"exact_match": float(is_exact), "f1": f1(said, wanted), "rouge_l": rouge_l(said, wanted)}
    metrics |= _fields(answer, expected)
    problem, detail = _problem(answer, expected, wrong_format, broken, is_exact, metrics, cut_off)
    return Score(metrics, problem, detail)


def f1(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Of words as a bag: 1 where both are empty."""
    common = sum((Counter(said) & Counter(wanted)).values())
    return _harmonic(common, len(said), len(wanted))


def rouge_l(said: Sequence[str], wanted: Sequence[str]) -> float:
    """The F-measure of their longest common subsequence."""
    row = [0] * (len(wanted) + 1)
    for word in said:
        before = 0
        for place, other in enumerate(wanted, 1):
            before, row[place] = row[place], before + 1 if word == other else max(row[place], row[place - 1])
    return _harmonic(row[-1], len(said), len(wanted))


def _problem(
    answer: str,
    expected: str,
    wrong_format: str,
    broken: Sequence[str],
    is_exact: bool,
    metrics: Mapping[str, float],
    cut_off: bool,
) -> tuple[str, str]:
    if not answer.strip():
        return EMPTY, "nothing was written"
    if cut_off and (wrong_format or not is_exact):
        return CUT_OFF, "did not end in time"
    if wrong_format:
        return WRONG_FORMAT, wrong_format
    refuses, should = is_refusal(answer), is_refusal(expected)
    if refuses != should:
        return (REFUSED, "refuses, and there is an answer") if refuses else (NOT_REFUSED, "answers, and there is none")
    if broken:
        return BROKEN_CONSTRAINT, "; ".join(broken)
    if is_exact:
        return "", ""
    wrong = [name.removeprefix(FIELD) for name, value in metrics.items() if name.startswith(FIELD) and not value]
    if wrong:
        return OTHER, f"differs in {', '.join(wrong)}"
    return (NEARLY if metrics["rouge_l"] >= CLOSE else OTHER), "differs in words"


def _same(answer: str, expected: str) -> bool:
    one, other = _json(answer), _json(expected)
    if one is not None and other is not None:
        return canonical_json(one) == canonical_json(other)
    return " ".join(_words(answer)) == " ".join(_words(expected))


def _fields(answer: str, expected: str) -> dict[str, float]:
    wanted = _json(expected)
    if not isinstance(wanted, dict):
        return {}
    said = _json(answer)
    found = said if isinstance(said, dict) else {}
    return {
        f"{FIELD}{key}": float(key in found and canonical_json(found[key]) == canonical_json(value))
        for key, value in wanted.items()
    }


def _json(text: str) -> Any:
    try:
        value = json.loads(text)
        canonical_json(value)  # no NaN, which is no JSON
    except (ValueError, RecursionError):
        return None
    return value


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def _harmonic(common: int, said: int, wanted: int) -> float:
    if not said or not wanted:
        return float(said == wanted)
    return 2 * common / (said + wanted)
