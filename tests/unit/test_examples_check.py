"""Examples of a behaviour: what is wrong is named by its line, and nothing else is."""

import gzip
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.examples import Chat, Example, Message, Preference, kind_of, read_examples, write_examples
from pipelines.examples.check import check
from pipelines.examples.checks import format_wrong
from pipelines.examples.personal import personal
from pipelines.examples.rows import to_json
from pipelines.pairs.check import LISTED, Checked

ROWS, HELD_OUT, WINDOW = 1000, 60, 400
SYSTEM = "Read the message of a customer and answer with JSON: the product, the city, how urgent it is, and a summary."
SCHEMA = {
    "type": "object",
    "properties": {
        "product": {"type": "string"},
        "city": {"enum": ["Bergen", "Lyon", "Porto", "Graz", "Turku", "Leeds", "Gdansk"]},
        "urgency": {"type": "integer", "minimum": 1, "maximum": 5},
        "summary": {"type": "string"},
    },
    "required": ["product", "city", "urgency", "summary"],
    "additionalProperties": False,
}
CHECKS = {"json_schema": SCHEMA, "forbidden": ["as an AI"], "max_words": 60}
PRODUCTS = ("kettle", "drill", "heater", "lamp", "router", "printer", "scale", "radio", "fan", "camera", "lock")
FAULTY = ("leaks", "smokes", "is silent", "blinks", "rattles", "stays cold", "hums", "has no handle", "arrived broken")
WISHES = ("a refund", "another one", "a repair", "an apology", "a call", "the manual", "a discount", "an invoice")
PEOPLE = ("my aunt", "our cook", "the caretaker", "a neighbour", "my son", "the tenant", "our nurse", "a colleague")
BEGIN = (
    "The {p} from {c}",
    "In {c} our {p}",
    "Since {n} days the {p}",
    "Bought {n} weeks ago in {c}, the {p}",
    "{c}: my {p}",
)


def message(numbers: random.Random) -> tuple[str, str, str, int]:
    product, city = numbers.choice(PRODUCTS), numbers.choice(SCHEMA["properties"]["city"]["enum"])  # type: ignore[index]
    said = [f"{numbers.choice(BEGIN).format(p=product, c=city, n=numbers.randrange(2, 99))} {numbers.choice(FAULTY)}."]
    for _ in range(numbers.randrange(4, 8)):
        who, times = numbers.choice(PEOPLE), numbers.randrange(2, 999)
        said.append(
            f"After {times} hours {who} saw that it {numbers.choice(FAULTY)}, and wants {numbers.choice(WISHES)}."
        )
    return " ".join(said), product, city, numbers.randrange(1, 6)


def answer(numbers: random.Random, product: str, city: str, urgency: int) -> str:
    summary = f"{product} {numbers.choice(FAULTY)}, {numbers.choice(WISHES)} wanted by {numbers.randrange(1000)}"
    return json.dumps({"product": product, "city": city, "urgency": urgency, "summary": summary})


def chats(seed: str, count: int) -> list[Chat]:
    """One in five with an earlier question, one in two with a schema of its own."""
    numbers = random.Random(seed)
    made = []
    for number in range(count):
        text, *found = message(numbers)
        earlier = (Message("user", f"Is order {numbers.random():.9f} open?"), Message("assistant", "Yes, it is."))
        spoken = (Message("system", SYSTEM), *(earlier if number % 5 == 0 else ()), Message("user", text))
        last = Message("assistant", answer(numbers, *found))
        checks = {"json_schema": SCHEMA} if number % 2 else {}
        made.append(Chat((*spoken, last), checks, f"{seed}-{number // 3}", number + 1))
    return made


def preferences(seed: str, count: int) -> list[Preference]:
    numbers = random.Random(seed)
    made = []
    for chat in chats(seed, count):
        wrong = f"The customer has a problem with order {numbers.randrange(10**9)}." + " Sorry about that!" * (
            chat.line % 9
        )
        made.append(Preference(chat.prompt, chat.answer, wrong, {}, chat.group, chat.line))
    return made


