"""Examples of a behaviour as JSONL, one a line: chats that end with the answer to learn, or pairs of answers.

    {"messages": [{"role": "system", "content": ...}, {"role": "user", ...}, {"role": "assistant", ...}]}      a chat
    {"prompt": [{"role": "user", "content": ...}], "chosen": [...], "rejected": [...]}                   a preference

These are the formats of OpenAI and TRL. Both can declare under `checks` what an answer must fulfil, and name the
`group` that stays on one side when they are split. Other keys are left alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipelines.errors import InputError
from pipelines.files import atomic_file
from pipelines.generate import Message
from pipelines.model import canonical_json
from pipelines.pairs.rows import SURROGATE, Flaw, decoded, lines

ROLES = ("system", "user", "assistant", "tool")

Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Chat:
    """What was said, and last the answer. `checks`: what an answer must fulfil, see `checks.py`."""

    messages: Messages
    checks: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    line: int = 0  # of its file

    @property
    def prompt(self) -> Messages:
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, of which `chosen` is the better one."""

    prompt: Messages
    chosen: str
    rejected: str
    checks: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    line: int = 0  # of its file

    @property
    def answer(self) -> str:
        return self.chosen


Example = Chat | Preference


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Replace `path` by these when all of them are written, and say how many. Equal ones give equal bytes."""
    count = 0
    with atomic_file(path) as file:
        for example in examples:
            file.write(canonical_json(to_json(example)).encode("utf-8") + b"\n")
            count += 1
    return count


def read_examples(path: Path) -> Iterator[Example]:
    """The examples of `path` in its order. Raises `InputError` that names the first line which is none."""
    for number, line in lines(path):
        row = parse(line, number)
        if isinstance(row, list):
            raise InputError(f"{path}:{number} {row[0].detail}", hint=f"snapdex finetune check {path}")
        yield row


def parse(line: bytes, number: int) -> Example | list[Flaw]:
    """The example that a line holds, or everything that is wrong with it."""
    row = decoded(line)
    if isinstance(row, Flaw):
        return [row]
    found = _preference(row, number) if "chosen" in row or "rejected" in row else _chat(row, number)
    if isinstance(found, list):
        return found
    if not isinstance(found.group, str):
        return [Flaw("type", '"group" is not a text')]
    if SURROGATE.search(found.group):
        return [Flaw("encoding", '"group" holds half of a surrogate pair')]
    if not isinstance(found.checks, dict):
        return [Flaw("checks", '"checks" is not an object')]
    return found


def to_json(example: Example) -> dict[str, Any]:
    """The row that `parse` reads back, with one way to write each thing."""
    if isinstance(example, Chat):
        row: dict[str, Any] = {"messages": plain(example.messages)}
    else:
        row = {"prompt": plain(example.prompt)}
        row |= {
            side: plain((Message("assistant", text),))
            for side, text in (("chosen", example.chosen), ("rejected", example.rejected))
        }
    row |= {"checks": dict(example.checks)} if example.checks else {}
    return row | ({"group": example.group} if example.group else {})


def plain(messages: Messages) -> list[dict[str, str]]:
    """As chat templates and chat servers take them."""
    return [{"role": each.role, "content": each.content} for each in messages]


def _chat(row: dict[str, Any], number: int) -> Chat | list[Flaw]:
    messages, flaws = _messages("messages", row.get("messages"))
    if not flaws:
        flaws += _order("messages", messages, answered=True)
    return flaws or Chat(messages, row.get("checks", {}), row.get("group", ""), number)


def _preference(row: dict[str, Any], number: int) -> Preference | list[Flaw]:
    prompt, flaws = _messages("prompt", row.get("prompt"))
    if not flaws:
        flaws += _order("prompt", prompt, answered=False)
    answers = []
    for side in ("chosen", "rejected"):
        said, wrong = _messages(side, row.get(side), role="assistant")
        if not wrong and (len(said) != 1 or said[0].role != "assistant"):
            wrong = [Flaw("order", f'"{side}" is not one answer of the assistant')]
        flaws += wrong
        answers.append(said[0].content if said else "")
    chosen, rejected = answers
    return flaws or Preference(prompt, chosen, rejected, row.get("checks", {}), row.get("group", ""), number)


def _messages(key: str, value: object, role: str = "user") -> tuple[Messages, list[Flaw]]:
    """A list of messages; a text alone is one message of `role`, as TRL reads it."""
    if value is None:
        return (), [Flaw("key", f'has no "{key}"')]
    if isinstance(value, str):
        value = [{"role": role, "content": value}]
    if not isinstance(value, list) or not value:
        return (), [Flaw("type", f'"{key}" is not a list of messages')]
    found, flaws = [], []
    for place, message in enumerate(value, 1):
        where = f"{key}[{place}]"
        if not isinstance(message, dict):
            flaws.append(Flaw("type", f"{where} is not an object"))
            continue
        speaker, content = message.get("role"), message.get("content")
        if speaker not in ROLES:
            flaws.append(Flaw("role", f"{where} has the role {speaker!r}: known are {', '.join(ROLES)}"))
        if not isinstance(content, str):
            flaws.append(Flaw("type", f"{where} has no text under content"))
        elif not content.strip():
            flaws.append(Flaw("empty", f"{where} is empty"))
        elif SURROGATE.search(content):
            flaws.append(Flaw("encoding", f"{where} holds half of a surrogate pair, which no tokenizer takes"))
        else:
            found.append(Message(str(speaker), content))
    return tuple(found), flaws


def _order(key: str, messages: Messages, *, answered: bool) -> list[Flaw]:
    """System first if at all, then questions and answers in turn, and an answer at the end where one belongs."""
    roles = [each.role for each in messages]
    turns = [role for role in (roles[1:] if roles[0] == "system" else roles) if role != "tool"]
    if "system" in roles[1:]:
        return [Flaw("order", f"{key}[{roles.index('system', 1) + 1}]: the system speaks first, or not at all")]
    if not turns or turns[0] != "user":
        return [Flaw("order", f"{key}: the first who speaks is not the user")]
    for place, (one, next_one) in enumerate(pairwise(turns), 2):
        if one == next_one:
            return [Flaw("order", f"{key}: turn {place} is the {one}'s again")]
    if (turns[-1] == "assistant") != answered:
        ends = "does not end with an answer" if answered else "ends with an answer"
        return [Flaw("order", f"{key} {ends} of the assistant")]
    return []
