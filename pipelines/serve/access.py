"""Who may ask, and how often: decisions only, no HTTP."""

import hmac
import ipaddress
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from pipelines.errors import ConfigError

VARIABLE = "SNAPDEX_SERVE_TOKEN"
REMEMBERED = 10_000  # token buckets; who asked longest ago is forgotten first


def tokens_from_environment() -> list[str]:
    """Those in `SNAPDEX_SERVE_TOKEN`, which commas separate. Raises `ConfigError` for one that no header can carry."""
    tokens = [token.strip() for token in os.environ.get(VARIABLE, "").split(",") if token.strip()]
    if not all(token.isascii() and token.isprintable() and " " not in token for token in tokens):
        raise ConfigError(f"{VARIABLE} holds a token with spaces or signs beyond ASCII", hint="openssl rand -hex 24")
    return tokens


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_host(host: str, tokens: Sequence[str]) -> None:
    """Raises `ConfigError` where others would reach a service that asks for no token."""
    if not tokens and not is_loopback(host):
        raise ConfigError(
            f"without a token the service listens on loopback only, not on {host}",
            hint=f"set {VARIABLE}, for example to the output of: openssl rand -hex 24",
        )


@dataclass(frozen=True)
class Access:
    """The tokens that open the service; without any, whoever is on this machine may ask."""

    digests: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, tokens: Sequence[str]) -> "Access":
        return cls(tuple(sha256(token.encode("ascii")).digest() for token in tokens))

    @property
    def is_open(self) -> bool:
        return not self.digests

    def holder(self, authorization: bytes) -> str | None:
        """Who shows this header: `token 1` for the first token. How long it takes does not depend on what is shown."""
        scheme, _, shown = authorization.partition(b" ")
        digest = sha256(shown.strip()).digest()
        matches = [hmac.compare_digest(digest, known) for known in self.digests]
        if scheme.lower() != b"bearer" or True not in matches:
            return None
        return f"token {matches.index(True) + 1}"


class Buckets:
    """Token buckets: everybody may ask `per_minute` times at once, and gets that many back in a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # who: requests left, and when that was

    def wait_seconds(self, who: str) -> float:
        """0 where `who` may ask now, and has then asked; else how long until then."""
        if not self._per_minute:
            return 0.0
        now = self._clock()
        left, since = self._left.pop(who, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - since) * self._per_minute / 60)
        wait = 0.0 if left >= 1 else (1 - left) * 60 / self._per_minute
        self._left[who] = (left - 1 if not wait else left, now)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        return wait
