"""Where the topic of a section changes, told by embeddings of its sentences: `chunk.method: semantic`.

At each joint between sentences the ones before are compared with the ones after, as TextTiling does with words (Hearst
1997). The joints of a section with the largest drops of similarity, by percentile (Kamradt's rule, 2023), are stronger
than paragraphs, and the largest drop is taken first. Headings, lists, tables and code bind as before. Only the section
itself decides, so an edit elsewhere moves nothing here, and a section that fits into a chunk is not embedded at all.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipelines.chunk.split import BLOCK, SENTENCE, TOPIC, Fits, Piece
from pipelines.model import Element, ElementKind

VERSION = 1  # of these rules: a change of what they produce is a new recipe
WINDOW = 3  # sentences compared on each side of a joint
STEPS = 100  # drops are told apart by a hundredth, so that rounding on another machine hardly ever matters

Encode = Callable[[Sequence[str]], NDArray[np.float32]]  # texts to [n, d]


def mark_topics(
    text: str, elements: Sequence[Element], pieces: Sequence[Piece], fits: Fits, encode: Encode, percentile: int
) -> list[Piece]:
    """The pieces, with drops at the joints between sentences, and the largest ones of each section made topics."""
    marked = list(pieces)
    for low, high in _sections(elements, pieces):
        prose = [at for at in range(low, high) if elements[pieces[at].element].kind is ElementKind.PARAGRAPH]
        joints = [
            place
            for place in range(1, len(prose))
            if prose[place - 1] == prose[place] - 1 and pieces[prose[place]].joint in (BLOCK, SENTENCE)
        ]
        if not joints or fits(low, high):
            continue
        drops = _drops(encode([text[pieces[at].start : pieces[at].end].strip() for at in prose]), joints)
        least = sorted(drops)[max(0, -(-len(drops) * percentile // 100) - 1)]
        for place, drop in zip(joints, drops, strict=True):
            at = prose[place]
            joint = TOPIC if drop >= least and drop > 0 else pieces[at].joint
            marked[at] = replace(pieces[at], joint=joint, drop=drop)
    return marked


def _sections(elements: Sequence[Element], pieces: Sequence[Piece]) -> Iterator[tuple[int, int]]:
    """Ranges of pieces from one heading to the next."""
    headings = [at for at, piece in enumerate(pieces) if elements[piece.element].kind is ElementKind.TITLE]
    edges = sorted({0, *headings, len(pieces)})
    yield from itertools.pairwise(edges)


def _drops(vectors: NDArray[np.float32], joints: Sequence[int]) -> list[int]:
    """At each joint: 0 where the sentences around it point the same way, `STEPS` and more where they are unrelated."""
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return [_drop(units[max(0, at - WINDOW) : at].mean(0), units[at : at + WINDOW].mean(0)) for at in joints]


def _drop(before: NDArray[np.float32], after: NDArray[np.float32]) -> int:
    length = max(float(np.linalg.norm(before) * np.linalg.norm(after)), 1e-12)
    return round(STEPS * (1 - float(before @ after) / length))
