"""Training pairs: what is written is read, and what is wrong is named by its line, and nothing else is."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.pairs.check import LISTED, Checked, check
from pipelines.pairs.rows import Pair, read_pairs, write_pairs
from pipelines.pairs.text import Near, damage, markup, normalised, words_of

ROWS, HELD_OUT = 1000, 100
WINDOW = 128

PEOPLE = [
    "clerk",
    "driver",
    "nurse",
    "auditor",
    "librarian",
    "gardener",
    "sailor",
    "teacher",
    "baker",
    "surgeon",
    "pilot",
    "judge",
    "farmer",
    "miner",
]
THINGS = [
    "invoice",
    "container",
    "ledger",
    "bridge",
    "turbine",
    "vaccine",
    "orchard",
    "violin",
    "passport",
    "glacier",
    "reactor",
    "lantern",
]
PLACES = [
    "harbour",
    "warehouse",
    "clinic",
    "museum",
    "valley",
    "station",
    "laboratory",
    "market",
    "cathedral",
    "island",
    "airport",
    "mill",
]
ACTS = [
    "inspects",
    "repairs",
    "orders",
    "weighs",
    "insures",
    "paints",
    "copies",
    "delivers",
    "measures",
    "refuses",
    "sells",
    "forgets",
]
TIMES = [
    "in winter",
    "before noon",
    "after the audit",
    "every second week",
    "on request",
    "during a strike",
    "at low tide",
]
ASKED = [
    "Who",
    "Which {thing}",
    "When",
    "Why does anybody think that",
    "Where",
    "How often",
    "Is it true that",
    "Since when",
]


def sentence(numbers: random.Random) -> str:
    words = (numbers.choice(each) for each in (PEOPLE, ACTS, THINGS, PLACES, TIMES))
    person, act, thing, place, time = words
    return f"The {person} {act} {numbers.randrange(2, 900)} times the {thing} of the {place} {time}."


def question(numbers: random.Random) -> str:
    asked = numbers.choice(ASKED).replace("{thing}", numbers.choice(THINGS))
    return f"{asked} {sentence(numbers)[4:-1]} near {numbers.choice(PLACES)} {numbers.randrange(10_000)}?"


def passage(numbers: random.Random) -> str:
    return " ".join(sentence(numbers) for _ in range(numbers.randrange(3, 6)))


def made(seed: str, count: int) -> Iterator[Pair]:
    """Pairs as a team would write them: each question with its passage and two others, some questions with two."""
    numbers = random.Random(seed)
    asked = ""
    for number in range(count):
        asked = asked if number % 50 == 1 else question(numbers)
        yield Pair(
            asked,
            passage(numbers),
            (passage(numbers), passage(numbers)),
            f"{seed}/{number // 4}.md",
            "made",
            number + 1,
        )


@cache
def clean() -> tuple[Pair, ...]:
    return tuple(made("train", ROWS))


@cache
def held_out() -> tuple[Pair, ...]:
    return tuple(made("held-out", HELD_OUT))


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def row(pair: Pair) -> dict[str, Any]:
    texts = {"query": pair.query, "positive": pair.positive, "negatives": list(pair.negatives)}
    return texts | {"group": pair.group, "source": pair.source}


def as_line(pair: Pair | dict[str, Any]) -> bytes:
    return json.dumps(row(pair) if isinstance(pair, Pair) else pair).encode("ascii")


def without(pair: Pair, key: str) -> dict[str, Any]:
    return {name: value for name, value in row(pair).items() if name != key}


def one_word_more(text: str) -> str:
    words = text.split()
    return " ".join([*words[:20], "very", *words[20:]])


# What is done to a row, given another row and a row of the evaluation file; all findings are at the row, or, of two
# rows that differ, at the later one.
Plant = Callable[[Pair, Pair, Pair], bytes]
FAULTS: dict[str, tuple[str, Plant]] = {
    "not UTF-8": ("encoding", lambda pair, other, evaluation: as_line(pair)[:20] + b"\xe9" + as_line(pair)[20:]),
    "half a surrogate pair": ("encoding", lambda p, o, e: as_line(replace(p, positive=p.positive + "\ud83d"))),
    "not JSON": ("json", lambda p, o, e: as_line(p)[:-1]),
    "nested without end": ("json", lambda p, o, e: b"[" * 100_000),
    "a list": ("object", lambda p, o, e: json.dumps([p.query, p.positive]).encode()),
    "no positive": ("key", lambda p, o, e: as_line(without(p, "positive"))),
    "another key": ("key", lambda p, o, e: as_line(row(p) | {"positives": []})),
    "a number": ("type", lambda p, o, e: as_line(row(p) | {"query": 7})),
    "negatives as one text": ("type", lambda p, o, e: as_line(row(p) | {"negatives": o.positive})),
    "a group that is null": ("type", lambda p, o, e: as_line(row(p) | {"group": None})),
    "a blank query": ("empty", lambda p, o, e: as_line(replace(p, query=" \t\u00a0"))),
    "an empty negative": ("empty", lambda p, o, e: as_line(replace(p, negatives=("", o.positive)))),
    "the row of another line": ("duplicate", lambda p, o, e: as_line(replace(o, query=f" {o.query.upper()} ?"))),
    "the positive among the negatives": (
        "negative",
        lambda p, o, e: as_line(replace(p, negatives=(o.positive, p.positive.replace("The", "the")))),
    ),
    "the query as positive": ("same", lambda p, o, e: as_line(replace(p, positive=p.query[:-1]))),
    "a contradiction": (
        "contradiction",
        lambda p, o, e: as_line(replace(p, query=o.query, negatives=(p.negatives[0], o.positive))),
    ),
    "a query of the evaluation": ("leakage", lambda p, o, e: as_line(replace(p, query=e.query.lower()))),
    "a passage of the evaluation": ("leakage", lambda p, o, e: as_line(replace(p, positive=e.positive))),
    "nearly a passage of it": ("leakage", lambda p, o, e: as_line(replace(p, positive=one_word_more(e.positive)))),
    "a group of the evaluation": ("group", lambda p, o, e: as_line(replace(p, group=e.group))),
    "a long text": ("long", lambda p, o, e: as_line(replace(p, positive=f"{p.positive} {o.positive} {e.query}" * 4))),
    "one word": ("short", lambda p, o, e: as_line(replace(p, query=" Turbine? "))),
    "lost characters": ("garbled", lambda p, o, e: as_line(replace(p, query=f"caf\ufffd {p.query}"))),
    "mojibake": ("garbled", lambda p, o, e: as_line(replace(p, positive=f"{p.positive} Un cafÃ©, s'il vous plaît."))),
    "a control character": (
        "garbled",
        lambda p, o, e: as_line(replace(p, positive=p.positive.replace(" ", "\x00", 1))),
    ),
    "markup": (
        "markup",
        lambda p, o, e: as_line(replace(p, positive=f'<div class="main"><p>{p.positive}<br/></p></div>')),
    ),
}
TWELVE = [  # with two rows between them, in this order
    "not UTF-8",
    "not JSON",
    "a list",
    "no positive",
    "a number",
    "a blank query",
    "the row of another line",
    "the positive among the negatives",
    "the query as positive",
    "a query of the evaluation",
    "nearly a passage of it",
    "a contradiction",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_pairs(folder / "held-out.jsonl", held_out())
    return folder


def looked_at(folder: Path, planted: dict[int, bytes]) -> Checked:
    """The clean rows with some lines replaced, checked with everything that `check` can be told."""
    path = folder / "train.jsonl"
    rows = (planted.get(pair.line) or as_line(pair) for pair in clean())
    path.write_bytes(b"".join(row + b"\n" for row in rows))
    return check(path, against=folder / "held-out.jsonl", tokens=count_words, max_tokens=WINDOW)


def places(checked: Checked) -> list[tuple[int, str]]:
    return [(each.line, each.kind) for each in checked.findings]


def test_clean_pairs_have_no_finding(folder: Path) -> None:
    checked = looked_at(folder, {})
    assert (checked.findings, checked.errors, checked.warnings) == ([], 0, 0)
    statistics = checked.statistics
    assert (statistics["rows"], statistics["queries"], statistics["positives"]) == (ROWS, ROWS - ROWS // 50, ROWS)
    assert statistics["negatives_per_row"] == 2
    sizes = sorted(count_words([text for pair in clean() for text in (pair.positive, *pair.negatives)]))
    assert statistics["passage_tokens_max"] == sizes[-1] <= WINDOW
    assert statistics["passage_tokens_p50"] == sizes[len(sizes) // 2 - 1]
    assert statistics["passage_tokens_mean"] == round(sum(sizes) / len(sizes), 1)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_on_its_line_and_nothing_else_is(folder: Path, name: str) -> None:
    kind, plant = FAULTS[name]
    checked = looked_at(folder, {500: plant(clean()[499], clean()[122], held_out()[40])})
    assert places(checked) == [(500, kind)]
    assert (checked.errors, checked.warnings) == ((0, 1) if checked.findings[0].level == "warning" else (1, 0))


@given(
    name=st.sampled_from(sorted(FAULTS)),
    line=st.integers(1, ROWS),
    other=st.integers(1, ROWS),
    evaluation=st.integers(0, HELD_OUT - 1),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_fault_is_found_wherever_it_is(folder: Path, name: str, line: int, other: int, evaluation: int) -> None:
    kind, plant = FAULTS[name]
    if clean()[other - 1].query == clean()[line - 1].query:
        other = (line + 1) % ROWS + 1
    planted = {line: plant(clean()[line - 1], clean()[other - 1], held_out()[evaluation])}
    where = max(line, other) if kind in ("duplicate", "contradiction") else line
    assert places(looked_at(folder, planted)) == [(where, kind)]


def test_twelve_faults_at_once_are_twelve_findings(folder: Path) -> None:
    planted, expected = {}, []
    for place, name in enumerate(TWELVE):
        kind, plant = FAULTS[name]
        line = 300 + 3 * place
        planted[line] = plant(clean()[line - 1], clean()[place], held_out()[place])
        expected.append((line, kind))
    checked = looked_at(folder, planted)
    assert places(checked) == expected
    assert checked.errors == 12


def test_a_finding_names_the_other_line(folder: Path) -> None:
    wanted = {
        "the row of another line": "the row of line 123",
        "a contradiction": "one passage is a negative here and the positive of the same query in line 123",
        "a query of the evaluation": "the query stands in line 41 of held-out.jsonl",
        "nearly a passage of it": "the positive is near (0.87) to line 41 of held-out.jsonl",
        "a group of the evaluation": "line 41 of held-out.jsonl is of the group held-out/10.md, too",
    }
    for name, detail in wanted.items():
        _, plant = FAULTS[name]
        (finding,) = looked_at(folder, {500: plant(clean()[499], clean()[122], held_out()[40])}).findings
        assert finding.detail.startswith(detail), name


def test_a_contradiction_is_at_the_later_line_whichever_that_is(folder: Path) -> None:
    _, plant = FAULTS["a contradiction"]
    (finding,) = looked_at(folder, {500: plant(clean()[499], clean()[799], held_out()[40])}).findings
    assert (finding.line, finding.kind) == (800, "contradiction")
    assert finding.detail == "one passage is the positive here and a negative of the same query in line 500"


def test_a_pair_may_come_again_with_other_negatives(folder: Path) -> None:
    again = replace(clean()[122], negatives=clean()[499].negatives)
    assert places(looked_at(folder, {500: as_line(again)})) == []


def test_a_row_can_have_several_faults(folder: Path) -> None:
    wrong = {"query": "", "positiv": "x", "negatives": ["ok", 3, " "], "source": 1}
    checked = looked_at(folder, {7: as_line(wrong)})
    assert [each.detail for each in checked.findings] == [
        '"query" is empty',
        'has no "positive"',
        '"source" is not a text',
        '"negatives[2]" is not a text',
        '"negatives[3]" is empty',
        '"positiv" is not known: the keys are query, positive, negatives, group, source',
    ]


# -- the file as a whole


def kinds(path: Path, pairs: Sequence[Pair]) -> list[tuple[str, int, str]]:
    write_pairs(path, pairs)
    return [(each.level, each.line, each.kind) for each in check(path).findings]


def test_few_rows_and_none(tmp_path: Path) -> None:
    assert kinds(tmp_path / "few.jsonl", clean()[:499]) == [("warning", 0, "few")]
    assert kinds(tmp_path / "enough.jsonl", clean()[:500]) == []
    assert kinds(tmp_path / "none.jsonl", []) == [("error", 0, "empty")]


def test_what_is_too_frequent_is_named_at_its_first_line(tmp_path: Path) -> None:
    pairs = list(clean())
    for place in range(200, 212):
        pairs[place] = replace(pairs[place], query="Who repairs the lantern of the mill?")
    for place in range(400, 452):
        pairs[place] = replace(pairs[place], positive="The mill is closed. Nobody repairs its lantern.")
    for place in range(600, 900):
        pairs[place] = replace(pairs[place], query=f"According to the report, {pairs[place].query}")
    found = [("warning", 201, "repeated"), ("warning", 401, "dominant"), ("warning", 601, "preamble")]
    assert kinds(tmp_path / "pairs.jsonl", pairs) == found
    assert kinds(tmp_path / "fewer.jsonl", [*pairs[:210], *clean()[210:]]) == []


def test_one_long_warning_counts_and_names_lines(folder: Path) -> None:
    path = folder / "long.jsonl"
    write_pairs(path, clean())
    (finding,) = check(path, tokens=lambda texts: [9] * len(texts), max_tokens=8).findings
    assert finding.line == 1
    assert finding.detail.startswith("4,000 texts have more tokens than the 8 ")
    assert finding.detail.endswith("lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …")


def test_of_many_warnings_some_are_kept_and_of_errors_all(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, [replace(pair, source="", positive=f"\x07{pair.positive}") for pair in clean()])
    checked = check(path)
    assert (len(checked.findings), checked.counts["garbled"], checked.warnings) == (LISTED, ROWS, ROWS)
    path.write_bytes(b"{}\n" * ROWS)
    checked = check(path)
    assert len(checked.findings) == checked.errors == 2 * ROWS + 1


def test_a_golden_set_can_be_the_evaluation(tmp_path: Path) -> None:
    golden = tmp_path / "golden.jsonl"
    golden.write_text(json.dumps({"question": clean()[8].query, "documents": ["train/2.md"]}) + "\n", "utf-8")
    write_pairs(tmp_path / "train.jsonl", clean())
    assert places(check(tmp_path / "train.jsonl", against=golden)) == [(9, "leakage")]


def test_an_evaluation_that_cannot_be_read_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_bytes(as_line(clean()[0]) + b"\n\n{\n")
    with pytest.raises(InputError, match=r"broken\.jsonl:3 is not JSON"):
        check(folder / "held-out.jsonl", against=tmp_path / "broken.jsonl")
    with pytest.raises(InputError, match="No such file"):
        check(tmp_path / "none.jsonl")


# -- the file format


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(st.lists(st.builds(Pair, texts, texts, st.lists(texts, max_size=3).map(tuple), st.just("") | texts), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, pairs: list[Pair]) -> None:
    path = tmp_path / "pairs.jsonl"
    assert write_pairs(path, pairs) == len(pairs)
    assert list(read_pairs(path)) == [replace(pair, line=number) for number, pair in enumerate(pairs, 1)]
    before = path.read_bytes()
    write_pairs(path, read_pairs(path))
    assert path.read_bytes() == before


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, clean()[:3])

    def broken() -> Iterator[Pair]:
        yield clean()[5]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_pairs(path, broken())
    assert list(read_pairs(path)) == list(clean()[:3])
    assert list(tmp_path.iterdir()) == [path]


def test_reading_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(as_line(clean()[0]) + b"\n" + as_line({"query": "who?"}) + b"\n")
    rows = read_pairs(path)
    assert next(rows) == clean()[0]
    with pytest.raises(InputError, match=r'pairs\.jsonl:2 has no "positive"') as caught:
        next(rows)
    assert caught.value.hint == f"snapdex finetune check {path}"


# -- one text


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Who  pays?", "who pays", True),
        ("“Who” pays…", "Who pays.", True),
        ("ﬁne \uff21", "fine a", True),
        ("What is C++?", "What is C#?", False),
        ("at -5 degrees", "at 5 degrees", False),
        ("x < y", "x > y", False),
        ("की", "का", False),  # only the vowel signs differ
        ("?", "!", False),
    ],
)
def test_texts_are_the_same_but_for_case_and_punctuation(one: str, other: str, same: bool) -> None:
    assert (normalised(one) == normalised(other)) is same


def test_scripts_without_spaces_have_words() -> None:
    assert len(words_of(normalised("如何重置密码。"))) == 6
    assert words_of(normalised("Reset the パス")) == ["reset", "the", "パ", "ス"]


@pytest.mark.parametrize(
    "text", ["naïve café", "SÃO PAULO", "«IRMÃ» e CORAÇÃO", "Ðað er", "a\tb\nc\r\n\x0cd", "Â", "a — b"]
)
def test_letters_of_languages_are_no_damage(text: str) -> None:
    assert damage(text) == ""


@pytest.mark.parametrize("text", ["cafÃ©", "Itâ€™s", "20Â°", "Ð¿Ð¾Ð»", "ï»¿query", "a\x1bb", "a\x96b", "lost\ufffd"])
def test_damage_is_seen(text: str) -> None:
    assert damage(text)


def test_markup_is_more_than_a_tag_that_somebody_writes_about() -> None:
    assert markup("<p>Short.</p> <b>Very.</b>")
    assert markup("Press <b> twice") == ""
    assert markup(f"<p>{clean()[0].positive}</p>") == ""
    assert markup("std::vector<int> a < b && List<String> x > y") == ""
    assert markup("How do <b> and <strong> differ? " + clean()[0].positive) == ""


words = st.lists(st.sampled_from("abcdefghij"), min_size=30, max_size=60)


@given(words, st.lists(st.tuples(st.integers(0, 59), st.sampled_from("abcxyz")), max_size=4))
def test_near_is_what_comparing_everything_says(text: list[str], changes: list[tuple[int, str]]) -> None:
    other = list(text)
    for place, word in changes:
        other[place % len(other)] = word
    grams = [{tuple(each[at : at + 3]) for at in range(len(each) - 2)} for each in (text, other)]
    similarity = 1.0 if text == other else len(grams[0] & grams[1]) / len(grams[0] | grams[1])
    found = Near([(1, " ".join("klmno" * 9)), (3, " ".join(text))]).find(" ".join(other))
    assert found == ((3, pytest.approx(similarity)) if similarity >= 0.8 else None)


def test_one_word_can_change_the_meaning_of_a_short_text() -> None:
    text = "{} of sudden infant death syndrome deaths happen in newborns aged less than 6 months"
    assert Near([(1, text.format("90%"))]).find(text.format("10%")) is None
