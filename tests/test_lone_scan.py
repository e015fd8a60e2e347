"""A lone query finds what the search for many finds, bit for bit, or says that it is not sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexes.delta import Delta
from indexes.field import Field, Weights
from indexes.lone_scan import LoneScan
from indexes.rows import Rows
from indexes.search import search_together
from indexes.shard_settings import ShardSettings

LOOK, COLOUR = 10, 6


@dataclass
class Drawn:
    """Fields of random rows, some items with several, some rows alike, some hidden or dropped."""

    seed: int
    shards: int = 3
    items: int = 60
    rows_each: int = 1
    colour: int = 0
    factors: tuple[float, float] | None = None
    """Between which they are, in two of three shards; a rule may boost nothing of a shard."""
    masked: float = 0.0
    hidden: float = 0.1
    """Of the rows, and as many dropped."""
    spread: float = 1.0
    """How far rows lie from each other: with little of it all are similar to each other."""

    def fields(self) -> list[Field]:
        numbers = np.random.default_rng(self.seed)
        return [self._field(number, numbers) for number in range(self.shards)]

    def _field(self, number: int, numbers: np.random.Generator) -> Field:
        how = ShardSettings(dimension=LOOK + self.colour, model="m@1", colour=self.colour)
        rows = Rows(how)
        middle = np.ones(LOOK + self.colour) * (1 - self.spread)
        palette = numbers.standard_normal((max(self.items // 2, 1), LOOK + self.colour)) * self.spread + middle
        for ordinal in range(self.items):
            for image in range(1 + int(numbers.integers(self.rows_each))):
                vector = palette[numbers.integers(len(palette))].astype(np.float16)
                row = rows.append(vector, ordinal)
                rows.show(row, ordinal, -1 if numbers.random() < self.hidden else image)
                if numbers.random() < self.hidden:
                    rows.drop(row)
        rows.delta.settle()
        # Ids in another order than ordinals: equal items come in the order of their ids.
        ids = [f"{ordinal * 7 % 60:03d}-{ordinal}-{number}" for ordinal in range(self.items)]
        weights = numbers.uniform(*self.factors, self.items) if self.factors and (number + self.seed) % 3 else None
        mask = numbers.random(self.items) >= self.masked if self.masked else None
        return Field(rows, ids, how, rows.items_shown, [mask], [weights])

    def query(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """A unit query, and the length that similarities are multiplied by where colour counts."""
        numbers = np.random.default_rng(self.seed + 1)
        query = (numbers.standard_normal(LOOK + self.colour) * self.spread + 1 - self.spread).astype(np.float32)
        length = np.array([1.7], np.float32)
        if self.colour and self.seed % 2:
            query[-self.colour :] = 0
        query /= np.float32(np.linalg.norm(query))
        return query[None], length if self.colour and not self.seed % 2 else None


def lone(fields: list[Field]) -> LoneScan | None:
    """What answers keep, if a scan is the way to these."""
    weights = [Weights(field.allowed[0], field.factors[0]) for field in fields]
    return LoneScan(fields, weights) if LoneScan.suits(fields, weights) else None


def together(
    fields: list[Field], query: NDArray[np.float32], count: int, length: NDArray[np.float32] | None
) -> list[Any]:
    """The same as the search for many finds it."""
    found = search_together(fields, query, count).candidates
    told = found.similarity if length is None else found.similarity * length
    return list(zip(*(each.tolist() for each in (found.fields, found.ordinals, found.image, told)), strict=True))


@settings(max_examples=300, deadline=None)
@given(
    st.builds(
        Drawn,
        seed=st.integers(0, 10_000),
        shards=st.integers(1, 4),
        items=st.sampled_from([1, 7, 60, 300]),
        rows_each=st.sampled_from([1, 3]),
        colour=st.sampled_from([0, COLOUR]),
        factors=st.sampled_from([None, (0.3, 3.0), (1.0, 3.0)]),
        masked=st.sampled_from([0.0, 0.3, 0.95, 1.0]),
        hidden=st.sampled_from([0.0, 0.1]),
        spread=st.sampled_from([0.02, 0.5, 1.0]),
    ),
    st.sampled_from([1, 5, 20, 100]),
)
def test_it_finds_what_the_search_finds(drawn: Drawn, count: int) -> None:
    """Also among equal rows, with factors, with items of several rows, and asked again."""
    fields = drawn.fields()
    query, length = drawn.query()
    scan = lone(fields)
    if scan is not None:
        for _ in range(2):
            rows = scan.rows(query, length, count)
            assert rows is None or rows == together(fields, query, count, length)


@pytest.mark.parametrize("colour", [0, COLOUR])
@pytest.mark.parametrize("rows_each", [1, 3])
@pytest.mark.parametrize("factors", [None, (0.3, 3.0), (1.0, 3.0)])
@pytest.mark.parametrize("hidden", [0.0, 0.1])
def test_it_is_sure_of_what_shops_ask_for(
    colour: int, rows_each: int, factors: tuple[float, float] | None, hidden: float
) -> None:
    """With many items similar to the query it leaves nothing to the search for many."""
    for seed in range(20):
        drawn = Drawn(seed, items=300, rows_each=rows_each, colour=colour, factors=factors, hidden=hidden, spread=0.7)
        fields = drawn.fields()
        query, length = drawn.query()
        scan = lone(fields)
        assert scan is not None
        rows = scan.rows(query, length, 20)
        assert rows is not None
        assert len(rows) == 20
        assert rows == together(fields, query, 20, length)


def test_it_is_not_sure_where_too_few_rows_are_similar() -> None:
    """Rows that do not match, and ones that are unlike, come last in ways that only the search knows."""
    drawn = Drawn(3, items=30, shards=1)
    scan = lone(drawn.fields())
    assert scan is not None
    query, _ = drawn.query()
    assert scan.rows(query, None, 29) is None
    assert scan.rows(query, None, 3) is not None


def test_it_does_not_suit_what_is_not_scanned_as_a_whole() -> None:
    """Few matching rows are gathered, segments have trees, and without a field there is nothing."""
    sealed = Drawn(1).fields()
    sealed[1].rows.parts[1] = Delta(LOOK)
    assert lone(sealed) is None
    assert lone(Drawn(1, masked=0.9).fields()) is None
    assert lone(Drawn(1, masked=1.0).fields()) is None
    assert lone([]) is None
    assert lone(Drawn(1, masked=0.3).fields()) is not None


@pytest.mark.parametrize(("images", "sure"), [(2, True), (4, True), (40, False)])
def test_images_of_one_item_leave_room_for_others(images: int, sure: bool) -> None:
    """An item of many images near the query is one hit; where it has taken all places, the search is asked."""
    drawn = Drawn(5, shards=2, items=100, spread=0.7)
    fields = drawn.fields()
    query, _ = drawn.query()
    rows = fields[1].rows
    for image in range(images):
        near = query[0] + np.random.default_rng(image).standard_normal(LOOK).astype(np.float32) / 100
        rows.show(rows.append(near.astype(np.float16), 0), 0, 100 + image)
    rows.delta.settle()
    fields[1] = fields[1]._replace(items=rows.items_shown)
    scan = lone(fields)
    assert scan is not None
    found = scan.rows(query, None, 5)
    assert (found is not None) == sure
    expected = together(fields, query, 5, None)
    assert expected[0][:2] == (1, 0)
    assert found in (None, expected)


def test_it_is_not_sure_of_rows_that_are_hardly_similar() -> None:
    """Ones that do not match have a product of 0, and are no farther from those than a product's error."""
    drawn = Drawn(2, shards=1, masked=0.3, hidden=0)
    (field,) = drawn.fields()
    delta = field.rows.delta
    delta.raw_rows[: delta.size] = np.eye(LOOK, dtype=np.float16)[0]
    delta.use_mean(None)
    scan = lone([field])
    assert scan is not None
    for near in (1e-6, 1e-5):
        query = np.eye(LOOK, dtype=np.float32)[1:2]
        query[0, 0] = near
        rows = scan.rows(query, None, 3)
        assert (rows is not None) == (near > 2e-6)
        assert rows in (None, together([field], query, 3, None))


def test_colour_counts_for_one_query_and_not_for_the_next() -> None:
    """One scan answers both: what is multiplied is not the same."""
    drawn = Drawn(4, items=300, colour=COLOUR, spread=0.7)
    fields = drawn.fields()
    scan = lone(fields)
    assert scan is not None
    query, length = drawn.query()
    plain = query.copy()
    plain[:, -COLOUR:] = 0
    plain /= np.linalg.norm(plain)
    for asked, told in ((query, length), (plain, None), (query, length)):
        assert scan.rows(asked, told, 20) == together(fields, asked, 20, told)
