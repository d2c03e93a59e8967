"""The endpoints: what readers ask for, and what comes back."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response, Security
from fastapi.security import HTTPBearer

from pipelines.config import Config
from pipelines.errors import ConfigError, InputError, ServiceUnavailable
from pipelines.index.catalog import get_index, get_version, versions
from pipelines.index.history import diff, diff_facts, version_facts
from pipelines.index.reader import Reader
from pipelines.index.search import filters_of
from pipelines.readers import Readers
from pipelines.serve.measures import Measures
from pipelines.serve.problems import Problem
from pipelines.serve.pulse import Pulse
from pipelines.serve.shapes import (
    DiffShape,
    HealthShape,
    ResultShape,
    Scalar,
    Search,
    SearchInBody,
    SearchInUrl,
    VersionName,
    VersionShape,
)

Answers = dict[int | str, dict[str, Any]]


@dataclass(frozen=True)
class Service:
    """What the endpoints work with."""

    config: Config
    readers: Readers
    pulse: Pulse
    measures: Measures

    @property
    def index(self) -> str:
        return self.config.index.name


def token_of(*, needs_token: bool) -> list[Any]:
    """The dependencies of an endpoint, for its description; the guard asks for the token."""
    return [Security(HTTPBearer(auto_error=False))] if needs_token else []


def router_of(service: Service, token: list[Any]) -> APIRouter:
    """The endpoints of a service. Those that are no coroutines run in threads, as many as there are readers."""
    router = APIRouter(responses=problems(400, 401, 403, 404, 409, 413, 422, 429, 503))

    @router.get("/search", summary="Search", tags=["search"], dependencies=token, responses=_answers(ResultShape))
    def search(asked: Annotated[SearchInUrl, Query()]) -> Response:
        """The best passages for a query, each with document, section, page and place; or that there is nothing."""
        return _search(service, asked, filters_of(asked.filter))

    @router.post(
        "/search",
        summary="Search, with the query in the body",
        tags=["search"],
        dependencies=token,
        responses=_answers(ResultShape),
    )
    def search_in_body(asked: SearchInBody) -> Response:
        """As `GET /search`, with nothing of the query in a URL; or with a query that was embedded already."""
        return _search(service, asked, asked.filter, asked.vector)

    @router.get(
        "/versions",
        summary="The versions, newest first",
        tags=["versions"],
        dependencies=token,
        responses=_answers(list[VersionShape]),
    )
    def list_versions() -> Response:
        """What `snapdex log --json` prints."""
        with reading(service.readers) as reader:
            found = versions(reader.connection, get_index(reader.connection, reader.name))
        return as_json([version_facts(version) for version in found])

    @router.get(
        "/diff",
        summary="What differs between two versions",
        tags=["versions"],
        dependencies=token,
        responses=_answers(DiffShape),
    )
    def diff_versions(
        before: Annotated[VersionName, Query(alias="from")], after: Annotated[VersionName, Query(alias="to")] = "active"
    ) -> Response:
        """Documents and chunks that came, went, changed or were renamed: what `snapdex diff --json` prints."""
        with reading(service.readers) as reader:
            index = get_index(reader.connection, reader.name)
            a, b = (get_version(reader.connection, index, each).number for each in (before, after))
            return as_json(diff_facts(a, b, *diff(reader.connection, index, a, b)))

    @router.get(
        "/health",
        summary="Whether there is something to serve",
        tags=["operation"],
        responses=_answers(HealthShape) | {503: {"model": HealthShape, "description": "There is not, now."}},
    )
    async def health() -> Response:
        """Whether Postgres answers and a version is active. Needs no token."""
        state = await service.pulse.state()
        found, problem = state.version, state.problem
        facts = {
            "status": "ok" if found else "unavailable",
            "index": service.index,
            "database": state.database,
            "version": found.number if found else None,
            "snapshot": found.snapshot if found else None,
        } | ({"error": str(problem), "hint": problem.hint} if problem else {})
        return as_json(facts, HTTPStatus.OK if found else HTTPStatus.SERVICE_UNAVAILABLE)

    @router.get("/live", summary="Whether the process answers", tags=["operation"], status_code=204)
    async def live() -> Response:
        """Says nothing about Postgres: for who would start the service again. Needs no token."""
        return Response(status_code=HTTPStatus.NO_CONTENT)

    @router.get(
        "/metrics",
        summary="Figures for Prometheus",
        tags=["operation"],
        dependencies=token,
        responses={200: {"content": {"text/plain": {}}, "description": "In the text format of Prometheus."}},
    )
    async def metrics() -> Response:
        """Requests by route and status, how long they took, abstentions, the active version."""
        state = await service.pulse.state()
        service.measures.database.set(state.database)
        if state.database:
            service.measures.active.labels(service.index).set(state.version.number if state.version else 0)
        return Response(service.measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


@contextmanager
def reading(readers: Readers) -> Iterator[Reader]:
    """A reader for the block. That the service may not connect is no fault of who asks."""
    with ExitStack() as stack:
        try:
            reader = stack.enter_context(readers.reader())
        except ConfigError as error:
            raise ServiceUnavailable(f"the service cannot read: {error}", hint=error.hint) from error
        yield reader


def _search(
    service: Service, asked: Search, filter: Mapping[str, Scalar], vector: Sequence[float] | None = None
) -> Response:
    check_limits(service.config, asked.query, asked.k)
    if vector is not None and asked.mode == "lexical":
        raise InputError("a vector is of no use in lexical mode", hint="mode dense, or no vector")
    with reading(service.readers) as reader:
        result = reader.search(
            asked.query,
            k=asked.k or min(service.config.search.k, service.config.serve.most_k),
            mode=asked.mode,
            at=asked.at,
            filter=filter,
            mmr=asked.mmr,
            expand=asked.expand,
            rerank=asked.rerank,
            vector=None if vector is None else _unit(vector),
        )
    if result.abstained:
        service.measures.abstentions.labels(service.index).inc()
    return as_json(result.to_json())


def check_limits(config: Config, query: str, k: int | None) -> None:
    """Raise `InputError` for more than the section `serve` allows."""
    if len(query) > config.serve.most_characters:
        raise InputError(
            f"the query has {len(query):,} characters, and {config.serve.most_characters:,} are allowed",
            hint="ask in fewer words",
        )
    if (k or 0) > config.serve.most_k:
        raise InputError(f"k is {k}, and {config.serve.most_k} is allowed", hint="ask for fewer hits")


def _unit(vector: Sequence[float]) -> list[float]:
    """The vector with length 1, which its direction survives where half precision would lose it."""
    largest = max(map(abs, vector))
    if not largest:
        raise InputError("the vector is zero", hint="send the query as the model of the version embeds it")
    scaled = [each / largest for each in vector]
    length = math.hypot(*scaled)
    return [each / length for each in scaled]


def as_json(value: object, status: int = HTTPStatus.OK) -> Response:
    content = json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(content.encode("utf-8"), status, media_type="application/json")


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _answers(shape: Any) -> Answers:
    return {200: {"model": shape, "description": "The answer."}}


def problems(*statuses: int) -> Answers:
    said = {each: HTTPStatus(each).phrase for each in statuses}
    return {each: {"model": Problem, "description": phrase} for each, phrase in said.items()}
