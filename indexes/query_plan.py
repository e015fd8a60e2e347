"""How many rows match, and so which way they are searched: a pure function of counts and settings."""

from __future__ import annotations

from enum import Enum

from indexes.shard_settings import ShardSettings

GATHER_SHARE = 0.25
"""Below this share of matching rows, copying them together costs less than multiplying all."""


SCORE_SHARE = 0.02
"""Scoring a row for one query costs this share of fetching it (measured: 4 ns and 200 ns at 128 dimensions)."""


class Way(Enum):
    """A way to the candidates of one part of a shard."""

    NOTHING = "nothing"
    """No row can match."""
    GATHER = "gather"
    """Copy the matching rows together and scan those."""
    SCAN = "scan"
    """Scan all rows where they lie, and give those that do not match no weight."""
    TREES = "trees"
    """Ask Annoy for more than is wanted, and keep what matches."""


def delta_way(matching: int, rows: int) -> Way:
    """The way through the delta: exact in any case."""
    if matching == 0:
        return Way.NOTHING
    return Way.GATHER if matching < GATHER_SHARE * rows else Way.SCAN


def segment_way(matching: int, rows: int, count: int, queries: int, settings: ShardSettings) -> Way:
    """The way through a segment of `rows`, of which about `matching` match, to the best `count` for each of `queries`.

    Most of an exact scan is fetching rows from float16, which queries with the same mask share; trees are asked anew.
    """
    if matching == 0:
        return Way.NOTHING
    shared = queries / (1 + queries * SCORE_SHARE)
    if matching <= max(count, max(settings.exact_rows, settings.exact_share * rows) * shared):
        return Way.GATHER
    return Way.TREES


def trees_count(matching: int, rows: int, count: int, settings: ShardSettings, *, uneven: bool) -> int:
    """How many neighbours to ask Annoy for, so that the best `count` of those that match are likely among them.

    `uneven`: factors differ between items, so an item further away may come out before a nearer one.
    """
    oversample = settings.oversample * (2 if uneven else 1)
    return min(rows, int(oversample * count * rows / max(matching, 1)) + 1)