@cache
def clean(kind: str) -> tuple[Example, ...]:
    return tuple(chats("train", ROWS) if kind == "sft" else preferences("train", ROWS))


@cache
def held_out(kind: str) -> tuple[Example, ...]:
    return tuple(chats("held-out", HELD_OUT) if kind == "sft" else preferences("held-out", HELD_OUT))


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def as_line(row: Example | dict[str, Any]) -> bytes:
    return json.dumps(row if isinstance(row, dict) else to_json(row)).encode()


def asked(example: Example, text: str, *, system: str = SYSTEM) -> Example:
    """The example with this as all that its user says."""
    prompt = (Message("system", system), Message("user", text))
    if isinstance(example, Chat):
        return replace(example, messages=(*prompt, example.messages[-1]))
    return replace(example, prompt=prompt)


def answered(example: Example, text: str) -> Example:
    if isinstance(example, Chat):
        return replace(example, messages=(*example.prompt, Message("assistant", text)))
    return replace(example, chosen=text)


def changed(example: Example, **keys: Any) -> bytes:
    return as_line(to_json(example) | keys)


def user(example: Example) -> str:
    return example.prompt[-1].content


def of_answer(example: Example, **values: Any) -> Example:
    return answered(example, json.dumps(json.loads(example.answer) | values))


def prompt_of(other: Example, row: Example, *, text: str = "", system: str = SYSTEM) -> Example:
    """The row with the prompt of another, or with that of which the last question or the system prompt is changed."""
    last = Message("user", text or user(other))
    prompt = (Message("system", system), *other.prompt[1:-1], last)
    return replace(row, messages=(*prompt, row.messages[-1])) if isinstance(row, Chat) else replace(row, prompt=prompt)


def one_word_more(text: str) -> str:
    words = text.split()
    return " ".join([*words[:9], "really", *words[9:]])


