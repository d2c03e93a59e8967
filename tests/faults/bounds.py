"""How long and from which seed: bounded and the same each time in `make test`, unbounded and random in `make soak`."""

import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

T = TypeVar("T")

SOAK_MINUTES = float(os.environ.get("SNAPDEX_SOAK_MINUTES", "0"))
SOAK = SOAK_MINUTES > 0
_SEED = os.environ.get("SNAPDEX_SEED")


def seed(fixed: int) -> int:
    """`SNAPDEX_SEED` where it is set, a new one in a soak, `fixed` otherwise."""
    if _SEED:
        return int(_SEED)
    return random.SystemRandom().randrange(2**31) if SOAK else fixed


def rounds(bounded: int, *, seconds: float, soak_share: float) -> Iterator[int]:
    """0, 1, ...: `bounded` of them within `seconds`; in a soak, as many as fit into its share of the minutes."""
    ends = time.monotonic() + (soak_share * SOAK_MINUTES * 60 if SOAK else seconds)
    number = 0
    while time.monotonic() < ends and (SOAK or number < bounded):
        yield number
        number += 1


def some(items: Sequence[T], bounded: Sequence[T], *, soak_share: float) -> Iterator[T]:
    """`bounded`; in a soak, all of the items in random order, as far as their share of the minutes goes."""
    ends = time.monotonic() + soak_share * SOAK_MINUTES * 60
    for item in random.sample(items, len(items)) if SOAK else bounded:
        if SOAK and time.monotonic() > ends:
            return
        yield item


class Few:
    """Context managers that are open: the first two, and the last ones. A soak makes thousands of databases."""

    def __init__(self) -> None:
        self._open: list[AbstractContextManager[str]] = []

    def enter(self, manager: AbstractContextManager[str]) -> str:
        while len(self._open) > 8:
            self._open.pop(2).__exit__(None, None, None)
        self._open.append(manager)
        return manager.__enter__()

    def close(self) -> None:
        while self._open:
            self._open.pop().__exit__(None, None, None)


def say(line: str) -> None:
    """A line for the reader of a soak's output (pytest -s); in `make test` it is seen where the test fails."""
    print(f"\n{line}", flush=True)  # noqa: T201
