"""When to seal the delta and what to merge: a pure function of counts, with its own tests.

The shape it keeps: at most `segments_max` segments, none smaller than scanning exactly would justify, the larger ones
rewritten seldom (each vector about log2(rows / delta) times), and few dead rows on the path of a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from indexes.shard_settings import ShardSettings


class SegmentFigures(NamedTuple):
    """A segment, as the policy sees it."""

    slot: int
    live: int
    dead: int
    mean_distance: float = 0.0
    """How far the catalog's mean is now from the one that it was built with."""


class Build(NamedTuple):
    """Build one new segment from the live rows of these and, `with_delta`, of the delta."""

    slots: tuple[int, ...]
    with_delta: bool


class Dissolve(NamedTuple):
    """Put the live rows of this segment back into the delta."""

    slot: int


def next_step(delta_rows: int, segments: Sequence[SegmentFigures], settings: ShardSettings) -> Build | Dissolve | None:
    """What to do now; None: nothing.  Doing it brings the shard nearer to the state in which it is None."""
    due_at = max(settings.delta_rows_max, settings.segment_rows_min)
    by_size = sorted(segments, key=lambda segment: (segment.live, segment.slot))
    if by_size and by_size[0].live < settings.segment_rows_min:
        small = by_size[0]
        if delta_rows + small.live < due_at:
            return Dissolve(small.slot)
        return _built(delta_rows, by_size, settings, at_least=1)
    if delta_rows >= due_at:
        return _built(delta_rows, by_size, settings, at_least=0)
    if len(by_size) > settings.segments_max:
        return Build(tuple(segment.slot for segment in by_size[: len(by_size) - settings.segments_max + 1]), False)
    for segment in by_size:
        worn = segment.dead > settings.tombstones_max * (segment.live + segment.dead)
        if worn or segment.mean_distance > settings.mean_distance_max:
            return Build((segment.slot,), False)
    return None


def _built(delta_rows: int, by_size: Sequence[SegmentFigures], settings: ShardSettings, at_least: int) -> Build:
    """The delta with the smallest segments: as many as there are too many, then while the sizes are alike."""
    rows, merged = delta_rows, 0
    for segment in by_size:
        too_many = len(by_size) - merged + 1 > settings.segments_max
        if not (merged < at_least or too_many or rows >= settings.merge_ratio * segment.live):
            break
        rows += segment.live
        merged += 1
    return Build(tuple(segment.slot for segment in by_size[:merged]), True)
