"""`POST /ask`: an answer with citations, as a whole or piece by piece."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from fastapi import APIRouter, Response
from starlette.responses import StreamingResponse

from pipelines.ask import Answer, Answerer, log
from pipelines.errors import SnapdexError
from pipelines.serve.routes import Service, as_json, check_limits, problems, reading
from pipelines.serve.shapes import AnswerShape, Question

EVENTS = "text/event-stream"


def router_of(service: Service, answerer: Answerer, token: list[Any]) -> APIRouter:
    router = APIRouter(responses=problems(400, 401, 403, 404, 409, 413, 422, 429, 503))

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
    def ask(asked: Question) -> Response:
        """An answer whose sentences name the passages that say so, or that there is none. Every quote stands verbatim
        in its chunk; `[?]` marks what no passage supports. With `stream`, pieces come as the model writes them: they
        are not checked yet, and the answer that comes last is."""
        check_limits(service.config, asked.question, asked.k)
        how = {
            "at": asked.at,
            "k": asked.k or min(service.config.search.k, service.config.serve.most_k),
            "mode": asked.mode,
            "filter": asked.filter,
        }
        with reading(service.readers) as reader:
            if not asked.stream:
                answer = answerer.ask(reader, asked.question, **how)
                _count(service, answer)
                return as_json(answer.to_json())
            events = answerer.stream(reader, asked.question, **how)
            first = next(events)  # after it the reader is not needed any more, and errors until here have a status
        return StreamingResponse(_told(service, chain([first], events)), media_type=EVENTS)

    return router


def _told(service: Service, events: Iterator[str | Answer]) -> Iterator[bytes]:
    try:
        for each in events:
            if isinstance(each, Answer):
                _count(service, each)
                with reading(service.readers) as reader:
                    log(reader, each)
                yield _event("answer", each.to_json())
            else:
                yield _event("piece", {"text": each})
    except SnapdexError as error:
        yield _event("error", {"error": str(error), "hint": error.hint})


def _event(name: str, data: dict[str, Any]) -> bytes:
    """In ASCII and on one line, whatever a document or a model says."""
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n".encode("ascii")


def _count(service: Service, answer: Answer) -> None:
    if answer.abstained:
        service.measures.abstentions.labels(service.index).inc()
