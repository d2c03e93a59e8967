"""From a question to an answer with evidence, against one version."""

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from pipelines.errors import ConfigError, InputError, ServiceUnavailable
from pipelines.examples.checks import is_refusal
from pipelines.files import Workspace
from pipelines.generate import Completion, Conversation, LanguageModel, Message, cost, counters, load_generator
from pipelines.index import Hit, Reader, Result, Version
from pipelines.index.reader import Similarities
from pipelines.index.search import plain
from pipelines.models import Generator, resolve_generator

NEAREST = 3  # documents that an abstention names
ALONE = f"Answer briefly. If you do not know, say: {REFUSAL}"
_CODE = re.compile(r"\b[A-Za-z]{2,}[-_]\d{2,}\b")  # TM-5013: another one is no answer; Q3 and 10-Q are no codes


@dataclass
class Pending:
    """A question for which everything was found; a reader is not needed any more.

    `answer`: where it is answered already; else `conversation` is what the model shall be told.
    """

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
    conversation: Conversation = ()
    answer: Answer | None = None

    def spent(self, said: Completion) -> None:
        self.model_seconds += said.seconds
        self.prompt_tokens += said.prompt_tokens
        self.completion_tokens += said.completion_tokens

    def timed(self, similarities: Similarities) -> Similarities:
        """The same; what it takes is time of a model."""

        def compared(query: str, texts: Sequence[str]) -> list[float]:
            began = time.monotonic()
            found = similarities(query, texts)
            self.model_seconds += time.monotonic() - began
            return found

        return compared


