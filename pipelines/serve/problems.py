"""Errors as answers: `{"error", "hint"}` with a status, and never a traceback."""

import json
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from pipelines.doors import HTTP, hint_at, wrong_request
from pipelines.errors import (
    ConfigError,
    ConflictError,
    InputError,
    NotFoundError,
    ServiceUnavailable,
    SnapdexError,
)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2  # after which it is worth asking again where a service is away
STATUS = {  # the first that fits; any other error of ours is one of the service itself
    ConfigError: HTTPStatus.BAD_REQUEST,
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    ServiceUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Problem(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="What is wrong, in one line.", examples=["index handbook has no version v9"])
    hint: str = Field(description="What to do about it.", examples=[HTTP.versions])


def problem(status: int, error: str, hint: str, headers: dict[str, str] | None = None) -> Response:
    """The answer; in ASCII, because an error may quote what no encoding holds."""
    content = json.dumps({"error": error, "hint": hint}).encode("ascii")
    return Response(content, status, headers, MEDIA_TYPE)


def problem_of(error: SnapdexError) -> Response:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), HTTPStatus.SERVICE_UNAVAILABLE)
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return problem(status, str(error), hint_at(HTTP, error), headers)


def answer_with_problems(app: FastAPI) -> None:
    """Let every error of this application be answered so."""

    @app.exception_handler(SnapdexError)
    async def deliberate(request: Request, error: SnapdexError) -> Response:
        return problem_of(error)

    @app.exception_handler(RequestValidationError)
    async def not_understood(request: Request, error: RequestValidationError) -> Response:
        inside = [{**each, "loc": each["loc"][1:]} for each in error.errors()]  # of the body, or of the query
        wrong, hint = wrong_request(HTTP, inside, "the body")
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, wrong, hint)

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        return problem(
            error.status_code, str(error.detail), "GET /openapi.json says what there is", dict(error.headers or {})
        )

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "a bug in the service", "its log has the traceback")
