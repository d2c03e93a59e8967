"""What examples must not share with the file that measures what was learned."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipelines.evaluate.check import Finding
from pipelines.examples.rows import Example, read_examples
from pipelines.examples.said import Said, said
from pipelines.pairs.text import NEAR_WORDS, Near, grams, words_of

TEMPLATE_WORDS = 12  # as many words that agree are no way of speaking, but written once and copied
TEMPLATE_SHARE = 0.1  # of the evaluation's prompts in which such words stand
FEWEST_ALIKE = 2


class Evaluation:
    """The prompts and the groups of an evaluation file: their hashes, and those of the words of the user.

    Equal are prompts with all of their context, since a short question can be asked about many texts. Near are the
    words of the user, without those that many prompts share: instructions around what is asked.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._prompts: dict[int, int] = {}  # hash: its first line
        self._groups: dict[str, int] = {}
        users = []
        for example in read_examples(path):
            spoken = said(example)
            if self._prompts.setdefault(hash(spoken.prompt), example.line) == example.line:
                users.append((example.line, words_of(" ".join(spoken.user))))
            if example.group:
                self._groups.setdefault(example.group, example.line)
        shared = Counter(gram for _, words in users for gram in set(grams(words, TEMPLATE_WORDS).tolist()))
        most = max(FEWEST_ALIKE, TEMPLATE_SHARE * len(users))
        template = [gram for gram, count in shared.items() if count >= most]
        self._template = np.sort(np.array(template, np.uint64))
        self._asked = Near(
            (line, " ".join(text)) for line, words in users if len(text := self._own(words)) >= NEAR_WORDS
        )

    def leaks(self, example: Example, spoken: Said) -> Iterator[Finding]:
        if (line := self._prompts.get(hash(spoken.prompt))) is not None:
            yield Finding("error", example.line, "leakage", f"the prompt stands in line {line} of {self._name}")
        elif (found := self._near(spoken)) is not None:
            same = "stands in" if found[1] == 1 else f"is near ({found[1]:.2f}) to"
            detail = f"what the user says {same} line {found[0]} of {self._name}"
            yield Finding("error", example.line, "leakage", detail)
        if line := self._groups.get(example.group):
            detail = f"line {line} of {self._name} is of the group {example.group}, too"
            yield Finding("error", example.line, "group", detail)

    def _near(self, spoken: Said) -> tuple[int, float] | None:
        words = self._own(words_of(" ".join(spoken.user)))
        return self._asked.find(" ".join(words)) if len(words) >= NEAR_WORDS else None

    def _own(self, words: Sequence[str]) -> Sequence[str]:
        """The words that are not of the template."""
        if len(words) < NEAR_WORDS or not len(self._template):
            return words
        found = grams(words, TEMPLATE_WORDS)
        places = np.minimum(np.searchsorted(self._template, found), len(self._template) - 1)
        starts = self._template[places] == found
        covered = np.zeros(len(words), np.bool_)
        for offset in range(TEMPLATE_WORDS):
            covered[offset : offset + len(starts)] |= starts
        return [word for word, hidden in zip(words, covered, strict=True) if not hidden]
