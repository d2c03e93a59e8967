"""Language models at a server with OpenAI's chat completions."""

import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import chain, islice
from typing import Any, Self

from pipelines.config import GenerateConfig
from pipelines.generate.chat import Completion, Conversation
from pipelines.models import Generator
from pipelines.models.service import OPENAI, Purpose, Service, base_url, key_for

PATH = "/chat/completions"
CHARACTERS = 16  # of a token, at most: an answer with more of them is longer than it may be
REFUSAL_HINT = "check generate.max_tokens and generate.temperature, and that the conversation fits the model"


class EndpointModel:
    """Several requests at a time, answers in order; `more`: of `Service`."""

    def __init__(self, model: Generator, config: GenerateConfig, **more: Any) -> None:
        url = base_url(config.endpoint)
        self._model = model.at_server
        self._config = config
        # OpenAI has renamed the key, and its newer models refuse the old one; other servers know the old one.
        self._limit = "max_completion_tokens" if url == OPENAI else "max_tokens"
        purpose = Purpose("generate", "completions", self._model, REFUSAL_HINT)
        more = {"timeout_seconds": config.timeout_seconds} | more
        self._service = Service(url, purpose, key_for(url, "generate"), config.requests_per_minute, **more)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._service.close()

    def complete(self, conversations: Iterable[Conversation], max_tokens: int | None = None) -> Iterator[Completion]:
        rest = iter(conversations)
        first = list(islice(rest, 2))
        if len(first) < 2:  # in the caller's thread: one of a pool would hold up the end of the program
            yield from (self._completion(conversation, max_tokens) for conversation in first)
            return
        waiting: deque[Future[Completion]] = deque()
        pool = ThreadPoolExecutor(self._config.concurrency, thread_name_prefix="generate")
        try:
            for conversation in chain(first, rest):
                waiting.append(pool.submit(self._completion, conversation, max_tokens))
                if len(waiting) == self._config.concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            if waiting:  # it failed, or nobody wants the rest: those under way are not tried again
                self._service.close()
            pool.shutdown(cancel_futures=True)

    def stream(self, conversation: Conversation, max_tokens: int | None = None) -> Iterator[str]:
        ended, most = False, CHARACTERS * (max_tokens or self._config.max_tokens)
        with self._service.lines(PATH, self._body(conversation, max_tokens) | {"stream": True}) as lines:
            for line in lines:
                if not line.startswith("data:"):
                    continue  # comments that keep the connection open
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    ended = True
                    break
                piece, finish = self._piece(data)
                ended = ended or bool(finish)
                if piece:
                    most -= len(piece)
                    yield _sound(piece)
                if most < 0:
                    raise self._service.wrong("an answer that does not end")
        if not ended:
            raise self._service.unavailable("the answer ended in the middle")

    def _body(self, conversation: Conversation, max_tokens: int | None) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": [asdict(message) for message in conversation],
            self._limit: max_tokens or self._config.max_tokens,
            "temperature": self._config.temperature,
        }

    def _completion(self, conversation: Conversation, max_tokens: int | None) -> Completion:
        began = time.perf_counter()
        answer = self._service.post(PATH, self._body(conversation, max_tokens))
        seconds = time.perf_counter() - began
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"] or ""  # null where only a tool or a refusal was written
            usage = answer.get("usage") or {}
            tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
            raise self._service.wrong("something else than a completion") from None
        if not isinstance(text, str):
            raise self._service.wrong("something else than a text")
        return Completion(_sound(text), *tokens, seconds, str(choice.get("finish_reason") or "stop"))

    def _piece(self, data: str) -> tuple[str, str]:
        """The text of an event, and why the answer ended where it did."""
        try:
            event = json.loads(data)
            if error := event.get("error"):
                raise self._service.unavailable(
                    f"an error in the middle of an answer: {self._service.said(_said(error))}"
                )
            choice = (event.get("choices") or [{}])[0]  # the last event may only count tokens
            piece = (choice.get("delta") or {}).get("content") or ""
            if not isinstance(piece, str):
                raise TypeError(type(piece))
            return piece, str(choice.get("finish_reason") or "")
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise self._service.wrong("an event that is no part of a completion") from None


def _sound(text: str) -> str:
    """Without what JSON can smuggle in and no database takes: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _said(error: Any) -> str:
    """The kind of an error: its message could repeat what was sent."""
    kind = error.get("type") if isinstance(error, dict) else None
    return str(kind or "without a type")[:60]
