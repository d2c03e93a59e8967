"""How long and from which seed: bounded and the same each time in `make test`, unbounded and random in `make soak`."""

import os
import random
import time
from collections.abc import Iterator

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


def say(line: str) -> None:
    """A line for the reader of a soak's output (pytest -s); in `make test` it is seen where the test fails."""
    print(f"\n{line}", flush=True)  # noqa: T201