class Answerer:
    """Answers questions with `generate.model`, or in quotations where there is none; use it as a context.

    A model that runs here is loaded for the first question and stays. Several threads may ask, each with a reader of
    its own. `patient`: whether a server that does not answer is asked again for minutes, as a job would; a person who
    waits is told soon.
    """

    def __init__(self, config: Config, workspace: Workspace, *, patient: bool = True) -> None:
        self.config = config
        self._workspace = workspace
        self._patient = patient
        self._model: Generator | None = resolve_generator(config.generate, workspace) if config.generate.model else None
        self._loaded: LanguageModel | None = None
        self._loading = threading.Lock()
        self._closed = False
        if config.ask.hops > 1 and self._model is None:
            raise ConfigError(
                "ask.hops needs a model that splits questions", hint="set generate.model, or ask.hops to 1"
            )
        if config.ask.alone_above < 0 and (self._model is None or self._model.kind == "endpoint"):
            raise ConfigError(
                "ask.alone_above needs a model that runs here", hint="set generate.model to path:DIR, or unset it"
            )
        if self._model and self._model.kind == "endpoint":
            self._language_model()  # a key that is missing is missed now

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Questions on their way end with `ServiceUnavailable`."""
        with self._loading:
            self._closed = True
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.__exit__(None, None, None)

    def ask(self, reader: Reader, question: str, **how: Any) -> Answer:
        """The answer of the active version, or of `at`. `how`: `at`, `k`, `mode` and `filter`, as `Reader.search`."""
        answer = self.finish(self.begin(reader, question, **how))
        log(reader, answer)
        return answer

    def begin(self, reader: Reader, question: str, **how: Any) -> Pending:
        """Everything for which the index is needed. Raises `InputError` for a question without a word."""
        question = plain(question)
        if not re.search(r"\w", question):
            raise InputError("the question is empty", hint="ask in a sentence, or in a few words")
        way = Pending(reader.name, question, reader.version(how.get("at")), time.perf_counter())
        if self.config.ask.alone_above < 0 and (sure := self._without_sources(way)) is not None:
            way.answer = sure
            return way
        result = self._searched(reader, way, question, how)
        way.hits = result.hits
        if not result.hits and how.get("filter"):
            way.answer = self._abstained(way, "no document passes the filter")
        elif result.abstained:
            way.answer = self._abstained(way, "nothing in the index is near enough to the question")
        elif self._model is None:
            way.answer = self._extracted(way, None if result.mode == "lexical" else reader.similarities(way.version))
        else:
            self._prepare(reader, way, how)
        return way

    def finish(self, way: Pending) -> Answer:
        """Let the model answer, where one shall."""
        return way.answer or self._written(way, self._said(way, way.conversation))

    def stream(self, way: Pending) -> Iterator[str | Answer]:
        """Pieces of what the model writes, as it writes them and unchecked, and last the answer that was made of it.

        Close the iterator where nobody wants the rest.
        """
        if way.answer:
            yield way.answer
            return
        pieces = []
        began = time.perf_counter()
        model = self._language_model()
        for piece in model.stream(way.conversation):
            pieces.append(piece)
            yield piece
        text = "".join(pieces)
        text_tokens, tokens = counters(model)
        way.spent(Completion("", tokens(way.conversation), text_tokens(text), time.perf_counter() - began, "stop"))
        yield self._written(way, text)

    def _searched(self, reader: Reader, way: Pending, query: str, how: Mapping[str, Any]) -> Result:
        """Always in one version. A quotation has to stand in its chunk, so hits are never wider than that."""
        began = time.perf_counter()
        result = reader.search(query, **{**how, "at": way.version.number, "expand": "chunk"})
        way.search_seconds += time.perf_counter() - began
        way.queries.append(query)
        return result

    # -- with a model --------------------------------------------------------------------------------------------------

    def _without_sources(self, way: Pending) -> Answer | None:
        """What the model says by itself, where it is sure enough."""
        from pipelines.generate.likelihood import answer_likelihood
        from pipelines.generate.local import LocalModel

        conversation = [Message("system", ALONE), Message("user", way.question)]
        text, model = self._said(way, conversation), self._language_model()
        assert isinstance(model, LocalModel)
        if not text.strip() or is_refusal(text):
            return None
        likelihood = answer_likelihood(model, conversation, text)
        return self._answer(way, cite(text, [])) if likelihood >= self.config.ask.alone_above else None

    def _prepare(self, reader: Reader, way: Pending, how: Mapping[str, Any]) -> None:
        """What the model is told; the passages are numbered here."""
        if self.config.ask.hops > 1:
            way.hits = self._hops(reader, way, how)
        text_tokens, tokens = counters(self._language_model())
        room = self.config.ask.context_tokens
        if self._model and self._model.window:
            least = self._model.window - self.config.generate.max_tokens - tokens(asked(way.question, []))
            if least < 0:
                raise InputError(
                    f"{self._model.name} reads and writes {self._model.window:,} tokens, too few for a question with"
                    f" an answer of {self.config.generate.max_tokens:,}",
                    hint="lower generate.max_tokens, or choose a model with a larger window",
                )
            room = min(room, least)
        way.passages = numbered(within(way.hits, room, text_tokens))
        if not way.passages:
            way.answer = self._abstained(way, f"no passage that was found fits into {room:,} tokens")
            return
        way.conflicts = conflicts_among(way.question, way.passages)
        way.conversation = asked(way.question, way.passages, conflicts=[each.markers for each in way.conflicts])

    def _hops(self, reader: Reader, way: Pending, how: Mapping[str, Any]) -> list[Hit]:
        """The hits of the question and of its steps in turn, each once."""
        steps = steps_of(self._said(way, split(way.question)), way.question, self.config.ask.hops)
        found = [way.hits, *(self._searched(reader, way, step, how).hits for step in steps)]
        mixed = [hit for rank in zip_longest(*found) for hit in rank if hit is not None]
        return _each_once(mixed, "chunk")

    def _said(self, way: Pending, conversation: Conversation) -> str:
        completion = next(iter(self._language_model().complete([conversation])))
        way.spent(completion)
        return completion.text

    def _language_model(self) -> LanguageModel:
        with self._loading:
            if self._closed:
                raise ServiceUnavailable("this program is ending", hint="ask again when it was started again")
            if self._loaded is None:
                assert self._model is not None
                self._loaded = load_generator(self._model, self.config.generate, patient=self._patient).__enter__()
            return self._loaded

    def _written(self, way: Pending, text: str) -> Answer:
        """A text that only refuses is an abstention; one of which a passage supports something is an answer."""
        if not text.strip():
            return self._abstained(way, "the model wrote nothing")
        cited = cite(text, way.passages)
        if is_refusal(text) and not cited.citations:
            return self._abstained(way, "the model finds no answer in what was retrieved")
        return self._answer(way, cited)

    # -- without one ---------------------------------------------------------------------------------------------------

    def _extracted(self, way: Pending, similarities: Similarities | None) -> Answer:
        way.passages = numbered(way.hits)
        texts = " ".join(f"{' '.join(hit.section)} {hit.text}" for hit in way.hits).casefold()
        for code in _CODE.findall(way.question):
            if code.casefold() not in texts:
                return self._abstained(way, f"no passage that was found has {code}")
        way.conflicts = conflicts_among(way.question, way.passages)
        quotes = best_quotes(way.question, way.passages, way.timed(similarities) if similarities else None)
        return (
            self._answer(way, quoted(quotes)) if quotes else self._abstained(way, "what was retrieved has no sentence")
        )

    # -- the answer ----------------------------------------------------------------------------------------------------

    def _abstained(self, way: Pending, reason: str) -> Answer:
        return self._answer(way, Cited(REFUSAL, [], []), reason)

    def _answer(self, way: Pending, cited: Cited, reason: str = "") -> Answer:
        nearest = [Nearest(hit.document, hit.section, hit.score) for hit in _each_once(way.hits, "document")]
        return Answer(
            index=way.index,
            version=way.version.number,
            snapshot=way.version.snapshot,
            question=way.question,
            answer=cited.text,
            abstained=bool(reason),
            reason=reason,
            calibrated="threshold" in (way.version.calibration or {}),
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
