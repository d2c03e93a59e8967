"""compact: many small segments become few, large ones are left alone, and nothing is lost."""

import hashlib
import random
from pathlib import Path

import pytest

from pipelines import compact as module
from pipelines.compact import MANY_SEGMENTS, compact
from pipelines.files import Store


def rows(start: int, count: int, size_bytes: int = 100) -> list[tuple[bytes, bytes]]:
    numbers = [str(n).encode() for n in range(start, start + count)]
    return [(hashlib.sha256(n).digest(), random.Random(n).randbytes(size_bytes)) for n in numbers]


def write(store: Store, entries: list[tuple[bytes, bytes]]) -> None:
    with store.writer() as writer:
        for key, value in entries:
            writer.add(key, value)


def test_many_small_ones_become_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    everything: dict[bytes, bytes] = {}
    for n in range(MANY_SEGMENTS + 1):
        entries = rows(10 * n, 12)  # two of them stand in the next segment as well
        write(store, entries)
        everything |= dict(entries)
    assert compact(store) == MANY_SEGMENTS
    assert len(store.segments()) == 1 and not store.damaged()
    assert dict(store.read(everything)) == everything
    assert sorted(store.keys()) == sorted(everything), "each once"
    assert compact(store) == 0


def test_a_few_stay_as_they_are(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for n in range(MANY_SEGMENTS):
        write(store, rows(n, 1))
    before = store.segments()
    assert compact(store) == 0 and store.segments() == before


def test_full_ones_are_never_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they compress well and are small on the disk."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 50_000)
    monkeypatch.setattr("pipelines.files.SEGMENT_BYTES", 50_000)
    store = Store(tmp_path)
    write(store, [(hashlib.sha256(b"zeros %d" % n).digest(), bytes(10_000)) for n in range(5)])
    (full,) = store.segments()
    assert full.stat().st_size < 5_000
    for n in range(MANY_SEGMENTS + 1):
        write(store, rows(n, 1, 2_000))
    assert compact(store) > 0
    assert full in store.segments()
    left = [path for path in store.segments() if path != full]
    assert len(left) <= 4
