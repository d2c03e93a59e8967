"""Ports on the loopback interface that nobody else has, nor takes before the server that is to listen there does."""

import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

HOST = "127.0.0.1"


@dataclass
class Ports:
    """`numbers` is read and changed in place: it is what the workspace remembers.

    A server binds its port seconds after it is started. Until then a UDP socket with the same number tells other
    supervisors, of other workspaces and other users, that the port is spoken for; it goes with this process.
    """

    numbers: dict[str, int]
    _spoken_for: dict[str, socket.socket] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._spoken_for:
            self._spoken_for.popitem()[1].close()

    def settle(self, name: str, preferred: int) -> int:
        """The port of `name`: the one it had, else the preferred one, else any that is free."""
        for port in (self.numbers.get(name, preferred), preferred, *([0] * 20)):
            if (taken := self._take(name, port)) is not None:
                self.numbers[name] = taken
                return taken
        raise OSError(f"no free port on {HOST}")

    def _take(self, name: str, port: int) -> int | None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: old connections do not count
            with suppress(OSError):
                probe.bind((HOST, port))
                probe.listen()
                port = probe.getsockname()[1]
                if name in self._spoken_for and self._spoken_for[name].getsockname()[1] == port:
                    return port
                sign = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                try:
                    sign.bind((HOST, port))
                except OSError:
                    sign.close()
                    return None
                if name in self._spoken_for:
                    self._spoken_for.pop(name).close()
                self._spoken_for[name] = sign
                return port
        return None
