"""Compaction: many small segments of a store become a few large ones, as git packs do with loose objects."""

import pyarrow.parquet as pq

from pipelines.files import SEGMENT_BYTES, Store

MANY_SEGMENTS = 64  # so many small ones are left in peace: each costs a reader some tenths of a millisecond


def compact(store: Store) -> int:
    """Merge the small segments of a store where there are many of them; returns how many segments there are fewer.

    Small is what holds less than a full segment does, before compression; a full one is never written again, so a row
    is moved at most a few times in its life. Rows that stand in two small segments stand in one afterwards.
    """
    small = [path for path in store.segments() if _content_bytes(path) < SEGMENT_BYTES]
    if len(small) <= MANY_SEGMENTS:
        return 0
    seen: set[bytes] = set()

    def is_first(key: bytes) -> bool:
        known = len(seen)
        seen.add(key)
        return len(seen) > known

    return len(small) - len(store.rewrite(small, is_first))


def _content_bytes(path: object) -> int:
    metadata = pq.read_metadata(path)
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
