"""Compaction: many small segments become few large ones, so that a store of many versions is still quick to open."""

from pipelines.files import SEGMENT_BYTES, Store

SMALL_SEGMENTS = 64  # a store with more of them than this is compacted


def compact(store: Store) -> int:
    """Merge the segments under 32 MB where there are more than 64 of them; returns how many there were.

    Larger ones are never written again: they would be new objects for DVC, and nothing would be gained.
    """
    small = [path for path in store.segments() if path.stat().st_size < SEGMENT_BYTES]
    if len(small) <= SMALL_SEGMENTS:
        return 0
    store.rewrite(small, lambda key: True)
    return len(small)
