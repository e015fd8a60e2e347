"""What centring is judged by: the figures of `bench/quality/centring.py`, on catalogs of which they are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.quality.centring import Looks, by_count, drifting, largest, map10, one_kind, scores_apart, small_catalogs
from bench.quality.definitions import definitions
from models.vectors import unit


def looks(count: int, kinds: int, seed: int = 0, lean: float = 1.0) -> Looks:
    """Kinds in directions of their own, scattered, and all of them leaning one way."""
    numbers = np.random.default_rng(seed)
    centres = unit(numbers.standard_normal((kinds, 24)))
    kind = np.arange(count) % kinds
    return Looks(
        unit(centres[kind] + 0.1 * numbers.standard_normal((count, 24)) + lean * unit(np.ones(24))),
        np.array([f"kind{number}" for number in kind]),
    )


@pytest.mark.parametrize("count", [12, 90])
@pytest.mark.parametrize("centred", [False, True])
def test_map10_is_the_definitions(shared_folder: Path, count: int, centred: bool) -> None:
    """Where a picture has ten others and more, it is the figure of the shared tool."""
    catalog = looks(count, 5)
    mean = catalog.vectors.mean(axis=0) if centred else None
    rows = unit(catalog.vectors - mean) if mean is not None else catalog.vectors
    expected = definitions(shared_folder).label_scores(rows @ rows.T, catalog.kinds)["map10"]

    assert expected == pytest.approx(map10(catalog, mean), abs=1e-6)


def test_map10_of_a_handful() -> None:
    """1 where each finds its like first, a half where it comes second; who is alone of its kind asks nothing."""
    pair = np.array(["a", "a", "b", "b", "c"])
    first = unit(np.array([[1, 0.1, 0], [1, 0, 0.1], [0, 1, 0.1], [0, 1, 0], [0, 0, 1]]))
    second = Looks(unit(np.array([[1, 0, 0.0], [0.5, 0.8, 0], [0.9, 0.4, 0]])), np.array(["a", "a", "b"]))

    assert map10(Looks(first, pair), None) == 1
    assert map10(second, None) == 0.5


def test_a_mean_of_more_vectors_is_nearer_to_that_of_all() -> None:
    """Scores are off by nothing with all's own mean, and by less the more vectors a mean is of."""
    catalog = looks(300, 6)
    everything = catalog.vectors.mean(axis=0)
    rows = {what: off for what, _, off in by_count(catalog)}

    assert scores_apart(catalog.vectors, everything, everything) == 0
    assert float(rows["4"]) > float(rows["16"]) > float(rows["64"]) > float(rows["256"]) > 0
    assert ["none: plain", "4", "all"] == [list(rows)[place] for place in (0, 1, -1)]


def test_small_catalogs_are_those_that_the_pack_has_enough_for() -> None:
    """Eight kinds of nine pictures, and a dozen of one: catalogs of up to eight kinds, and all's own mean does well."""
    many, few = looks(72, 8, lean=3), looks(12, 12, lean=3)
    kinds = np.concatenate((many.kinds, np.char.add("rare ", few.kinds)))
    rows = list(small_catalogs(Looks(np.concatenate((many.vectors, few.vectors)), kinds)))

    assert [("8", "2"), ("16", "4"), ("32", "6"), ("48", "8"), ("64", "8")] == [row[:2] for row in rows]
    assert all(float(all_of_it) >= 0.9 for *_, all_of_it in rows)


def test_a_catalog_that_turns_into_another_leaves_its_mean_behind() -> None:
    """The distance grows with the share that is the other's; a fresh mean is then the better one."""
    rows = list(drifting(looks(120, 6, 1, lean=2), Looks(-looks(120, 6, 2, lean=2).vectors, looks(120, 6, 2).kinds)))
    apart = [float(row[1]) for row in rows]
    *_, stale, fresh = rows[-1]

    assert apart == sorted(apart)
    assert apart[0] < 0.2 < 1 < apart[-1]
    assert float(fresh) >= float(stale)


def test_one_kind_is_spread_out_by_its_mean() -> None:
    """Two random items score 0 once what all have in common is taken out; a picture that is the same is found."""
    vectors = looks(40, 1).vectors
    plain, centred, by_few = one_kind(vectors, vectors)

    assert ("40", "plain", "1.000") == plain[:3]
    assert int(plain[3]) > 50 > 10 > abs(int(centred[3]))
    assert abs(int(by_few[3])) < int(plain[3])
    assert int(plain[4]) > int(centred[4]) > int(centred[3])


def test_the_largest_kinds_come_first() -> None:
    """By number of pictures."""
    assert ["b", "a"] == largest(np.array(list("abbbac")), 2)
