"""The policies as pure functions: when to seal, what to merge, which way to search."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from indexes.compaction import Build, Dissolve, SegmentFigures, next_step
from indexes.query_plan import Way, delta_way, segment_way, trees_count
from indexes.shard_settings import ShardSettings

SETTINGS = ShardSettings(dimension=4, model="m", delta_rows_max=100, segment_rows_min=60)


@pytest.mark.parametrize(
    ("delta", "segments", "expected"),
    [
        (99, [], None),
        (100, [], Build((), True)),
        (100, [(1, 300, 0)], Build((), True)),
        (100, [(1, 200, 0)], Build((1,), True)),
        (100, [(1, 900, 0), (2, 300, 0)], Build((2,), True)),
        (100, [(1, 900, 0), (2, 350, 0)], Build((1, 2), True)),
        (10, [(1, 900, 0), (2, 80, 0)], None),
        (10, [(1, 900, 0), (2, 59, 0)], Dissolve(2)),
        (80, [(1, 900, 0), (2, 59, 0)], Build((2,), True)),
        (0, [(1, 0, 500)], Dissolve(1)),
        (0, [(1, 100, 42)], None),
        (0, [(1, 100, 43)], Build((1,), False)),
        (0, [(1, 100, 0), (2, 200, 0), (3, 300, 0)], Build((1, 2), False)),
    ],
)
def test_what_is_done_when(delta: int, segments: list[tuple[int, int, int]], expected: Build | Dissolve | None) -> None:
    """Seal a full delta; merge what is alike or too many; dissolve what is small; renew what is worn."""
    step = next_step(delta, [SegmentFigures(*figures) for figures in segments], SETTINGS)
    if isinstance(step, Build):
        step = Build(tuple(sorted(step.slots)), step.with_delta)

    assert expected == step


def test_a_mean_that_moved_asks_for_new_trees() -> None:
    """A segment whose mean is no longer the catalog's is built anew, once."""
    assert next_step(0, [SegmentFigures(1, 100, 0, 0.2)], SETTINGS) == Build((1,), False)
    assert next_step(0, [SegmentFigures(1, 100, 0, 0.1)], SETTINGS) is None


@given(
    st.integers(0, 5000),
    st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 100_000)), max_size=5),
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(1, 3),
    st.floats(0, 1),
)
@settings(max_examples=300)
def test_it_comes_to_rest(
    delta: int, sizes: list[tuple[int, int]], delta_max: int, rows_min: int, segments_max: int, ratio: float
) -> None:
    """Doing what it says ends, loses no row, and leaves no small, no worn and not too many segments."""
    chosen = replace(
        SETTINGS, delta_rows_max=delta_max, segment_rows_min=rows_min, segments_max=segments_max, merge_ratio=ratio
    )
    segments = {slot: SegmentFigures(slot, live, dead) for slot, (live, dead) in enumerate(sizes, 1)}
    rows = delta + sum(segment.live for segment in segments.values())
    for _ in range(20):
        step = next_step(delta, list(segments.values()), chosen)
        if step is None:
            break
        if isinstance(step, Dissolve):
            delta += segments.pop(step.slot).live
            continue
        live = sum(segments.pop(slot).live for slot in step.slots) + (delta if step.with_delta else 0)
        assert live > 0
        delta = 0 if step.with_delta else delta
        slot = max(segments, default=0) + 1
        segments[slot] = SegmentFigures(slot, live, 0)
    else:
        raise AssertionError("it never comes to rest")

    assert rows == delta + sum(segment.live for segment in segments.values())
    assert len(segments) <= segments_max
    assert all(segment.live >= rows_min for segment in segments.values())
    assert delta < max(delta_max, rows_min)


def test_each_vector_is_written_seldom() -> None:
    """Growing to a thousand deltas, a vector is built into about log2(1000) segments, not into a thousand."""
    segments: list[SegmentFigures] = []
    written = 0
    for _ in range(1000):
        step = next_step(100, segments, SETTINGS)
        assert isinstance(step, Build)
        live = 100 + sum(segment.live for segment in segments if segment.slot in step.slots)
        segments = [segment for segment in segments if segment.slot not in step.slots]
        segments.append(SegmentFigures(max([segment.slot for segment in segments], default=0) + 1, live, 0))
        written += live
        assert len(segments) <= 2

    assert sum(segment.live for segment in segments) == 100_000
    assert written / 100_000 < 250, "two segments only: the smaller is rewritten until it is half of the larger"


def test_which_way_through_the_delta() -> None:
    """Few matching rows are copied together, many are scanned where they lie."""
    assert [Way.NOTHING, Way.GATHER, Way.SCAN] == [delta_way(matching, 1000) for matching in (0, 249, 250)]


def test_which_way_through_a_segment() -> None:
    """Below 3 % or a few thousand rows exactly, else by the trees, asked for more the fewer match."""
    chosen = ShardSettings(dimension=4, model="m")

    assert segment_way(0, 100_000, 10, 1, chosen) is Way.NOTHING
    assert segment_way(2_940, 100_000, 10, 1, chosen) is Way.GATHER
    assert segment_way(3_001, 100_000, 10, 1, chosen) is Way.TREES
    assert segment_way(1_900, 30_000, 10, 1, chosen) is Way.GATHER
    assert segment_way(20_000, 30_000, 20_000, 1, chosen) is Way.GATHER
    assert segment_way(50_000, 100_000, 10, 32, chosen) is Way.GATHER
    assert segment_way(70_000, 100_000, 10, 32, chosen) is Way.TREES
    assert trees_count(50_000, 100_000, 10, chosen, uneven=False) == 81
    assert trees_count(50_000, 100_000, 10, chosen, uneven=True) == 161
    assert trees_count(1, 100, 10, chosen, uneven=False) == 100
    assert trees_count(0, 100, 10, chosen, uneven=False) == 100


@pytest.mark.parametrize(
    "change",
    [
        {"dimension": 0},
        {"model": ""},
        {"delta_rows_max": 0},
        {"trees": 0},
        {"oversample": 0.5},
        {"merge_ratio": 1.5},
        {"tombstones_max": -0.1},
        {"exact_share": float("nan")},
    ],
)
def test_settings_out_of_bounds_are_refused(change: dict[str, object]) -> None:
    """The message names the setting and what was expected."""
    with pytest.raises(ValueError, match=f"{next(iter(change))} is .*expected"):
        ShardSettings(**{"dimension": 4, "model": "m"} | change)  # type: ignore[arg-type]
