"""Embedding servers with OpenAI's API: one request shape, bounded batches, patient with a busy server.

The key comes from OPENAI_API_KEY, goes into one header, and never into a log, an error or a repr.
"""

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from pipelines.config import EmbedConfig
from pipelines.errors import ConfigError, InputError, IntegrityError, ServiceUnavailable
from pipelines.models.tokens import ESTIMATE

if TYPE_CHECKING:
    import httpx

OPENAI = "https://api.openai.com/v1"
REQUEST_ITEMS = 256  # OpenAI takes 2,048, smaller servers less
REQUEST_TOKENS = 100_000  # estimated; OpenAI takes 300,000
ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
TIMEOUT_SECONDS = 60.0


def base_url(config: EmbedConfig) -> str:
    return (config.endpoint or os.environ.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")


def open_endpoint(config: EmbedConfig, model: str) -> "Endpoint":
    """The server of this configuration. Raises `ConfigError` for OpenAI itself without a key; no request is made."""
    url = base_url(config)
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise ConfigError("embed.endpoint is not a URL", hint="example: http://localhost:11434/v1")
    key = os.environ.get("OPENAI_API_KEY", "")
    if url == OPENAI and not key:
        raise ConfigError("OpenAI needs a key", hint="set OPENAI_API_KEY, or embed.endpoint for another server")
    return Endpoint(url, model, key, config.dimension, config.requests_per_minute)


@dataclass(frozen=True)
class _Secret:
    value: str = field(repr=False)


class Endpoint:
    """A client of one server and one model; `sleep`, `clock` and `chance` are for tests."""

    def __init__(
        self,
        url: str,
        model: str,
        key: str = "",
        dimension: int = 0,
        requests_per_minute: int = 0,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._url = url
        self._model = model
        self._key = _Secret(key)
        self._dimension = dimension
        self._interval_seconds = 60 / requests_per_minute if requests_per_minute else 0.0
        self._timeout_seconds = timeout_seconds
        self._sleep, self._clock, self._chance = sleep, clock, chance
        self._next_request = 0.0
        self._client: httpx.Client | None = None
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        self._shown = f"{parts.scheme}://{parts.hostname}{port}{parts.path}"  # without a password in the URL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, d] of unit length, in the order of `texts`.

        Raises `ServiceUnavailable` when the server does not get well in time, `ConfigError` when it does not know the
        key or the model, `InputError` when it refuses a text, `IntegrityError` when it answers something else.
        """
        parts = [self._request(batch) for batch in _batches(texts)]
        if len({part.shape[1] for part in parts}) > 1:
            raise self._wrong("vectors of different length")
        vectors = np.concatenate(parts)
        norms = np.sqrt(np.sum(vectors * vectors, axis=1, keepdims=True))
        if not np.all(np.isfinite(norms)) or not np.all(norms > 0):
            raise self._wrong("vectors that are zero or not finite")
        return np.asarray(vectors / norms, dtype=np.float32)

    def _request(self, texts: Sequence[str]) -> NDArray[np.float64]:
        body: dict[str, Any] = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        if self._dimension:
            body["dimensions"] = self._dimension
        return self._vectors(self._post(body), len(texts))

    def _post(self, body: dict[str, Any]) -> Any:
        """The decoded answer, after as many attempts as it takes and is sensible."""
        import httpx

        if self._client is None:
            headers = {"Authorization": f"Bearer {self._key.value}"} if self._key.value else {}
            self._client = httpx.Client(headers=headers, timeout=self._timeout_seconds)
        reason, pause = "", 0.0
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(pause)
            self._wait_for_turn()
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt) * (0.5 + self._chance())
            try:
                response = self._client.post(f"{self._url}/embeddings", json=body)
            except httpx.RequestError as error:
                reason = type(error).__name__
                continue
            if response.status_code == 200:
                try:
                    return response.json()
                except ValueError:
                    reason = "an answer that is not JSON"
                    continue
            reason = f"status {response.status_code}"
            if response.status_code not in {408, 409, 429} and response.status_code < 500:
                raise self._refused(response)
            asked = _retry_after_seconds(response.headers.get("Retry-After"))
            if asked is not None and asked > LONGEST_PAUSE_SECONDS:
                reason += f", and asks to wait {asked:.0f} s"
                break
            pause = max(pause, asked or 0.0)
        raise ServiceUnavailable(
            f"{self._shown} does not answer with embeddings: {reason}", hint="try again later; finished work is kept"
        )

    def _wait_for_turn(self) -> None:
        if not self._interval_seconds:
            return
        now = self._clock()
        if now < self._next_request:
            self._sleep(self._next_request - now)
        self._next_request = max(now, self._next_request) + self._interval_seconds

    def _refused(self, response: "httpx.Response") -> ConfigError | InputError:
        status = response.status_code
        if status in {401, 403}:
            return ConfigError(f"{self._shown} does not accept the key: status {status}", hint="check OPENAI_API_KEY")
        if status == 404 or status < 400:
            return ConfigError(
                f"{self._shown} has no embeddings of {self._model!r}: status {status}",
                hint="check embed.endpoint and embed.model",
            )
        said = " ".join(response.text[:300].split())
        if self._key.value:
            said = said.replace(self._key.value, "[key]")
        return InputError(
            f"{self._shown} refuses the request: status {status}: {said}",
            hint="check embed.dimension, and that chunk.max_tokens fits the model",
        )

    def _vectors(self, answer: Any, count: int) -> NDArray[np.float64]:
        rows = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or len(rows) != count:
            raise self._wrong(f"{len(rows) if isinstance(rows, list) else 'no'} vectors for {count} texts")
        try:
            placed = {int(row["index"]): row["embedding"] for row in rows}
            vectors = np.array([placed[place] for place in range(count)], dtype=np.float64)
        except (KeyError, TypeError, ValueError):
            raise self._wrong("vectors without a place, or of different length") from None
        if vectors.ndim != 2 or vectors.shape[1] == 0:
            raise self._wrong("something else than vectors")
        if self._dimension and vectors.shape[1] != self._dimension:
            raise self._wrong(f"vectors of {vectors.shape[1]} dimensions instead of {self._dimension}")
        if not np.all(np.isfinite(vectors)):
            raise self._wrong("numbers that are not finite")
        return vectors

    def _wrong(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"{self._shown} answered with {what}; nothing of it was stored", hint="check the server and embed.model"
        )


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start, tokens = 0, 0
    for place, text in enumerate(texts):
        size = len(ESTIMATE.findall(text))
        if place > start and (tokens + size > REQUEST_TOKENS or place - start == REQUEST_ITEMS):
            yield texts[start:place]
            start, tokens = place, 0
        tokens += size
    if start < len(texts):
        yield texts[start:]


def _retry_after_seconds(value: str | None) -> float | None:
    """Seconds from a `Retry-After` header, which holds seconds or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
