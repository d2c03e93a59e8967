"""The application, put together: endpoints, page, errors, and the guard in front."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from anyio import create_task_group, to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp

from pipelines import logs
from pipelines.ask import Answerer
from pipelines.config import Config
from pipelines.errors import SnapdexError
from pipelines.files import Workspace
from pipelines.index.db import Connection
from pipelines.index.reader import encoder_of_versions
from pipelines.readers import Readers
from pipelines.serve import ask, page
from pipelines.serve.access import Access
from pipelines.serve.guard import Guard
from pipelines.serve.measures import Measures
from pipelines.serve.problems import answer_with_problems
from pipelines.serve.pulse import Pulse
from pipelines.serve.routes import Service, router_of, token_of

LOOK_SECONDS = 5.0  # that a look at the database waits for its own connection
ABOUT = """
Search in the index **{index}**, answers from it, and what there is to say about its versions.

A request without `at` sees the version that is active when it comes; all of its hits are of that version. Errors are
`{{"error", "hint"}}`. Limits here: a query of {characters:,} characters, {k:,} hits, {kib:,} KiB, {rate}.
"""


def application(
    config: Config, workspace: Workspace, tokens: Sequence[str], connect: Callable[[], Connection]
) -> ASGIApp:
    """The service as ASGI. `connect`: connections that may only read; each request in progress has one of them."""
    encode = encoder_of_versions(config, workspace)
    readers = Readers(config, workspace, size=config.serve.connections, encode=encode, connect=connect)
    looking = Readers(config, workspace, size=1, wait_seconds=LOOK_SECONDS, connect=connect)
    service = Service(config, readers, Pulse(looking), Measures())
    answerer = Answerer(config, workspace, patient=False)

    def load_model() -> None:
        """So that the first query does not wait for it. What goes wrong here goes wrong there too, and is said."""
        version = service.pulse.look().version
        if version and config.search.mode != "lexical":
            try:
                encode("how long does the first query take?", version)
            except SnapdexError as error:
                logs.event("model.not_loaded", index=service.index, error=str(error), hint=error.hint)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = config.serve.connections
        with readers, looking, answerer:
            async with create_task_group() as tasks:
                tasks.start_soon(to_thread.run_sync, load_model)
                yield

    rate = f"{config.serve.requests_per_minute:,} requests a minute" if config.serve.requests_per_minute else "any rate"
    app = FastAPI(
        title="Snapdex",
        version="1",
        summary="Versioned retrieval indexes, for readers.",
        description=ABOUT.format(
            index=service.index,
            characters=config.serve.most_characters,
            k=config.serve.most_k,
            kib=config.serve.most_body_kib,
            rate=rate,
        ),
        docs_url=None,  # pages that load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        lifespan=running,
    )
    token = token_of(needs_token=bool(tokens))
    for router in (
        router_of(service, token),
        ask.router_of(service, answerer, token),
        page.router_of(service.index, needs_token=bool(tokens)),
    ):
        app.include_router(router)
    answer_with_problems(app)
    return Guard(app, config.serve, Access.of(tokens), service.measures, service.index)
