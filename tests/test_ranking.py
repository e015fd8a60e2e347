"""Scores, and where pins go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ranking import place, rank_hundredths, visual_hundredths


@pytest.mark.parametrize(
    ("similarity", "hundredths"),
    [
        (1.0, 10_000),
        (1.0000001, 10_000),
        (0.5, 5_000),
        (0.123456, 1_235),
        (0.0, 0),
        (-0.4, 0),
        (0.00004, 0),
        (0.00006, 1),
    ],
)
def test_the_visual_score_is_the_cosine_from_0_to_100(similarity: float, hundredths: int) -> None:
    """In hundredths; below 0 it is 0, and a rounding error never shows as more than 100."""
    assert visual_hundredths(similarity) == hundredths


def test_the_rank_score_is_the_adjusted_similarity() -> None:
    """Factors move it, above 100 too; what is less alike than chance has none."""
    assert rank_hundredths(0.5, 1.15) == 5_750
    assert rank_hundredths(0.9, 2.5) == 22_500
    assert rank_hundredths(-0.5, 3.0) == 0
    assert rank_hundredths(0.0, 3.0) == 0


@pytest.mark.parametrize(
    ("pins", "count", "placed"),
    [
        ([], 3, "abc"),
        ([(0, "X")], 3, "Xab"),
        ([(1, "X"), (0, "Y")], 4, "YXab"),
        ([(1, "X"), (1, "Y")], 4, "aXYb"),
        ([(2, "X")], 3, "abX"),
        ([(3, "X")], 3, "abc"),
        ([(2, "X"), (2, "Y")], 3, "abX"),
        ([(8, "X"), (6, "Y")], 10, "abcdYX"),
        ([(0, "X"), (1, "Y"), (2, "Z")], 2, "XY"),
    ],
)
def test_pins_stand_where_they_are_wanted(pins: list[tuple[int, str]], count: int, placed: str) -> None:
    """Positions count from 0; the first has the place, others the next; past the end is the end, past count is out."""
    assert "".join(place("abcd", pins, count)) == placed


@given(
    st.integers(0, 6),
    st.lists(st.integers(0, 9), max_size=5),
    st.integers(1, 8),
)
def test_placing_loses_nothing_that_there_is_room_for(ranked: int, positions: list[int], count: int) -> None:
    """As many hits as wanted if there are as many, none twice, and the ranked ones in their order."""
    names = [f"r{number}" for number in range(ranked)]
    pins = [(position, f"p{number}") for number, position in enumerate(positions)]

    hits = place(names, pins, count)

    shown = [name for name in hits if name.startswith("p")]
    assert len(hits) == min(count, ranked + len(shown))
    assert len(set(hits)) == len(hits)
    assert [name for name in hits if name.startswith("r")] == names[: len(hits) - len(shown)]
    for position, name in pins[:1]:
        if position < len(hits) and name in hits and len(hits) == count:
            assert hits[position] == name
