"""What is wrong with training pairs, told before anything is learned from them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.evaluate.check import Finding
from pipelines.model import batched
from pipelines.pairs.columns import Columns
from pipelines.pairs.leakage import Evaluation
from pipelines.pairs.rows import Pair, lines, parse
from pipelines.pairs.sizes import CountTokens, Sizes
from pipelines.pairs.text import damage, markup, normalised, words_of

BATCH_ROWS = 1000
LISTED = 100  # warnings of one kind that are kept; all are counted, and every error is kept
FEW = 500  # rows. Below, one run differs from the next by more than most changes of the set do


@dataclass
class Checked:
    """All errors and up to `LISTED` warnings of each kind, in the order of the lines; those about the whole file last.

    `counts`: kind to number of findings, listed or not. `statistics`: name to number.
    """

    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    errors: int = 0
    warnings: int = 0
    statistics: dict[str, int | float] = field(default_factory=dict)

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.counts[finding.kind] += 1
            self.errors += finding.level == "error"
            self.warnings += finding.level == "warning"
            if finding.level == "error" or self.counts[finding.kind] <= LISTED:
                self.findings.append(finding)


def check(
    path: Path,
    *,
    against: Path | None = None,
    tokens: CountTokens | None = None,
    max_tokens: int | None = None,
) -> Checked:
    """Everything that is wrong with the pairs of `path`, in one pass, and how large they are.

    `against`: the evaluation file, pairs or a golden set, of which nothing may be learned. `tokens` counts as the model
    does, which reads `max_tokens`. Of a row some 70 bytes are held, and 16 of each negative; of the evaluation file the
    hashes of its words. Raises `InputError` where a file cannot be read, or the evaluation file is malformed.
    """
    checked = Checked()
    evaluation = Evaluation(against) if against is not None else None
    columns = Columns()
    sizes = Sizes(max_tokens)
    for batch in batched(lines(path), BATCH_ROWS):
        pairs = []
        for number, line in batch:
            row = parse(line, number)
            if isinstance(row, Pair):
                pairs.append(row)
            else:
                checked.add(Finding("error", number, flaw.kind, flaw.detail) for flaw in row)
        for pair in pairs:
            query, positive = normalised(pair.query), normalised(pair.positive)
            negatives = [normalised(each) for each in pair.negatives]
            columns.add(pair, query, positive, negatives)
            checked.add(_alone(pair, query, positive, negatives))
            if evaluation is not None:
                checked.add(evaluation.leaks(pair, query, positive))
        if tokens is not None:
            _add(sizes, pairs, tokens)
    checked.add(columns.findings())
    checked.add(_long(sizes, max_tokens))
    checked.findings.sort(key=lambda each: each.line)
    checked.add(_altogether(len(columns)))
    checked.statistics = columns.statistics() | sizes.statistics()
    return checked


def _alone(pair: Pair, query: str, positive: str, negatives: Sequence[str]) -> Iterator[Finding]:
    if query == positive:
        yield Finding("error", pair.line, "same", "the query is its own positive")
    if positive in negatives:
        place = negatives.index(positive) + 1
        yield Finding("error", pair.line, "negative", f"negatives[{place}] is the positive")
    if len(words_of(query)) == 1:
        yield Finding("warning", pair.line, "short", f"the query is one word: {pair.query.strip()}")
    for name, text in _texts(pair):
        if found := damage(text):
            yield Finding("warning", pair.line, "garbled", f"{name} {found}")
        if found := markup(text):
            yield Finding("warning", pair.line, "markup", f"{name} {found}")


def _altogether(rows: int) -> Iterator[Finding]:
    if not rows:
        yield Finding("error", 0, "empty", "no line is a pair")
    elif rows < FEW:
        yield Finding(
            "warning", 0, "few", f"{rows} rows: what is learned from fewer than {FEW} varies a lot between runs"
        )


def _texts(pair: Pair) -> Iterator[tuple[str, str]]:
    yield "query", pair.query
    yield "positive", pair.positive
    for place, negative in enumerate(pair.negatives, 1):
        yield f"negatives[{place}]", negative


def _add(sizes: Sizes, pairs: Sequence[Pair], tokens: CountTokens) -> None:
    texts = [(pair.line, name, text) for pair in pairs for name, text in _texts(pair)]
    for (line, name, _), size in zip(texts, tokens([text for _, _, text in texts]), strict=True):
        sizes.add("query" if name == "query" else "passage", size)
        sizes.limit(line, size)


def _long(sizes: Sizes, max_tokens: int | None) -> Iterator[Finding]:
    """One for all texts that are longer than the model reads, because their end is cut off and nothing else."""
    if count := len(sizes.too_long):
        first, named = sizes.lines()
        texts = "1 text has" if count == 1 else f"{count:,} texts have"
        detail = f"{texts} more tokens than the {max_tokens:,} that the model reads, in lines {named}"
        yield Finding("warning", first, "long", detail)
