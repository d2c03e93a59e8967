"""Counting tokens exactly as the encoder will, without loading the encoder."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.models.embedding_model import EmbeddingModel

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PIECE = 2**18  # code points tokenized at a time: 100 MB in one line must not need gigabytes
_SPACE = re.compile(r"\s")

WORDS = re.compile(r"\w+|[^\w\s]")  # tokens of `hash:DIM`

# An upper estimate for models whose tokenizer is elsewhere. Byte-pair encodings of 100,000 and more tokens take about
# four Latin characters a token, and one to two tokens for a character of other scripts; this takes at most three and
# at least one.
ESTIMATE = re.compile(r"[A-Za-z0-9_]{1,3}|[^\sA-Za-z0-9_]")


class TokenCounter(Protocol):
    @property
    def special_tokens(self) -> int:
        """Tokens that every embedded text has beyond its own: special ones and those of the passage prefix."""

    @property
    def additive(self) -> bool:
        """Whether a text has the tokens of its parts, cut anywhere between tokens: then counting once is enough."""

    def spans(self, text: str) -> NDArray[np.int32]:
        """[n] ascending: where in `text` each token starts, in code points; no special tokens, nothing truncated.

        The tokens of `text[a:b]`, for `a` and `b` between words, are those with `a <= start < b`: two bisections.
        """

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as a passage is embedded: with prefix and special tokens, nothing truncated."""


@functools.lru_cache(maxsize=4)
def load_tokenizer(model: EmbeddingModel) -> TokenCounter:
    """The counter for this model; needs the file `tokenizer.json` at most, never the weights."""
    if model.kind == "hash":
        return _PatternCounter(WORDS, model.passage_prefix)
    if model.directory is None:
        return _PatternCounter(ESTIMATE, model.passage_prefix)
    return _FileCounter(open_tokenizer(model.directory), model.passage_prefix)


def open_tokenizer(directory: Path) -> "Tokenizer":
    """The model's own tokenizer, without the truncation and padding that many files have switched on."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class _FileCounter:
    additive = False

    def __init__(self, tokenizer: "Tokenizer", prefix: str) -> None:
        self._tokenizer = tokenizer
        self._prefix = prefix
        own = len(tokenizer.encode(prefix, add_special_tokens=False).ids) if prefix else 0
        self.special_tokens: int = tokenizer.num_special_tokens_to_add(False) + own

    def spans(self, text: str) -> NDArray[np.int32]:
        found = [np.zeros(0, np.int32)]
        start = 0
        while start < len(text):
            end = _seam(text, start + PIECE)
            encoded = self._tokenizer.encode(text[start:end], add_special_tokens=False)
            found.append(np.fromiter((first for first, _ in encoded.offsets), np.int32, len(encoded.ids)) + start)
            start = end
        # A character that becomes several tokens can make a later one start earlier; bisection needs them in order.
        return np.maximum.accumulate(np.concatenate(found), dtype=np.int32)

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(encoded.ids) for encoded in self._tokenizer.encode_batch_fast([self._prefix + t for t in texts])]


class _PatternCounter:
    additive = True

    def __init__(self, pattern: re.Pattern[str], prefix: str) -> None:
        self._pattern = pattern
        self.special_tokens = len(pattern.findall(prefix))

    def spans(self, text: str) -> NDArray[np.int32]:
        if self._pattern is WORDS and text.isascii():
            return _ascii_word_starts(text)
        return np.array([match.start() for match in self._pattern.finditer(text)], np.int32)

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(self._pattern.findall(text)) + self.special_tokens for text in texts]


_WORD_CHARACTER = np.array([chr(code).isalnum() or chr(code) == "_" for code in range(128)])
_SPACE_CHARACTER = np.array([chr(code).isspace() for code in range(128)])


def _ascii_word_starts(text: str) -> NDArray[np.int32]:
    """What WORDS finds in ASCII text, on arrays: five times as fast."""
    codes = np.frombuffer(text.encode("ascii"), np.uint8)
    words = _WORD_CHARACTER[codes]
    continued = np.concatenate([[False], words[1:] & words[:-1]]) if len(codes) else words
    return np.flatnonzero(~continued & ~_SPACE_CHARACTER[codes]).astype(np.int32)


def _seam(text: str, end: int) -> int:
    """The first place from `end` on where no tokenizer joins what is left and right: before white space."""
    if end >= len(text):
        return len(text)
    match = _SPACE.search(text, end, end + PIECE)
    return match.start() if match else min(len(text), end + PIECE)
