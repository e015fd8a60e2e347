"""The catalog's mean: what it is of, and when it is fitted anew."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes.statistics import DRIFT_MAX, GROWN, MeanFit

D = 4


def vectors(rng: np.random.Generator, count: int, lean: float = 0.0) -> Any:
    rows = rng.normal(size=(count, D)) + lean
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3), st.integers(0, 99)), max_size=40))
@settings(max_examples=60)
def test_the_mean_is_that_of_the_items_that_are_there(steps: list[tuple[str, int, int]]) -> None:
    """After any additions, replacements and removals it is the exact mean of what is left."""
    fit = MeanFit(D)
    kept: dict[str, Any] = {}
    for item_id, count, seed in steps:
        rows = vectors(np.random.default_rng(seed), count)
        if count:
            fit.add(item_id, rows)
            kept[item_id] = rows
        elif seed % 2:
            fit.add(item_id, rows)
            kept.pop(item_id, None)
        else:
            fit.remove(item_id)
            kept.pop(item_id, None)
    left = [row for rows in kept.values() for row in rows.tolist()]

    assert len(left) == fit.count
    if left:
        exact = [float(sum(map(Fraction, column)) / len(left)) for column in zip(*left, strict=True)]
        mean, count = fit.fit()
        assert (len(left), np.array(exact, np.float32).tolist()) == (count, mean.tolist())


@given(st.permutations(range(60)))
@settings(max_examples=20)
def test_the_sample_does_not_depend_on_the_order(order: list[int]) -> None:
    """Beyond its limit the sample is thinned out by the items' ids alone; the mean is the same to the bit."""
    fits = [MeanFit(D, sample_max=20), MeanFit(D, sample_max=20)]
    for fit, numbers in zip(fits, (order, range(60)), strict=True):
        for number in numbers:
            fit.add(f"i{number}", vectors(np.random.default_rng(number), 1))

    assert 0 < fits[0].count <= 20
    assert fits[0].fit()[0].tobytes() == fits[1].fit()[0].tobytes()


def test_it_is_due_when_there_are_enough_then_when_they_double() -> None:
    """Nothing with few vectors, then the first fit, then by growth alone."""
    rng = np.random.default_rng(0)
    fit = MeanFit(D, count_min=10, drift_max=9)
    due = []
    for number in range(40):
        fit.add(f"i{number}", vectors(rng, 1))
        if fit.due():
            due.append(fit.fit()[1])

    assert [10, 20, 40] == due


def test_it_is_due_when_the_catalog_drifts() -> None:
    """As many vectors as before, but of another kind; chance alone is no drift."""
    rng = np.random.default_rng(0)
    fit = MeanFit(D, count_min=10)
    for number in range(3000):
        fit.add(f"i{number}", vectors(rng, 1, lean=0.5))
    fit.fit()
    for number in range(3000):
        fit.add(f"i{number}", vectors(rng, 1, lean=0.5))
        assert not fit.due()
    changed = 0
    while not fit.due():
        fit.add(f"i{changed}", vectors(rng, 1, lean=-0.5))
        changed += 1

    assert 100 < changed < 1_000


def test_a_catalog_that_only_grows_is_fitted_a_few_times() -> None:
    """By doubling up to a thousand, and never again: each fit turns all rows and asks all watched lists anew."""
    rng = np.random.default_rng(1)
    fit = MeanFit(D)
    counts, rows = [], vectors(rng, 12_000, lean=0.4)
    for number, row in enumerate(rows):
        fit.add(f"i{number}", row[None])
        if fit.due():
            counts.append(fit.fit()[1])

    assert counts == [16 * 2**step for step in range(7)]
    assert counts[-1] == GROWN
    fitted_mean = rows[:GROWN].mean(axis=0)
    assert np.linalg.norm(fitted_mean - rows.mean(axis=0)) < 2 / np.sqrt(GROWN)


def test_small_steps_of_drift_add_up() -> None:
    """It is judged by the mean in force, not by the last look: a catalog that turns slowly into another is followed."""
    rng = np.random.default_rng(2)
    fit = MeanFit(D)
    for number in range(400):
        fit.add(f"i{number}", vectors(rng, 1, lean=0.6))
    in_force, _ = fit.fit()
    fits = 0
    for number in range(400):
        fit.add(f"i{number}", vectors(rng, 1, lean=-0.6))
        if fit.due():
            in_force, _ = fit.fit()
            fits += 1
    mean, _ = fit.fit()

    assert 4 < fits < 20
    assert np.linalg.norm(mean - in_force) <= max(DRIFT_MAX, 2 / np.sqrt(400))


def test_a_handful_of_items_has_no_mean() -> None:
    """Ten items, of one kind or of many, changed again and again: nothing is fitted, scores stay plain cosines."""
    rng = np.random.default_rng(3)
    for lean in (0.0, 3.0):
        fit = MeanFit(D)
        for number in range(200):
            fit.add(f"i{number % 10}", vectors(rng, 1, lean=lean))
            assert not fit.due()


@pytest.mark.parametrize(("turn", "due"), [(0.15, False), (0.25, True)])
def test_colours_drift_counts_as_they_do_in_rows(turn: float, due: bool) -> None:
    """Half as much as that of looks: the mean of all rows moves by the turn, in its colour alone."""
    fit = MeanFit(4, colour=2)
    for number in range(1_000):
        fit.add(f"i{number}", np.array([[1, 0, 1, 0]], np.float32))
    fit.fit()
    for number in range(1_000):
        fit.add(f"i{number}", np.array([[1, 0, np.cos(turn), np.sin(turn)]], np.float32))

    assert fit.due() is due
    assert fit.looks().tolist() == [[1, 0]] * 1_000


def test_an_adopted_mean_is_not_fitted_again() -> None:
    """After a restart the mean in force is what growth and drift are judged by."""
    rng = np.random.default_rng(0)
    fits = [MeanFit(D, count_min=10), MeanFit(D, count_min=10)]
    for number in range(30):
        rows = vectors(rng, 1)
        for fit in fits:
            fit.add(f"i{number}", rows)
    fits[1].adopt(*fits[0].fit())

    assert [False, False] == [fit.due() for fit in fits]


@pytest.mark.parametrize("rows", [np.zeros(D), np.zeros((1, D + 1)), np.full((1, D), np.nan)])
def test_vectors_that_cannot_be_are_refused(rows: Any) -> None:
    """One wrong vector would spoil the sum for good."""
    fit = MeanFit(D)
    with pytest.raises(ValueError, match="expected finite vectors of 4 dimensions"):
        fit.add("a", rows)
    with pytest.raises(ValueError, match="at least one vector"):
        fit.fit()
    with pytest.raises(ValueError, match="a mean of 4 numbers"):
        fit.adopt(np.zeros(D + 1, np.float32), 3)
