"""Which checkpoint training goes on from: the last one that was written to its end."""

import shutil
from pathlib import Path

from pipelines.files import atomic_write

WHOLE = "whole"  # a file that is written last


def mark_whole(checkpoint: Path) -> None:
    atomic_write(checkpoint / WHOLE, "")


def last_whole(place: Path) -> Path | None:
    """The one to go on from; those that were not written to their end are removed."""
    found = sorted(place.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    for path in found:
        if not (path / WHOLE).exists():
            shutil.rmtree(path)
    return next((path for path in reversed(found) if path.exists()), None)
