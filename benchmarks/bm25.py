"""BM25 from its formula, as the truth that lexical search is compared with: no index, no pruning, float64.

Robertson and Zaragoza 2009, with idf ln(1 + (N - n + 0.5) / (n + 0.5)). Words are what stands between spaces, so this
is for generated texts whose words Postgres neither stems nor leaves out.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

K1, B = 1.2, 0.75


@dataclass(frozen=True)
class Postings:
    """For each word the texts that hold it, and its saturated, length-normalised weight in each."""

    of_word: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]
    texts: int

    @classmethod
    def of(cls, texts: Sequence[str], average_words: float) -> "Postings":
        found: dict[str, tuple[list[int], list[float]]] = {}
        for number, text in enumerate(texts):
            words = text.split()
            norm = K1 * (1 - B + B * len(words) / average_words)
            for word, count in Counter(words).items():
                numbers, weights = found.setdefault(word, ([], []))
                numbers.append(number)
                weights.append(count * (K1 + 1) / (count + norm))
        return cls({word: (np.array(n), np.array(w)) for word, (n, w) in found.items()}, len(texts))

    def scores(self, query: str, live: NDArray[np.bool_]) -> NDArray[np.float64]:
        """[texts] the score of every text, 0 for those that are not live; only live ones count in frequencies."""
        scores = np.zeros(self.texts)
        for word, times in Counter(query.split()).items():
            numbers, weights = self.of_word.get(word, (np.zeros(0, np.int64), np.zeros(0)))
            frequency = int(live[numbers].sum())
            idf = np.log1p((int(live.sum()) - frequency + 0.5) / (frequency + 0.5))
            scores[numbers] += times * idf * weights
        return np.where(live, scores, 0.0)


def agrees(found: Sequence[tuple[int, float]], scores: NDArray[np.float64], k: int, *, tolerance: float = 1e-5) -> bool:
    """Whether `found` (text, score) are the k best in order, up to texts whose scores are the same when rounded."""
    count = min(k, int((scores > 0).sum()))
    best = np.sort(scores)[::-1][:count]
    true = np.array([scores[number] for number, _ in found])
    said = np.array([score for _, score in found])
    if len(found) != count or len({number for number, _ in found}) != count:
        return False
    return bool(np.allclose(true, best, rtol=tolerance) and np.allclose(said, best, rtol=tolerance))
