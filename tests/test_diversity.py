"""Maximal marginal relevance, compared with its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.diversity import pool_size, spread
from models.vectors import unit

angles = st.integers(-90, 90)


def directions(degrees: list[int]) -> np.ndarray:
    """float32[K, 2] of angles."""
    radians = np.radians(degrees)
    return unit(np.stack([np.cos(radians), np.sin(radians)], -1).astype(np.float32))


@given(st.lists(angles, max_size=9), st.integers(1, 9), st.sampled_from([0, 0.25, 0.5, 1]))
def test_each_pick_is_the_best_by_the_definition(degrees: list[int], count: int, diversity: float) -> None:
    """Step by step, by plain loops; none twice, as many as there are, the most relevant first."""
    vectors = directions(degrees) if degrees else np.zeros((0, 2), np.float32)
    relevance = np.sort(vectors[:, 0].astype(np.float64))[::-1] if degrees else np.zeros(0)

    chosen = spread(relevance, vectors, count, diversity)

    assert len(chosen) == len(set(chosen)) == min(count, len(degrees))
    for step, pick in enumerate(chosen):
        before = chosen[:step]
        values = {}
        for at in set(range(len(degrees))) - set(before):
            nearest = max([float(vectors[at] @ vectors[other]) for other in before], default=None)
            values[at] = relevance[at] if nearest is None else (1 - diversity) * relevance[at] - diversity * nearest
        assert values[pick] >= max(values.values()) - 1e-6
    if diversity == 0:
        assert chosen == list(range(len(chosen)))


def test_of_equals_the_first_is_taken() -> None:
    """So that the same candidates give the same hits."""
    assert spread(np.ones(4), directions([0, 0, 0, 0]), 3, 0.5) == [0, 1, 2]


@pytest.mark.parametrize(("count", "size"), [(1, 5), (20, 100), (100, 500), (200, 500), (250, 500), (1000, 2000)])
def test_there_is_something_to_choose_from(count: int, size: int) -> None:
    """Five times as many up to 500, at least twice as many."""
    assert pool_size(count) == size
