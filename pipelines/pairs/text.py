"""What can be told from one text: its words, whether it was damaged on its way, whether it is near another."""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

NEAR = 0.8  # Jaccard similarity of word 3-grams from which two texts are near-duplicates
NEAR_WORDS = 30  # below, one other word can be another meaning ("increases", "decreases"): equal texts only
MARKUP_SHARE = 0.05  # of the characters of a text in tags

_EDGE = ".,;:!?\"'()[]{}«»“”„¿¡。、「」\u2018\u2019\u2039\u203a"
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"  # Thai, Lao, Khmer, Japanese, Chinese
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")

# What UTF-8 looks like where it was read as Windows-1252: a first byte of two or three, then one of 80 to BF.
_SECOND = "\u0080-\u00bf" + bytes(range(0x80, 0xC0)).decode("cp1252", "ignore")
_MOJIBAKE = re.compile(rf"(?<![A-ZÀ-ÞĐ])[ÃÂ][{_SECOND}]|â€[{_SECOND}]?|(?:[ÐÑ][{_SECOND}]){{2}}|ï»¿")
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]")
_TAG = re.compile(
    r"</?(?:a|abbr|article|b|blockquote|body|br|button|cite|code|dd|div|dl|dt|em|figure|font|footer|form|h[1-6]|head"
    r"|header|hr|html|i|img|input|li|link|meta|nav|ol|p|pre|ref|script|section|small|span|strong|style|sub|sup|table"
    r"|tbody|td|th|thead|title|tr|u|ul)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, as a multiplier must be


def normalised(text: str) -> str:
    """Its words in lower case, without the punctuation around them: what differs in nothing else is the same text.

    Symbols stay (C++ is not C#, -5 is not 5), and so do the vowel signs of scripts that have them.
    """
    words = (word.strip(_EDGE) for word in unicodedata.normalize("NFKC", text).casefold().split())
    return " ".join(filter(None, words)) or text.strip()


def words_of(text: str) -> list[str]:
    """The words of a normalised text; a character each where the script puts no spaces between them."""
    return _WORD.findall(text)


def grams(words: Sequence[str], length: int) -> NDArray[np.uint64]:
    """[len(words) - length + 1]: the hash of the n-gram that begins at each word, for as long as this process lives."""
    count = max(len(words) - length + 1, 0)
    hashes = np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)
    found = np.zeros(count, np.uint64)
    for place in range(length):
        found = found * _MIX + hashes[place : place + count]
    return found ^ (found >> np.uint64(29))


def shingles(words: Sequence[str]) -> NDArray[np.uint64]:
    """[n] ascending: the distinct hashes of the word 3-grams."""
    return np.unique(grams(words, 3))


def damage(text: str) -> str:
    """What an encoding did to the text, or nothing."""
    if "\ufffd" in text:
        return "holds U+FFFD, where characters were lost"
    if found := _CONTROL.search(text):
        return f"holds the control character U+{ord(found[0]):04X}"
    if not text.isascii() and (found := _MOJIBAKE.search(text)):
        return f"holds {found[0]!r}, UTF-8 that was read in another encoding"
    return ""


def markup(text: str) -> str:
    """Which tags make a large part of the text, or nothing."""
    if "<" not in text:
        return ""
    tags = [found[0] for found in _TAG.finditer(text)]
    share = sum(map(len, tags)) / len(text)
    return f"is {share:.0%} markup, such as {tags[0][:40]}" if len(tags) > 1 and share >= MARKUP_SHARE else ""


class Near:
    """Texts to compare others with: equal ones, and near-duplicates by the Jaccard similarity of their word 3-grams.

    Resemblance by shingles is Broder's (On the resemblance and containment of documents, 1997); here it is exact, not
    estimated by MinHash, because two sets can reach a similarity t only if they meet among the first
    |A| - ceil(t |A|) + 1 of their members in one order (prefix filter: Bayardo, Ma and Srikant, Scaling up all pairs
    similarity search, 2007). In the order from rare to frequent that leaves few texts to compare.
    """

    def __init__(self, texts: Iterable[tuple[int, str]]) -> None:
        """`texts`: the line of each, and the text, normalised."""
        self._lines: dict[int, int] = {}  # hash of a text: its first line
        self._long: list[tuple[int, NDArray[np.uint64]]] = []
        for line, text in texts:
            if self._lines.setdefault(hash(text), line) == line and len(words := words_of(text)) >= NEAR_WORDS:
                self._long.append((line, shingles(words)))
        every = np.concatenate([np.zeros(0, np.uint64), *(found for _, found in self._long)])
        self._known, self._counts = np.unique(every, return_counts=True)
        self._holding: dict[int, list[int]] = {}  # shingle: places in _long
        for place, (_, found) in enumerate(self._long):
            for shingle in self._rarest(found):
                self._holding.setdefault(shingle, []).append(place)

    def find(self, text: str) -> tuple[int, float] | None:
        """The line and the similarity of the nearest of the texts, if it is near; `text`: normalised."""
        if (line := self._lines.get(hash(text))) is not None:
            return line, 1.0
        words = words_of(text) if self._long else []
        if len(words) < NEAR_WORDS:
            return None
        found = shingles(words)
        candidates = {place for shingle in self._rarest(found) for place in self._holding.get(shingle, ())}
        best = max(((_jaccard(found, self._long[each][1]), -each) for each in candidates), default=(0.0, 0))
        return (self._long[-best[1]][0], best[0]) if best[0] >= NEAR else None

    def _rarest(self, found: NDArray[np.uint64]) -> list[int]:
        """The first of the shingles that are looked up; those that no text has come before all others."""
        places = np.minimum(np.searchsorted(self._known, found), len(self._known) - 1)
        counts = np.where(self._known[places] == found, self._counts[places], 0)
        length = len(found) - math.ceil(NEAR * len(found) - 1e-9) + 1
        first: list[int] = found[np.argsort(counts, kind="stable")[:length]].tolist()
        return first


def _jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)
