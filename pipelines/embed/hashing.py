"""Vectors from hashed words: no model, no dependency, the same bits on every machine.

Not for readers: texts that share words are near, and that is all. It makes tests and rehearsals of large corpora cheap.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

# Words are of bytes, so that no Unicode table of some Python release has a say: of ASCII the digits and the letters, in
# lower case, and all that is not ASCII. Everything else becomes a space.
_LETTERS = bytes(code if bytes([code]).isalnum() or code >= 128 else ord(" ") for code in range(256)).lower()
_REMEMBERED_WORDS = 2**20
_BLOCK = 256  # texts at a time: their sums stay in the processor's cache


class HashedWords:
    """Each distinct word of a text adds +1 or -1 in two dimensions, the text as a whole in two more; unit length.

    All sums are of integers and the only rounding is IEEE division, so results do not depend on NumPy or its batches.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._codes = _Codes(dimension)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, d] in the order of `texts`."""
        blocks = [self._block(texts[start : start + _BLOCK]) for start in range(0, len(texts), _BLOCK)]
        return np.concatenate([np.zeros((0, self._dimension), np.float32), *blocks])

    def _block(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if len(self._codes) > _REMEMBERED_WORDS:
            self._codes.clear()
        codes: list[int] = []
        sizes = []
        wholes = [text.encode("utf-8") for text in texts]
        for whole in wholes:
            words = set(whole.translate(_LETTERS).split())
            codes.extend(map(self._codes.__getitem__, words))
            codes.append(_code(b"\0" + whole, self._dimension))
            sizes.append(len(words) + 1)
        sums = self._sums(np.array(codes, dtype=np.int64), np.array(sizes, dtype=np.int64))
        squares = np.sum(sums * sums, axis=1)
        for row in np.flatnonzero(squares == 0):  # everything cancelled out, which takes a very small dimension
            sums[row, _code(wholes[row], self._dimension) % self._dimension] = squares[row] = 1
        return np.asarray(sums / np.sqrt(squares)[:, None], dtype=np.float32)

    def _sums(self, codes: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        shape = (len(sizes), self._dimension)
        starts = np.repeat(np.arange(len(sizes)) * self._dimension, sizes)
        sums = np.zeros(shape[0] * shape[1])
        for part in (codes & 0xFFFFFFFF, codes >> 32):
            sums += np.bincount(starts + (part >> 1), weights=1 - 2 * (part & 1), minlength=len(sums))
        return sums.astype(np.int64).reshape(shape)


class _Codes(dict[bytes, int]):
    """The codes of words seen so far."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self._dimension = dimension

    def __missing__(self, word: bytes) -> int:
        self[word] = code = _code(word, self._dimension)
        return code


def _code(word: bytes, dimension: int) -> int:
    """Two halves of 32 bits: twice a dimension, plus one where the sign is minus."""
    raw = blake2b(word, digest_size=16).digest()
    halves: Iterable[int] = (int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little"))
    first, second = ((half >> 1) % dimension * 2 + (half & 1) for half in halves)
    return first | second << 32
