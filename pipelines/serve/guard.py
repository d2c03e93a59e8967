"""What stands in front of the application: who may ask, how often and how much; what is counted and logged."""

import logging
import math
import time
from asyncio import CancelledError
from collections.abc import Callable
from http import HTTPStatus

from anyio import fail_after
from fastapi import Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines import logs
from pipelines.config import ServeConfig
from pipelines.serve.access import Access, Buckets, is_loopback
from pipelines.serve.measures import Measures
from pipelines.serve.problems import RETRY_SECONDS, problem

FREE = {"/health", "/live"}  # need no token, and are answered always
PUBLIC = {"/"}  # the page: it holds nothing, and asks for the token itself
BODY_SECONDS = 20.0  # in which a request must have come
OTHER = "other"  # the route of a request that has none
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"cross-origin-resource-policy": b"same-origin",
}


class Guard:
    """An ASGI application around the application. It keeps its counts in the event loop, so without locks."""

    def __init__(
        self,
        app: ASGIApp,
        config: ServeConfig,
        access: Access,
        measures: Measures,
        index: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._config = config
        self._access = access
        self._measures = measures
        self._index = index
        self._clock = clock
        self._buckets = Buckets(config.requests_per_minute, clock)
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock()
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value
        answering = False

        async def answer(message: Message) -> None:
            nonlocal status, answering
            if message["type"] == "http.response.start":
                status, answering = message["status"], True
                given = {name for name, _ in message["headers"]}
                more = [(name, value) for name, value in HEADERS.items() if name not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        self._measures.in_flight.inc()
        try:
            await self._answered(scope, receive, answer)
        except CancelledError:  # the service ends, and its grace is over; nothing comes after this
            if not answering:
                await _unavailable("the service is ending", "ask again in a moment")(scope, receive, answer)
        finally:
            self._measures.in_flight.dec()
            self._note(scope, status, self._clock() - began)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in FREE:
            await self._app(scope, receive, send)
            return
        refused = self._refused(scope)
        if refused is None and self._inside >= self._config.connections + self._config.waiting:
            refused = _unavailable("too many requests are waiting", "ask again in a moment")
        if refused:
            await refused(scope, receive, send)
            return
        self._inside += 1
        try:
            try:
                with fail_after(BODY_SECONDS):
                    body = await self._body(receive)
            except TimeoutError:
                await _hang_up(HTTPStatus.REQUEST_TIMEOUT, "the request did not come to its end")(scope, receive, send)
                return
            if body is None:
                most = f"the request has more than {self._config.most_body_kib} KiB"
                await _hang_up(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, most)(scope, receive, send)
                return
            await self._app(scope, body, send)
        finally:
            self._inside -= 1

    def _refused(self, scope: Scope) -> Response | None:
        """Why this request gets no answer, if so."""
        headers = Headers(scope=scope)
        if self._access.is_open and not is_loopback(_hostname(headers.get("host", ""))):
            # A page from elsewhere can let its own name mean this machine; the browser then sends that name.
            return problem(HTTPStatus.FORBIDDEN, "this is not the name of the service", "use 127.0.0.1, or a token")
        address = scope["client"][0] if scope.get("client") else "unknown"
        holder = self._access.holder(headers.get("authorization", "").encode("latin-1"))
        wait = self._buckets.wait_seconds(holder or address)
        if wait:
            return problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"more than {self._config.requests_per_minute} requests in a minute",
                "wait as long as Retry-After says",
                {"Retry-After": str(math.ceil(wait))},
            )
        if holder is None and not self._access.is_open and scope["path"] not in PUBLIC:
            return problem(
                HTTPStatus.UNAUTHORIZED,
                "no token, or not one of this service's",
                "send the header: Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        return None

    async def _body(self, receive: Receive) -> Receive | None:
        """The whole body as something to receive; None where it is too large."""
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return _replayed(message, receive)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._config.most_body_kib * 1024:
                return None
            more = message.get("more_body", False)
        return _replayed({"type": "http.request", "body": b"".join(parts), "more_body": False}, receive)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", OTHER)
        self._measures.requests.labels(route, status).inc()
        self._measures.seconds.labels(route).observe(seconds)
        if logs.LOGGER.isEnabledFor(logging.INFO):
            logs.event(
                "request",
                index=self._index,
                method=scope["method"],
                route=route,
                status=status,
                seconds=round(seconds, 4),
                client=scope["client"][0] if scope.get("client") else None,
            )


def _unavailable(error: str, hint: str) -> Response:
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, error, hint, {"Retry-After": str(RETRY_SECONDS)})


def _hang_up(status: HTTPStatus, error: str) -> Response:
    """An answer to a request that was not read to its end."""
    return problem(status, error, "send less, or faster", {"Connection": "close"})


def _replayed(first: Message, receive: Receive) -> Receive:
    """`first`, and then what really comes."""
    waiting = [first]

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()

    return received


def _hostname(host: str) -> str:
    """Of a Host header, without the port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