Plant = Callable[[Any, Any, Any], bytes]  # of the row itself, of another one, of one of the evaluation
BOTH: dict[str, tuple[str, Plant]] = {
    "not UTF-8": ("encoding", lambda p, o, e: as_line(p)[:60] + b"\xe9" + as_line(p)[60:]),
    "half a surrogate pair": ("encoding", lambda p, o, e: as_line(asked(p, user(p) + "\ud83d"))),
    "half a pair in the group": ("encoding", lambda p, o, e: changed(p, group="\ud83d")),
    "not JSON": ("json", lambda p, o, e: as_line(p)[:-1]),
    "a list": ("object", lambda p, o, e: b"[1]"),
    "a group that is a number": ("type", lambda p, o, e: changed(p, group=7)),
    "checks as a list": ("checks", lambda p, o, e: changed(p, checks=["regex"])),
    "an unknown check": ("checks", lambda p, o, e: changed(p, checks={"schema": SCHEMA})),
    "a schema that is none": ("checks", lambda p, o, e: changed(p, checks={"json_schema": {"type": "text"}})),
    "a regular expression that is none": ("checks", lambda p, o, e: changed(p, checks={"regex": "("})),
    "checks that cannot be written": ("checks", lambda p, o, e: changed(p, checks={"min_words": float("nan")})),
    "an empty answer": ("empty", lambda p, o, e: as_line(answered(p, " \n"))),
    "an answer that is no JSON": ("format", lambda p, o, e: as_line(answered(p, p.answer[:-1]))),
    "an answer with NaN": ("format", lambda p, o, e: as_line(of_answer(p, urgency=float("nan")))),
    "an answer against the schema": ("format", lambda p, o, e: as_line(of_answer(p, urgency="high"))),
    "a schema that leads nowhere": ("format", lambda p, o, e: changed(p, checks={"json_schema": {"$ref": "#/no"}})),
    "a forbidden word": ("constraint", lambda p, o, e: changed(of_answer(p, summary="As an AI, I"), checks={})),
    "too many words": ("constraint", lambda p, o, e: changed(p, checks={"max_words": 3})),
    "a word that is missing": ("constraint", lambda p, o, e: changed(p, checks={"required": ["walrus"]})),
    "a refusal by declaration": ("constraint", lambda p, o, e: changed(p, checks={"refusal": True})),
    "a prompt of the evaluation": ("leakage", lambda p, o, e: as_line(prompt_of(e, p))),
    "in other letters": (
        "leakage",
        lambda p, o, e: as_line(prompt_of(e, p, text=f" {user(e).upper()} ", system="Be brief.")),
    ),
    "nearly a prompt of it": ("leakage", lambda p, o, e: as_line(prompt_of(e, p, text=one_word_more(user(e))))),
    "a group of the evaluation": ("group", lambda p, o, e: as_line(replace(p, group=e.group))),
    "the row of another line": ("duplicate", lambda p, o, e: as_line(replace(o, group=p.group))),
    "a long question": ("long", lambda p, o, e: as_line(asked(p, f"{user(p)} {user(o)} " * 8))),
    "mojibake": ("garbled", lambda p, o, e: as_line(asked(p, f"{user(p)} Un cafÃ©."))),
    "lost characters": ("garbled", lambda p, o, e: as_line(asked(p, f"\ufffd {user(p)}"))),
    "an e-mail address": ("personal", lambda p, o, e: as_line(asked(p, f"{user(p)} Write to jo.berg@posten.no."))),
    "a phone number": ("personal", lambda p, o, e: as_line(asked(p, f"{user(p)} Call +47 22 12 34 56 now."))),
    "an IBAN": ("personal", lambda p, o, e: as_line(asked(p, f"DE89 3704 0044 0532 0130 00 PAYS. {user(p)}"))),
    "a credit card": ("personal", lambda p, o, e: as_line(asked(p, f"{user(p)} 4111 1111 1111 1111"))),
    "a social security number": ("personal", lambda p, o, e: as_line(asked(p, f"{user(p)} 219-09-9999"))),
}
CHAT: dict[str, tuple[str, Plant]] = {
    "no messages": ("key", lambda p, o, e: b'{"text": "x"}'),
    "another role": ("role", lambda p, o, e: as_line(replace(p, messages=(Message("human", "x"), *p.messages)))),
    "no answer": ("order", lambda p, o, e: as_line(replace(p, messages=p.prompt))),
    "a system prompt in the middle": (
        "order",
        lambda p, o, e: as_line(replace(p, messages=(*p.messages[1:-1], p.messages[0], p.messages[-1]))),
    ),
    "two questions in a row": (
        "order",
        lambda p, o, e: as_line(replace(p, messages=(Message("user", "Hello"), *p.messages[1:]))),
    ),
    "another answer to a prompt": ("inconsistent", lambda p, o, e: as_line(prompt_of(o, p))),
    "a preference": ("mixed", lambda p, o, e: as_line(Preference(p.prompt, p.answer, "No.", {}, p.group))),
}
PREFERENCE: dict[str, tuple[str, Plant]] = {
    "no rejected answer": ("key", lambda p, o, e: json.dumps({"prompt": "x", "chosen": "y"}).encode()),
    "a prompt that ends with an answer": (
        "order",
        lambda p, o, e: as_line(replace(p, prompt=(*p.prompt, Message("assistant", "Yes.")))),
    ),
    "the same answer twice": ("same", lambda p, o, e: as_line(replace(p, rejected=f" {p.chosen}\n"))),
    "the other way round": (
        "contradiction",
        lambda p, o, e: changed(replace(o, chosen=o.rejected, rejected=o.chosen), checks={"min_words": 1}),
    ),
    "a chat": ("mixed", lambda p, o, e: as_line(Chat((*p.prompt, Message("assistant", p.chosen)), {}, p.group))),
}
FAULTS = {("sft", name): fault for name, fault in (BOTH | CHAT).items()}
FAULTS |= {("dpo", name): fault for name, fault in (BOTH | PREFERENCE).items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    for kind in ("sft", "dpo"):
        write_examples(folder / f"{kind}-held-out.jsonl", held_out(kind))
    return folder


@cache
def clean_lines(kind: str) -> tuple[bytes, ...]:
    return tuple(as_line(each) for each in clean(kind))


def looked_at(folder: Path, kind: str, planted: dict[int, bytes]) -> Checked:
    """The clean rows with some lines replaced, checked with everything that `check` can be told."""
    path = folder / f"{kind}.jsonl"
    path.write_bytes(
        b"\n".join(planted.get(number) or line for number, line in enumerate(clean_lines(kind), 1)) + b"\n"
    )
    against = folder / f"{kind}-held-out.jsonl"
    return check(path, against=against, checks=CHECKS, tokens=count_words, max_tokens=WINDOW, pii=True)


def places(checked: Checked) -> list[tuple[int, str]]:
    return [(each.line, each.kind) for each in checked.findings]


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_clean_examples_have_no_finding(folder: Path, kind: str) -> None:
    checked = looked_at(folder, kind, {})
    assert (checked.findings, checked.errors, checked.warnings) == ([], 0, 0)
    statistics = checked.statistics
    assert (statistics["rows"], statistics["prompts"]) == (ROWS, ROWS)
    sizes = sorted(sum(count_words([each.content for each in row.prompt])) for row in clean(kind))
    assert (statistics["prompt_tokens_max"], statistics["prompt_tokens_p50"]) == (sizes[-1], sizes[len(sizes) // 2 - 1])
    assert statistics["prompt_tokens_mean"] == round(sum(sizes) / len(sizes), 1)


@pytest.mark.parametrize(("kind", "name"), FAULTS)
def test_a_fault_is_found_on_its_line_and_nothing_else_is(folder: Path, kind: str, name: str) -> None:
    found, plant = FAULTS[kind, name]
    rows = clean(kind)
    checked = looked_at(folder, kind, {500: plant(rows[499], rows[122], held_out(kind)[40])})
    assert places(checked) == [(500, found)]
    assert checked.errors + checked.warnings == 1


@given(
    fault=st.sampled_from(sorted(FAULTS)),
    line=st.integers(1, ROWS),
    other=st.integers(1, ROWS),
    evaluation=st.integers(0, HELD_OUT - 1),
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_fault_is_found_wherever_it_is(
    folder: Path, fault: tuple[str, str], line: int, other: int, evaluation: int
) -> None:
    kind, _ = fault
    found, plant = FAULTS[fault]
    other = other if other != line else line % ROWS + 1
    rows = clean(kind)
    planted = plant(rows[line - 1], rows[other - 1], held_out(kind)[evaluation])
    where = max(line, other) if found in ("duplicate", "inconsistent", "contradiction") else line
    assert places(looked_at(folder, kind, {line: planted})) == [(where, found)]


def test_many_faults_at_once_are_as_many_findings(folder: Path) -> None:
    for kind in ("sft", "dpo"):
        names = [name for each, name in FAULTS if each == kind and FAULTS[each, name][0] != "mixed"]
        planted, expected = {}, []
        for place, name in enumerate(names):
            found, plant = FAULTS[kind, name]
            line = 300 + 3 * place
            planted[line] = plant(clean(kind)[line - 1], clean(kind)[place], held_out(kind)[place])
            expected.append((line, found))
        assert places(looked_at(folder, kind, planted)) == expected


def test_a_finding_says_what_is_wrong_and_masks_what_is_personal(folder: Path) -> None:
    wanted = {
        "an answer that is no JSON": "the answer is not JSON",
        "a prompt of the evaluation": "the prompt stands in line 41 of sft-held-out.jsonl",
        "in other letters": "what the user says stands in line 41 of sft-held-out.jsonl",
        "a group of the evaluation": "line 40 of sft-held-out.jsonl is of the group held-out-13, too",
        "another answer to a prompt": "another answer than in line 123, which has the same prompt",
        "an IBAN": "messages[2] holds an IBAN: DE… (27 characters)",
        "a long question": "1 example has more tokens than max_tokens, 400: the answer would be cut, in lines 500",
    }
    rows = clean("sft")
    for name, detail in wanted.items():
        (finding,) = looked_at(
            folder, "sft", {500: FAULTS["sft", name][1](rows[499], rows[122], held_out("sft")[40])}
        ).findings
        assert finding.detail == detail, name


# -- the file as a whole


def kinds(path: Path, examples: Sequence[Example]) -> list[tuple[str, int, str]]:
    write_examples(path, examples)
    return [(each.level, each.line, each.kind) for each in check(path).findings]


def test_few_rows_and_none(tmp_path: Path) -> None:
    assert kinds(tmp_path / "few.jsonl", clean("sft")[:499]) == [("warning", 0, "few")]
    assert kinds(tmp_path / "enough.jsonl", clean("sft")[:500]) == []
    assert kinds(tmp_path / "none.jsonl", []) == [("error", 0, "empty")]


def test_what_is_too_frequent_is_told_once(tmp_path: Path) -> None:
    rows = [replace(each, checks={}) for each in clean("sft")]
    same = [asked(each, f"Please tell me {user(each)}") if each.line > 480 else each for each in rows]
    assert kinds(tmp_path / "asked.jsonl", same) == [("warning", 481, "preamble")]
    alike = [answered(each, "Noted.") if each.line > 300 else each for each in rows]
    assert kinds(tmp_path / "alike.jsonl", alike) == [("warning", 301, "dominant")]
    refused = [answered(each, f"I do not know {user(each)}.") if each.line > 480 else each for each in rows]
    assert kinds(tmp_path / "refused.jsonl", refused) == [("warning", 0, "refusals")]
    longer = [
        replace(each, rejected=f"No {each.line}") if each.line > 180 else each for each in preferences("train", ROWS)
    ]
    assert kinds(tmp_path / "longer.jsonl", longer) == [("warning", 0, "length")]


def test_two_labels_are_no_fault(tmp_path: Path) -> None:
    rows = [replace(each, checks={}) for each in clean("sft")]
    labels = [answered(each, "positive" if each.line % 5 < 3 else "negative") for each in rows]
    assert kinds(tmp_path / "labels.jsonl", labels) == []


@pytest.mark.parametrize("words", [20, 300])
def test_instructions_that_every_prompt_shares_are_no_leakage(folder: Path, tmp_path: Path, words: int) -> None:
    numbers = random.Random(words)
    template = " ".join(f"rule{numbers.randrange(10**6)}" for _ in range(words))
    sides = [
        [asked(each, f"{template} {user(each)} {template}", system=template) for each in side]
        for side in (clean("sft"), held_out("sft"))
    ]
    sides[0][499] = asked(clean("sft")[499], f"{template} {one_word_more(user(held_out('sft')[40]))} {template}")
    for name, rows in zip(("train.jsonl", "held-out.jsonl"), sides, strict=True):
        write_examples(tmp_path / name, rows)
    found = check(tmp_path / "train.jsonl", against=tmp_path / "held-out.jsonl").findings
    assert [(each.line, each.kind) for each in found if each.kind != "preamble"] == [(500, "leakage")]


def test_the_same_short_question_about_another_text_is_no_leakage(tmp_path: Path) -> None:
    for name, side in (("train.jsonl", clean("sft")), ("held-out.jsonl", held_out("sft"))):
        write_examples(tmp_path / name, [asked(each, "What is broken?", system=user(each)) for each in side])
    assert check(tmp_path / "train.jsonl", against=tmp_path / "held-out.jsonl").errors == 0


def test_of_many_warnings_some_are_kept_and_of_errors_all(tmp_path: Path) -> None:
    assert len(kinds(tmp_path / "twice.jsonl", [*clean("sft"), *clean("sft")])) == LISTED
    (tmp_path / "none.jsonl").write_bytes(b"{}\n" * ROWS)
    assert check(tmp_path / "none.jsonl").errors == ROWS + 1


def test_a_compressed_file_is_read_and_a_broken_one_refused(tmp_path: Path) -> None:
    packed = gzip.compress(b"\n".join(clean_lines("sft")))
    (tmp_path / "train.jsonl.gz").write_bytes(packed)
    assert check(tmp_path / "train.jsonl.gz").statistics["rows"] == ROWS
    for damaged in (packed[:-100], b"plain", packed[:50] + b"\0" * 50 + packed[100:]):
        (tmp_path / "broken.jsonl.gz").write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read"):
            check(tmp_path / "broken.jsonl.gz")


def test_an_evaluation_that_is_malformed_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_bytes(b'{"messages": []}\n')
    with pytest.raises(InputError, match=r'broken\.jsonl:1 "messages" is not a list of messages'):
        check(folder / "sft-held-out.jsonl", against=tmp_path / "broken.jsonl")


@pytest.mark.parametrize(
    ("line", "kind"),
    [(b'{"messages": 1}', "sft"), (b'{"prompt": "x", "chosen": "y"}', "dpo"), (b'{"query": "x"}', None), (b"[]", None)],
)
def test_the_kind_is_told_by_the_first_line_that_can_be_read(tmp_path: Path, line: bytes, kind: str | None) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"{\n\n" + line + b"\n{}\n")
    assert kind_of(tmp_path / "rows.jsonl") == kind


# -- the file format, and one text


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
prompts = st.lists(texts, min_size=1, max_size=5).filter(lambda each: len(each) % 2 == 1)


@given(prompts, texts, texts, st.just("") | texts, st.sampled_from([{}, {"min_words": 1}, CHECKS]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(
    tmp_path: Path, turns: list[str], one: str, other: str, group: str, checks: dict[str, Any]
) -> None:
    prompt = tuple(Message(("user", "assistant")[place % 2], text) for place, text in enumerate(turns))
    rows = [
        Chat((*prompt, Message("assistant", one)), checks, group, 1),
        Preference(prompt, one, other, checks, group, 2),
    ]
    write_examples(tmp_path / "rows.jsonl", rows)
    assert list(read_examples(tmp_path / "rows.jsonl")) == rows


def test_a_schema_is_not_fetched() -> None:
    assert "leads nowhere" in format_wrong({"json_schema": {"$ref": "http://127.0.0.1:9/schema.json"}}, "{}")


@pytest.mark.parametrize(
    "text",
    [
        "jo@example.com, a@b, @handle, user@host.invalid",
        "4111 1111 1111 1112 and 1234567890123456 and 0000 0000 0000 0000",
        "DE88 3704 0044 0532 0130 00, AB12 ROOM 1234 5678 9012",
        "000-12-3456, 123-00-4567, 2024-01-02, 219-09-99999",
        "on 2024-11-21 at 10:15, 1,234,567 rows, 3.14159265358979, 192.168.100.200, 10.1234/5678-9012",
        "ISBN 978-3-16-148410-0, order 20241121000017, +12 points, pages 200-300-400",
    ],
)
def test_what_only_looks_personal_is_left_alone(text: str) -> None:
    assert list(personal(text)) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(212) 417-4778 or 1-800-300-1506", ["a phone number"] * 2),
        ("+49 (0)30 1234567", ["a phone number"]),
        ("GB82WEST12345698765432, please", ["an IBAN"]),
        ("5555-5555-5555-4444; 378282246310005", ["a credit card number"] * 2),
    ],
)
def test_what_is_personal_is_told_once(text: str, found: list[str]) -> None:
    assert [what for what, _ in personal(text)] == found
