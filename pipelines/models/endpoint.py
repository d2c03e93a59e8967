"""Embedding servers with OpenAI's API: one request shape, bounded batches."""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.config import EmbedConfig
from pipelines.models.service import Purpose, Service, base_url, key_for
from pipelines.models.tokens import ESTIMATE

REQUEST_ITEMS = 256  # OpenAI takes 2,048, smaller servers less
REQUEST_TOKENS = 100_000  # estimated; OpenAI takes 300,000
REFUSAL_HINT = "check embed.dimension, and that chunk.max_tokens fits the model"


def open_endpoint(config: EmbedConfig, model: str, *, patient: bool = True) -> "Endpoint":
    """The server of this configuration. Raises `ConfigError` for OpenAI itself without a key; no request is made."""
    url = base_url(config.endpoint)
    return Endpoint(url, model, key_for(url, "embed"), config.dimension, config.requests_per_minute, patient=patient)


class Endpoint:
    """A client of one server and one model; `more`: of `Service`."""

    def __init__(
        self, url: str, model: str, key: str = "", dimension: int = 0, requests_per_minute: int = 0, **more: Any
    ) -> None:
        purpose = Purpose("embed", "embeddings", model, REFUSAL_HINT)
        self._service = Service(url, purpose, key, requests_per_minute, **more)
        self._model = model
        self._dimension = dimension

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._service.close()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, d] of unit length, in the order of `texts`.

        Raises `ServiceUnavailable` when the server does not get well in time, `ConfigError` when it does not know the
        key or the model, `InputError` when it refuses a text, `IntegrityError` when it answers something else.
        """
        parts = [self._request(batch) for batch in _batches(texts)]
        if len({part.shape[1] for part in parts}) > 1:
            raise self._service.wrong("vectors of different length")
        vectors = np.concatenate(parts)
        norms = np.sqrt(np.sum(vectors * vectors, axis=1, keepdims=True))
        if not np.all(np.isfinite(norms)) or not np.all(norms > 0):
            raise self._service.wrong("vectors that are zero or not finite")
        return np.asarray(vectors / norms, dtype=np.float32)

    def _request(self, texts: Sequence[str]) -> NDArray[np.float64]:
        body: dict[str, Any] = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        if self._dimension:
            body["dimensions"] = self._dimension
        return self._vectors(self._service.post("/embeddings", body), len(texts))

    def _vectors(self, answer: Any, count: int) -> NDArray[np.float64]:
        rows = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or len(rows) != count:
            raise self._service.wrong(f"{len(rows) if isinstance(rows, list) else 'no'} vectors for {count} texts")
        try:
            placed = {int(row["index"]): row["embedding"] for row in rows}
            vectors = np.array([placed[place] for place in range(count)], dtype=np.float64)
        except (KeyError, TypeError, ValueError):
            raise self._service.wrong("vectors without a place, or of different length") from None
        if vectors.ndim != 2 or vectors.shape[1] == 0:
            raise self._service.wrong("something else than vectors")
        if self._dimension and vectors.shape[1] != self._dimension:
            raise self._service.wrong(f"vectors of {vectors.shape[1]} dimensions instead of {self._dimension}")
        if not np.all(np.isfinite(vectors)):
            raise self._service.wrong("numbers that are not finite")
        return vectors


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
