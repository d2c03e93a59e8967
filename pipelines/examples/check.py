"""What is wrong with examples of a behaviour, told before anything is learned from them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.evaluate.check import Finding
from pipelines.examples.checks import constraints_broken, declared_wrong, format_wrong
from pipelines.examples.columns import Columns
from pipelines.examples.leakage import Evaluation
from pipelines.examples.personal import personal
from pipelines.examples.rows import Chat, Example, parse
from pipelines.examples.said import said
from pipelines.model import batched
from pipelines.pairs.check import BATCH_ROWS, Checked
from pipelines.pairs.rows import lines
from pipelines.pairs.sizes import CountTokens, Sizes
from pipelines.pairs.text import damage


def check(
    path: Path,
    *,
    against: Path | None = None,
    checks: Mapping[str, Any] | None = None,
    tokens: CountTokens | None = None,
    max_tokens: int | None = None,
    pii: bool = False,
) -> Checked:
    """Everything that is wrong with the chats or preferences of `path`, in one pass, and how large they are.

    `against`: the file of the evaluation, of which nothing may be learned; `checks`: what the answer of every row must
    fulfil that declares nothing itself; `tokens` counts as the model does, and examples of more than `max_tokens` are
    told; `pii`: so is personal data. Of a row some 70 bytes are held, of the evaluation the hashes of its words.
    Raises `InputError` where a file cannot be read, or the evaluation is malformed.
    """
    checked, columns, sizes = Checked(), Columns(), Sizes(max_tokens)
    evaluation = Evaluation(against) if against is not None else None
    declared = _Declared(checks or {})
    for batch in batched(lines(path), BATCH_ROWS):
        examples = []
        for number, line in batch:
            row = parse(line, number)
            if isinstance(row, list):
                checked.add(Finding("error", number, flaw.kind, flaw.detail) for flaw in row)
            else:
                examples.append(row)
        for example in examples:
            spoken = said(example)
            columns.add(example, spoken)
            checked.add(declared.findings(example))
            checked.add(_alone(example, spoken.answers, pii=pii))
            if evaluation is not None:
                checked.add(evaluation.leaks(example, spoken))
        if tokens is not None:
            _add(sizes, examples, tokens)
    checked.add(columns.findings())
    checked.add(_long(sizes, max_tokens))
    checked.findings.sort(key=lambda each: each.line)
    checked.add(columns.altogether())
    checked.statistics = columns.statistics() | sizes.statistics()
    return checked


class _Declared:
    """The checks of rows, each of which is looked at once: few differ, and a schema takes a while to be judged."""

    def __init__(self, default: Mapping[str, Any]) -> None:
        self._default = default
        self._wrong: dict[str, str] = {}

    def findings(self, example: Example) -> Iterator[Finding]:
        if example.checks and (wrong := self._declared_wrong(example.checks)):
            yield Finding("error", example.line, "checks", wrong)
            return
        checks = example.checks or self._default
        if wrong := format_wrong(checks, example.answer):
            yield Finding("error", example.line, "format", f"the answer {wrong}")
        for wrong in constraints_broken(checks, example.answer):
            yield Finding("error", example.line, "constraint", f"the answer {wrong}")

    def _declared_wrong(self, checks: Mapping[str, Any]) -> str:
        key = repr(checks)
        if key not in self._wrong:
            if len(self._wrong) >= BATCH_ROWS:
                self._wrong.clear()
            self._wrong[key] = declared_wrong(checks)
        return self._wrong[key]


def _alone(example: Example, answers: Sequence[str], *, pii: bool) -> Iterator[Finding]:
    if len(answers) > 1 and answers[0] == answers[1]:
        yield Finding("error", example.line, "same", "the rejected answer is the chosen one")
    for name, text in _texts(example):
        if found := damage(text):
            yield Finding("warning", example.line, "garbled", f"{name} {found}")
        if pii:
            for what, masked in dict.fromkeys(personal(text)):
                yield Finding("warning", example.line, "personal", f"{name} holds {what}: {masked}")


def _texts(example: Example) -> Iterator[tuple[str, str]]:
    """What is said, with its place."""
    if isinstance(example, Chat):
        for place, message in enumerate(example.messages, 1):
            yield f"messages[{place}]", message.content
    else:
        for place, message in enumerate(example.prompt, 1):
            yield f"prompt[{place}]", message.content
        yield "chosen", example.chosen
        yield "rejected", example.rejected


def _add(sizes: Sizes, examples: Sequence[Example], tokens: CountTokens) -> None:
    """Tokens of prompt and answer, as far as they are text: a chat template adds a few to every message."""
    texts = {text: 0 for example in examples for _, text in _texts(example)}
    texts = dict(zip(texts, tokens(list(texts)), strict=True))
    for example in examples:
        prompt = sum(texts[message.content] for message in example.prompt)
        answers = [example.answer] if isinstance(example, Chat) else [example.chosen, example.rejected]
        sizes.add("prompt", prompt)
        for answer in answers:
            sizes.add("answer", texts[answer])
        sizes.limit(example.line, prompt + max(texts[answer] for answer in answers))


def _long(sizes: Sizes, max_tokens: int | None) -> Iterator[Finding]:
    """One for all examples of which the answer would be cut."""
    if count := len(sizes.too_long):
        first, named = sizes.lines()
        examples = "1 example has" if count == 1 else f"{count:,} examples have"
        detail = f"{examples} more tokens than max_tokens, {max_tokens:,}: the answer would be cut, in lines {named}"
        yield Finding("warning", first, "long", detail)
