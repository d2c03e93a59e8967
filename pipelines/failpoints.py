"""Named places where a test may end the process, as a power failure would.

`SNAPDEX_FAILPOINT=name` ends it where `name` is reached first, `name:3` where it is reached for the third time.
Whoever changes lasting state passes one before and after each step that matters; `tests/faults` kills at each.
"""

import os

EXIT_CODE = 86  # of a process that a fail point ended: none that Snapdex uses

_reached: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Nothing, or the end of this process: no `finally`, no flush, no goodbye to the database."""
    wanted = os.environ.get("SNAPDEX_FAILPOINT")
    if not wanted:
        return
    place, _, count = wanted.partition(":")
    if place != name:
        return
    _reached[name] = _reached.get(name, 0) + 1
    if _reached[name] >= int(count or 1):
        os._exit(EXIT_CODE)
