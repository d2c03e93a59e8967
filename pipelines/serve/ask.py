"""`POST /ask`: an answer with citations, as a whole or piece by piece.

A model may take minutes, so questions wait for it in threads of their own, as many as there are connections: searches
go on beside them, and a thread that hangs holds up neither the end of the process nor a reader.
"""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter
from fastapi import APIRouter, Response
from starlette.responses import StreamingResponse

from pipelines import ask as answers
from pipelines.ask import Answer, Answerer
from pipelines.ask.answerer import Pending
from pipelines.doors import HTTP, hint_at
from pipelines.errors import ServiceUnavailable, SnapdexError
from pipelines.serve.routes import Service, as_json, check_limits, problems, reading
from pipelines.serve.shapes import AnswerShape, Question

EVENTS = "text/event-stream"
LOGGER = logging.getLogger("snapdex")

T = TypeVar("T")


def router_of(service: Service, answerer: Answerer, token: list[Any]) -> APIRouter:
    router = APIRouter(responses=problems(400, 401, 403, 404, 409, 413, 422, 429, 503))
    most = service.config.serve.connections
    limiter = CapacityLimiter(most)

    @router.post(
        "/ask",
        summary="Ask",
        tags=["ask"],
        dependencies=token,
        responses={
            200: {
                "model": AnswerShape,
                "content": {EVENTS: {}},
                "description": "The answer; with `stream` as events: `piece` with `text`, then `answer`, or `error`.",
            }
        },
    )
    async def ask(asked: Question) -> Response:
        """An answer whose sentences name the passages that say so, or that there is none. Every quote stands verbatim
        in its chunk; `[?]` marks what no passage supports. With `stream`, pieces come as the model writes them: they
        are not checked yet, and the answer that comes last is."""
        check_limits(service.config, asked.question, asked.k)
        if limiter.statistics().tasks_waiting >= most:
            raise ServiceUnavailable("too many questions are waiting", hint="ask again in a moment")
        async with limiter:
            way = await _in_thread(partial(_begin, service, answerer, asked))
            if not asked.stream:
                answer = await _in_thread(partial(answerer.finish, way))
                await _in_thread(partial(_note, service, answer))
                return as_json(answer.to_json())
        return StreamingResponse(_told(service, answerer, way, limiter), media_type=EVENTS)

    return router


def _begin(service: Service, answerer: Answerer, asked: Question) -> Pending:
    with reading(service.readers) as reader:
        return answerer.begin(
            reader,
            asked.question,
            at=asked.at,
            k=asked.k or min(service.config.search.k, service.config.serve.most_k),
            mode=asked.mode,
            filter=asked.filter,
        )


async def _told(service: Service, answerer: Answerer, way: Pending, limiter: CapacityLimiter) -> AsyncIterator[bytes]:
    """The events. Who hangs up ends the model's work, too."""
    events, turn = answerer.stream(way), threading.Lock()

    def step() -> str | Answer | None:
        with turn:
            return next(events, None)

    def end() -> None:
        with turn:
            events.close()  # type: ignore[attr-defined] # it is a generator

    async with limiter:
        try:
            while (each := await _in_thread(step)) is not None:
                if isinstance(each, Answer):
                    yield _event("answer", each.to_json())
                    await _in_thread(partial(_note, service, each))
                else:
                    yield _event("piece", {"text": each})
        except SnapdexError as error:
            yield _event("error", {"error": str(error), "hint": hint_at(HTTP, error)})
        finally:
            threading.Thread(target=end, daemon=True).start()


async def _in_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises. Its thread is left to itself where nobody waits for it any more."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(set_it: Callable[[Any], None], value: Any) -> None:
        if not done.done():
            set_it(value)

    def told(set_it: Callable[[Any], None], value: Any) -> None:
        if not loop.is_closed():  # else the service has ended, and nobody waits
            loop.call_soon_threadsafe(settle, set_it, value)

    def run() -> None:
        try:
            found = work()
        except SnapdexError as error:
            told(done.set_exception, error)
        except Exception as error:  # a bug: told where it is awaited, and on stderr
            told(done.set_exception, error)
            raise
        else:
            told(done.set_result, found)

    threading.Thread(target=run, name="ask", daemon=True).start()
    return await done


def _event(name: str, data: dict[str, Any]) -> bytes:
    """In ASCII and on one line, whatever a document or a model says."""
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n".encode("ascii")


def _note(service: Service, answer: Answer) -> None:
    """Count and log an answer; one that cannot be logged is an answer all the same."""
    if answer.abstained:
        service.measures.abstentions.labels(service.index).inc()
    try:
        with reading(service.readers) as reader:
            answers.log(reader, answer)
    except ServiceUnavailable as error:
        LOGGER.warning("an answer is not logged: %s", error)
