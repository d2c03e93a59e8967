"""Two models before the same examples: what they answer, what that is worth, and what the newer one has unlearned."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from pipelines.config import BehaviourConfig, GenerateConfig
from pipelines.errors import InputError
from pipelines.evaluate.metrics import interval
from pipelines.evaluate_behaviour.score import Score, score
from pipelines.examples import Chat, Example, Preference, read_examples
from pipelines.generate import LanguageModel, Message, load_generator
from pipelines.models import Generator
from pipelines.progress import Progress

PREFERRED = "preferred"
PIECE = 20_000  # characters of a general text that are read as one
PIECES = 20


@dataclass(frozen=True)
class Answered:
    """One example and what a model said."""

    example: Example
    text: str
    score: Score


@dataclass(frozen=True)
class Behaviour:
    """What a model did. `perplexity`: of the general texts; `chats`: its answers to the general chats, if any."""

    model: str
    answers: list[Answered]
    perplexity: float | None
    chats: list[Answered]
    seconds: float
    tokens: int

    def mean(self, metric: str) -> float | None:
        """Over the examples to which it applies."""
        values = [each.score.metrics[metric] for each in self.answers if metric in each.score.metrics]
        return mean(values) if values else None

    def problems(self) -> Counter[str]:
        return Counter(each.score.problem for each in self.answers if each.score.problem)


@dataclass(frozen=True)
class Difference:
    """`after` minus `before`, paired; 95 % of resampled means are between `low` and `high`."""

    queries: int
    before: float
    after: float
    difference: float
    low: float
    high: float


def behave(
    model: Generator,
    config: GenerateConfig,
    settings: BehaviourConfig,
    examples: Sequence[Example],
    texts: Sequence[str],
    chats: Sequence[Example],
    progress: Progress,
) -> Behaviour:
    """Let the model answer. Likelihoods, and so `preferred` and the perplexity, only of a model that runs here."""
    with load_generator(model, config) as speaker:
        answers, seconds, tokens = _answered(speaker, settings, examples, progress)
        general, _, _ = _answered(speaker, settings, chats, progress)
        if model.kind == "endpoint":
            return Behaviour(model.name, answers, None, general, seconds, tokens)
        from pipelines.generate.likelihood import answer_likelihood, perplexity
        from pipelines.generate.local import LocalModel

        assert isinstance(speaker, LocalModel)
        for each in answers:
            if isinstance(each.example, Preference):
                liked, other = (
                    answer_likelihood(speaker, each.example.prompt, text)
                    for text in (each.example.chosen, each.example.rejected)
                )
                each.score.metrics[PREFERRED] = float(liked > other)
        return Behaviour(model.name, answers, perplexity(speaker, texts) if texts else None, general, seconds, tokens)


def difference(before: Behaviour, after: Behaviour, metric: str) -> Difference | None:
    """None where the metric applies to no example."""
    pairs = [
        (old.score.metrics[metric], new.score.metrics[metric])
        for old, new in zip(before.answers, after.answers, strict=True)
        if metric in old.score.metrics and metric in new.score.metrics
    ]
    return paired(pairs)


def paired(values: Sequence[tuple[float, float]]) -> Difference | None:
    """Of (before, after) of each question; None where there is none."""
    if not values:
        return None
    changes = [after - before for before, after in values]
    before, after = (mean(column) for column in zip(*values, strict=True))
    return Difference(len(values), before, after, mean(changes), *interval(changes))


def general_texts(path: Path) -> list[str]:
    """Of a text file, pieces of it; of a JSONL file, the field `text` of its rows, or what is said in its chats."""
    try:
        raw = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}", hint="name a text file, or JSONL") from None
    found = (
        list(_of_rows(path, raw))
        if path.suffix == ".jsonl"
        else [raw[at : at + PIECE] for at in range(0, len(raw), PIECE)]
    )
    return [text for text in found if text.strip()][:PIECES]


def general_chats(path: Path, most: int) -> Sequence[Example]:
    """The first chats of the file."""
    return [each for each in read_examples(path) if isinstance(each, Chat)][:most]


def _of_rows(path: Path, raw: str) -> Iterator[str]:
    for number, line in enumerate(raw.splitlines(), 1):
        try:
            row = json.loads(line) if line.strip() else {}
            if "messages" in row:
                yield "\n\n".join(message["content"] for message in row["messages"])
            elif row:
                yield row["text"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"{path}:{number} has no text", hint='rows need "text" or "messages"') from None


def _answered(
    speaker: LanguageModel, settings: BehaviourConfig, examples: Sequence[Example], progress: Progress
) -> tuple[list[Answered], float, int]:
    """Answers in the order of the examples, seconds, and tokens that were written."""
    # Of about the same length together, so that little is computed for padding.
    order = sorted(range(len(examples)), key=lambda place: sum(len(each.content) for each in examples[place].prompt))
    found: dict[int, Answered] = {}
    began, tokens = time.perf_counter(), 0
    asked: Iterator[Sequence[Message]] = (examples[place].prompt for place in order)
    for place, said in zip(order, speaker.complete(asked, settings.answer_tokens), strict=True):
        example = examples[place]
        found[place] = Answered(
            example, said.text, score(said.text, example.answer, example.checks, cut_off=said.finish == "length")
        )
        tokens += said.completion_tokens
        progress.advance()
    return [found[place] for place in range(len(examples))], time.perf_counter() - began, tokens
