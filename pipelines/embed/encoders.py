"""From texts to vectors: one encoder for each kind of model, all with the same two functions.

Nothing heavy is imported before an encoder is loaded, and an encoder is loaded only when there is a text to encode.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipelines.config import EmbedConfig
from pipelines.embed.hashing import HashedWords
from pipelines.errors import InputError, IntegrityError
from pipelines.models import EmbeddingModel, load_tokenizer
from pipelines.models.endpoint import Endpoint, open_endpoint
from pipelines.models.threads import let_idle_threads_sleep
from pipelines.models.tokens import open_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipelines.embed.bert import Bert


class Encoder(Protocol):
    """Encoders add the prefixes of their model, truncate nothing, and raise `InputError` for a text too long."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, d], one row per passage, in their order."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, d], one row per query, in their order."""


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that also tells what each token of a text means, but for those that stand for no part of it."""

    def tokens(self, texts: Sequence[str], *, queries: bool = False) -> list[NDArray[np.float32]]:
        """Per text [tokens, d], each of length 1. A text that is too long for the model is read from its beginning."""


def load_encoder(model: EmbeddingModel, config: EmbedConfig, *, patient: bool = True) -> Encoder:
    """The encoder of this model, ready to use. `patient`: whether a server that is away is asked for minutes."""
    if model.kind == "hash":
        return WordsEncoder(model)
    if model.kind == "endpoint":
        return EndpointEncoder(model, open_endpoint(config, model.name.partition(":")[2], patient=patient))
    assert model.directory is not None
    let_idle_threads_sleep()
    import torch

    if config.threads:
        torch.set_num_threads(config.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    from pipelines.embed.bert import Bert, is_plain_bert

    if is_plain_bert(model.directory, prefixed=bool(model.query_prefix or model.passage_prefix)):
        return BertEncoder(model, Bert(model.directory, device), open_tokenizer(model.directory), config.batch_tokens)
    return LibraryEncoder(model, config.batch_tokens, device)


def checked(vectors: NDArray[np.float32], count: int, dimension: int) -> NDArray[np.float32]:
    """`vectors` as they are, or `IntegrityError` if they are not `count` finite vectors that point somewhere."""
    if vectors.shape != (count, dimension):
        raise _wrong(f"an array of shape {vectors.shape} instead of {(count, dimension)}")
    if not np.all(np.isfinite(vectors)):
        raise _wrong("a vector that is not finite")
    if not np.all(np.any(vectors != 0, axis=1)):
        raise _wrong("a vector of zeros")
    return vectors


def _wrong(what: str) -> IntegrityError:
    return IntegrityError(f"the encoder returned {what}; nothing of it was stored", hint="check embed.model")


class WordsEncoder:
    """`hash:DIM`, through `pipelines.embed.hashing`."""

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model
        self._words = HashedWords(model.dimension)
        self._counter = load_tokenizer(replace(model, passage_prefix=""))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoded([self._model.passage_prefix + text for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoded([self._model.query_prefix + text for text in texts])

    def _encoded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        long = [text for text in texts if len(text) > self._model.max_tokens]  # a token has at least one character
        refuse_long(self._counter.count(long), self._model)
        return self._words.vectors(texts)


class BertEncoder:
    """BERT models from a directory, through `pipelines.embed.bert`."""

    def __init__(self, model: EmbeddingModel, bert: "Bert", tokenizer: "Tokenizer", batch_tokens: int) -> None:
        self._model = model
        self._bert = bert
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoded([self._model.passage_prefix + text for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoded([self._model.query_prefix + text for text in texts])

    def tokens(self, texts: Sequence[str], *, queries: bool = False) -> list[NDArray[np.float32]]:
        prefix = self._model.query_prefix if queries else self._model.passage_prefix
        read = [encoded.ids for encoded in self._tokenizer.encode_batch_fast([prefix + text for text in texts])]
        ids = [[*each[:-1][: self._model.max_tokens - 1], each[-1]] for each in read]
        batches = _batches([len(each) for each in ids], self._batch_tokens)
        return [states.cpu().numpy() for batch in batches for states in self._bert.tokens(ids[batch])]

    def _encoded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        ids = [encoded.ids for encoded in self._tokenizer.encode_batch_fast(texts)]
        sizes = [len(each) for each in ids]
        refuse_long(sizes, self._model)
        parts = [self._bert.vectors(ids[batch]).cpu().numpy() for batch in _batches(sizes, self._batch_tokens)]
        return np.concatenate([np.zeros((0, self._model.dimension), np.float32), *parts])


class LibraryEncoder:
    """Every other model from a directory, through sentence-transformers."""

    def __init__(self, model: EmbeddingModel, batch_tokens: int, device: str) -> None:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call] # of loading weights, which takes a moment
        self._model = model
        self._batch_tokens = batch_tokens
        self._counter = load_tokenizer(model)
        self._library = SentenceTransformer(
            str(model.directory),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": "float32"},
        )
        self._library.eval()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoded(texts, self._model.passage_prefix)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoded(texts, self._model.query_prefix)

    def _encoded(self, texts: Sequence[str], prefix: str) -> NDArray[np.float32]:
        sizes = self._counter.count(texts)
        refuse_long(sizes, self._model)
        order = sorted(range(len(texts)), key=sizes.__getitem__)  # like lengths together: little padding
        vectors = np.zeros((len(texts), self._model.dimension), np.float32)
        for batch in _batches([sizes[place] for place in order], self._batch_tokens):
            places = order[batch]
            found = self._batch([texts[place] for place in places], prefix)
            vectors[places] = checked(found, len(places), self._model.dimension)
        return vectors

    def tokens(self, texts: Sequence[str], *, queries: bool = False) -> list[NDArray[np.float32]]:
        prefix = self._model.query_prefix if queries else self._model.passage_prefix
        read = [prefix + text for text in texts]
        found = self._library.encode(read, output_value="token_embeddings", show_progress_bar=False)
        words = self._library.tokenizer(
            read, truncation=True, max_length=self._library.max_seq_length, return_special_tokens_mask=True
        )
        return [
            _unit_rows(np.asarray(states.float().cpu(), np.float32)[np.asarray(special) == 0])
            for states, special in zip(found, words["special_tokens_mask"], strict=True)
        ]

    def _batch(self, texts: Sequence[str], prefix: str) -> NDArray[np.float32]:
        return np.asarray(
            self._library.encode(
                list(texts), prompt=prefix or None, batch_size=max(1, len(texts)), show_progress_bar=False
            ),
            dtype=np.float32,
        )


class EndpointEncoder:
    """A model behind an OpenAI-compatible API."""

    def __init__(self, model: EmbeddingModel, endpoint: Endpoint) -> None:
        self._model = model
        self._endpoint = endpoint

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoded([self._model.passage_prefix + text for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoded([self._model.query_prefix + text for text in texts])

    def _encoded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._endpoint.embed(texts) if texts else np.zeros((0, self._model.dimension), np.float32)


def _unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def refuse_long(sizes: Sequence[int], model: EmbeddingModel) -> None:
    """Raise `InputError` if a text has more tokens than the window: the rest of it would be lost unseen."""
    longest = max(sizes, default=0)
    if longest > model.max_tokens:
        raise InputError(
            f"a text has {longest:,} tokens, and {model.name} reads {model.max_tokens:,}",
            hint="for documents: lower chunk.max_tokens; for a query: ask in fewer words",
            tokens=longest,
            max_tokens=model.max_tokens,
        )


def _batches(sizes: Sequence[int], batch_tokens: int) -> Iterator[slice]:
    """Consecutive slices of at most `batch_tokens` tokens, or of one text."""
    start, tokens = 0, 0
    for place, size in enumerate(sizes):
        if place > start and tokens + size > batch_tokens:
            yield slice(start, place)
            start, tokens = place, 0
        tokens += size
    if start < len(sizes):
        yield slice(start, len(sizes))
