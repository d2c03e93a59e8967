"""From a question to an answer with evidence, against one version."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Self

from pipelines.ask.answer import EXTRACTIVE, Answer, Conflict, Nearest
from pipelines.ask.cite import Cited, cite, quoted
from pipelines.ask.conflicts import conflicts_among
from pipelines.ask.extract import best_quotes
from pipelines.ask.hops import split, steps_of
from pipelines.ask.passages import REFUSAL, Passage, asked, numbered, within
from pipelines.ask.traced import traced
from pipelines.config import Config
from pipelines.errors import ConfigError
from pipelines.examples.checks import is_refusal
from pipelines.files import Workspace
from pipelines.generate import Completion, Conversation, LanguageModel, Message, cost, counters, load_generator
from pipelines.index import Hit, Reader, Result, Version
from pipelines.index.reader import Similarities
from pipelines.models import Generator, resolve_generator

NEAREST = 3  # documents that an abstention names
ALONE = f"Answer briefly. If you do not know, say: {REFUSAL}"


@dataclass
class _Asked:
    """A question on its way."""

    index: str
    question: str
    version: Version
    began: float
    hits: list[Hit] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    search_seconds: float = 0.0
    model_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def spent(self, said: Completion) -> None:
        self.model_seconds += said.seconds
        self.prompt_tokens += said.prompt_tokens
        self.completion_tokens += said.completion_tokens


class Answerer:
    """Answers questions with `generate.model`, or in quotations where there is none; use it as a context.

    The model is loaded for the first question and stays. Several threads may ask, each with a reader of its own.
    """

    def __init__(self, config: Config, workspace: Workspace) -> None:
        self.config = config
        self._workspace = workspace
        self._model: Generator | None = resolve_generator(config.generate, workspace) if config.generate.model else None
        self._loaded: LanguageModel | None = None
        self._loading = threading.Lock()
        self._alone = threading.Lock()  # a model that runs here answers one question at a time
        if config.ask.hops > 1 and self._model is None:
            raise ConfigError(
                "ask.hops needs a model that splits questions", hint="set generate.model, or ask.hops to 1"
            )
        if config.ask.alone_above < 0 and (self._model is None or self._model.kind == "endpoint"):
            raise ConfigError(
                "ask.alone_above needs a model that runs here", hint="set generate.model to path:DIR, or unset it"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._loaded is not None:
            self._loaded.__exit__(None, None, None)
            self._loaded = None

    def ask(self, reader: Reader, question: str, **how: Any) -> Answer:
        """The answer of the active version, or of `at`. `how`: `at`, `k`, `mode` and `filter`, as `Reader.search`."""
        answers = [each for each in self._run(reader, question, how, streamed=False) if isinstance(each, Answer)]
        log(reader, answers[0])
        return answers[0]

    def stream(self, reader: Reader, question: str, **how: Any) -> Iterator[str | Answer]:
        """Pieces of what the model writes, as it writes them, and last the answer that was made of it.

        The reader is not used any more after the first of them; `log` is for who has one at the end.
        """
        return self._run(reader, question, how, streamed=True)

    def _run(self, reader: Reader, question: str, how: Mapping[str, Any], *, streamed: bool) -> Iterator[str | Answer]:
        began = time.perf_counter()
        way = _Asked(reader.name, question, reader.version(how.get("at")), began)
        if self.config.ask.alone_above < 0 and (sure := self._without_sources(way)) is not None:
            yield sure
            return
        result = self._searched(reader, way, question, how)
        way.hits = result.hits
        if result.abstained:
            yield self._abstained(way, "nothing in the index is near enough to the question")
        elif self._model is None:
            yield self._extracted(way, None if result.mode == "lexical" else reader.similarities(way.version))
        elif streamed:
            pieces = []
            for piece in self._streamed(way, self._conversation(reader, way, how)):
                pieces.append(piece)
                yield piece
            yield self._written(way, "".join(pieces))
        else:
            yield self._written(way, self._said(way, self._conversation(reader, way, how)))

    def _searched(self, reader: Reader, way: _Asked, query: str, how: Mapping[str, Any]) -> Result:
        """Always in one version. A quotation has to stand in its chunk, so hits are never wider than that."""
        began = time.perf_counter()
        result = reader.search(query, **{**how, "at": way.version.number, "expand": "chunk"})
        way.search_seconds += time.perf_counter() - began
        way.queries.append(query)
        return result

    # -- with a model --------------------------------------------------------------------------------------------------

    def _without_sources(self, way: _Asked) -> Answer | None:
        """What the model says by itself, where it is sure enough."""
        from pipelines.generate.likelihood import answer_likelihood
        from pipelines.generate.local import LocalModel

        conversation = [Message("system", ALONE), Message("user", way.question)]
        text, model = self._said(way, conversation), self._language_model()
        assert isinstance(model, LocalModel)
        if not text.strip() or is_refusal(text):
            return None
        with self._turn():
            likelihood = answer_likelihood(model, conversation, text)
        return self._answer(way, cite(text, [])) if likelihood >= self.config.ask.alone_above else None

    def _conversation(self, reader: Reader, way: _Asked, how: Mapping[str, Any]) -> Conversation:
        """What the model is told; the passages are numbered here."""
        if self.config.ask.hops > 1:
            way.hits = self._hops(reader, way, how)
        text_tokens, tokens = counters(self._language_model())
        room = self.config.ask.context_tokens
        if self._model and self._model.window:
            room = min(room, self._model.window - self.config.generate.max_tokens - tokens(asked(way.question, [])))
        way.passages = numbered(within(way.hits, room, text_tokens))
        way.conflicts = conflicts_among(way.question, way.passages)
        return asked(way.question, way.passages, conflicts=[each.markers for each in way.conflicts])

    def _hops(self, reader: Reader, way: _Asked, how: Mapping[str, Any]) -> list[Hit]:
        """The hits of the question and of its steps in turn, each once."""
        steps = steps_of(self._said(way, split(way.question)), way.question, self.config.ask.hops)
        found = [way.hits, *(self._searched(reader, way, step, how).hits for step in steps)]
        mixed = [hit for rank in zip_longest(*found) for hit in rank if hit is not None]
        return _each_once(mixed, "chunk")

    def _said(self, way: _Asked, conversation: Conversation) -> str:
        model = self._language_model()
        with self._turn():
            completion = next(iter(model.complete([conversation])))
        way.spent(completion)
        return completion.text

    def _streamed(self, way: _Asked, conversation: Conversation) -> Iterator[str]:
        model, pieces = self._language_model(), []
        with self._turn():
            began = time.perf_counter()
            for piece in model.stream(conversation):
                pieces.append(piece)
                yield piece
            seconds = time.perf_counter() - began
        text_tokens, tokens = counters(model)
        way.spent(Completion("", tokens(conversation), text_tokens("".join(pieces)), seconds, "stop"))

    def _turn(self) -> AbstractContextManager[Any]:
        """A model that runs here answers one question at a time."""
        return self._alone if self._model and self._model.kind == "folder" else nullcontext()

    def _language_model(self) -> LanguageModel:
        with self._loading:
            if self._loaded is None:
                assert self._model is not None
                self._loaded = load_generator(self._model, self.config.generate).__enter__()
            return self._loaded

    def _written(self, way: _Asked, text: str) -> Answer:
        if not text.strip():
            return self._abstained(way, "the model wrote nothing")
        if is_refusal(text):
            return self._abstained(way, "the model finds no answer in what was retrieved")
        return self._answer(way, cite(text, way.passages))

    # -- without one ---------------------------------------------------------------------------------------------------

    def _extracted(self, way: _Asked, similarities: Similarities | None) -> Answer:
        way.passages = numbered(way.hits)
        way.conflicts = conflicts_among(way.question, way.passages)
        quotes = best_quotes(way.question, way.passages, similarities)
        return (
            self._answer(way, quoted(quotes)) if quotes else self._abstained(way, "what was retrieved has no sentence")
        )

    # -- the answer ----------------------------------------------------------------------------------------------------

    def _abstained(self, way: _Asked, reason: str) -> Answer:
        return self._answer(way, Cited(REFUSAL, [], []), reason)

    def _answer(self, way: _Asked, cited: Cited, reason: str = "") -> Answer:
        nearest = [Nearest(hit.document, hit.section, hit.score) for hit in _each_once(way.hits, "document")]
        return Answer(
            index=way.index,
            version=way.version.number,
            snapshot=way.version.snapshot,
            question=way.question,
            answer=cited.text,
            abstained=bool(reason),
            reason=reason,
            citations=cited.citations,
            sentences=cited.sentences,
            conflicts=way.conflicts,
            nearest=nearest[:NEAREST],
            queries=way.queries,
            model=self._model.name if self._model else EXTRACTIVE,
            prompt_tokens=way.prompt_tokens,
            completion_tokens=way.completion_tokens,
            cost=cost(self.config.generate, way.prompt_tokens, way.completion_tokens),
            seconds=time.perf_counter() - way.began,
            search_seconds=way.search_seconds,
            model_seconds=way.model_seconds,
            shown=[each.hit.chunk for each in way.passages],
        )


def log(reader: Reader, answer: Answer) -> None:
    """Note the answer in the retrieval log and in MLflow, as the section `log` of the reader's parameters says."""
    cited = [each.document for each in answer.citations]
    traced(reader.config.log, answer)
    reader.log_answer(answer.version, answer.question, cited, abstained=answer.abstained, seconds=answer.seconds)


def _each_once(hits: Iterable[Hit], by: str) -> list[Hit]:
    """The first of those that are the same by this attribute."""
    found: dict[str, Hit] = {}
    for hit in hits:
        found.setdefault(getattr(hit, by), hit)
    return list(found.values())
