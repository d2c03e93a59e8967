"""A Postgres that nobody at Snapdex set up: version 16, on TCP, with a password. And a proxy that loses replies."""

import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.index.server import _as_server_user, _give_to_server_user, binaries

PROGRAMS = binaries(major=16)


@contextmanager
def tcp_server(directory: Path) -> Iterator[str]:
    """`postgresql://...` of a fresh server on loopback, as its superuser; the password is drawn anew each time."""
    directory.mkdir(parents=True)
    _give_to_server_user(directory)
    password = f"p%{secrets.token_hex(8)}"
    port = free_port()
    secret = directory / "secret"
    secret.write_text(password, "utf-8")
    _give_to_server_user(secret)
    data = directory / "data"
    _run(
        "initdb",
        "-D",
        data,
        "-U",
        "owner",
        "-E",
        "UTF8",
        "-A",
        "scram-sha-256",
        f"--pwfile={secret}",
        "--locale=C.UTF-8",
    )
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k '' -c fsync=off -c shared_buffers=64MB"
    _run("pg_ctl", "start", "-D", data, "-l", directory / "log", "-w", "-s", "-o", options)
    try:
        yield f"postgresql://owner:{password.replace('%', '%25')}@127.0.0.1:{port}/postgres"
    finally:
        _run("pg_ctl", "stop", "-D", data, "-m", "immediate", "-w", "-s")


def free_port() -> int:
    """A port of loopback on which nothing listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _run(program: str, *arguments: str | Path) -> None:
    binary = PROGRAMS / program
    command = [*_as_server_user(binary, *(a for a in arguments if isinstance(a, Path))), str(binary)]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # a pipe would stay open as long as the server lives
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
        check=False,
    )
    assert done.returncode == 0, f"{program} failed with {done.returncode}"


class Proxy:
    """Between a client and the server: `fault` decides what happens when the client sends something.

    - `cut_request`: the first message that holds `marker` is not passed on, and the connection is cut.
    - `cut_reply`: it is passed on, the server answers, and the connection is cut with the answer in hand.
    """

    def __init__(self, server_port: int, fault: str, marker: bytes) -> None:
        self.server_port, self.fault, self.marker = server_port, fault, marker
        self.cuts = 0
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "Proxy":
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._spawn(self._serve, client, socket.create_connection(("127.0.0.1", self.server_port)))

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        cut = threading.Event()
        answers = threading.Thread(target=self._answer, args=(server, client, cut))
        answers.start()
        with client, server, suppress(OSError):
            while data := client.recv(65536):
                if self.marker in data and not self.cuts:
                    self.cuts += 1
                    cut.set()
                    if self.fault == "cut_request":
                        server.shutdown(socket.SHUT_RDWR)
                        break
                server.sendall(data)
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            answers.join(10)

    def _answer(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if cut.is_set():
                    break
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
