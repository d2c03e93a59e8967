"""The process: a socket, an event loop, and an end in order."""

import os
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from pipelines.config import Config
from pipelines.errors import ConfigError, SnapdexError
from pipelines.files import Workspace
from pipelines.index.db import Connection, connect, connect_to_read, database_url
from pipelines.index.migrate import migrate
from pipelines.serve.access import check_host, tokens_from_environment
from pipelines.serve.app import application

DATABASE = "SNAPDEX_SERVE_DATABASE_URL"
BACKLOG = 1024  # connections that the kernel keeps until they are taken
IDLE_SECONDS = 30  # after which a connection that nobody uses is closed


def serve(config: Config, workspace: Workspace, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Answer until SIGTERM or SIGINT; then finish what is in progress, and return.

    `ready` gets the URL once requests are answered. Raises `ConfigError` for an address that it may not or cannot use.
    """
    tokens = tokens_from_environment()
    check_host(host, tokens)
    with listening(host, port) as listener:
        connecting = connection_of_readers(workspace, config.serve.timeout_seconds)
        app = application(config, workspace, tokens, connecting)
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}"
        Server(app, lambda: ready(url), config.serve.grace_seconds).run(sockets=[listener])


def listening(host: str, port: int) -> socket.socket:
    """A socket at this address. Raises `ConfigError` where that cannot be had.

    It names its protocol: only then asyncio sends what is written at once. Otherwise the body of an answer waits until
    its head is acknowledged (measured: 44 instead of 2 ms).
    """
    listener = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        if listener:
            listener.close()
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}", hint="--port 0 takes a free port"
        ) from error


def connection_of_readers(workspace: Workspace, timeout_seconds: float) -> Callable[[], Connection]:
    """Makes connections that may only read: to `SNAPDEX_SERVE_DATABASE_URL`, or to the database of the workspace.

    That one is brought to the present schema first, as every command does, if it answers.
    """
    given = os.environ.get(DATABASE)
    if given:
        return partial(connect_to_read, given, timeout_seconds=timeout_seconds)
    url = database_url(workspace)
    try:
        with connect(url) as connection:
            migrate(connection)
    except SnapdexError as error:
        if not error.retryable:
            raise
    return partial(connect_to_read, url, timeout_seconds=timeout_seconds)


class Server(uvicorn.Server):
    """Says when it is ready; and a signal ends it without ending the program that it is part of."""

    def __init__(self, app: ASGIApp, ready: Callable[[], None], grace_seconds: int) -> None:
        settings = uvicorn.Config(
            app,
            http="h11",  # bounds the size of a URL and of headers
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=grace_seconds,
        )
        super().__init__(settings)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # or they would be raised again after the end
