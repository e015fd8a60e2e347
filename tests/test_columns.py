"""Columns against `models.filter_tree.matches`: a filter over all items says of each what it says of the item alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes import columns as columns_module
from indexes.column import Column
from indexes.columns import Columns
from models.attributes import attribute_values
from models.filter_tree import And, Compare, Facet, Filter, Not, Or, Range, facet_text, matches
from models.stock import CLOCK_STEP_MS, DERIVED, derived_attributes, flags
from models.truth_messages import Facts

LOW = 5.0
NAMES = ["colour", "size", "a.b", "tags", "none", *DERIVED]
TEXTS = ["red", "Red", "ROT", "5", "5.0", "007", "true", "false", "1e3", "-0", "0.25", "ẞ", "ss", "1" * 30, "2.5"]
NUMBERS = [0.0, -0.0, 1.0, 5.0, 2.5, 0.25, 1000.0, -3.0, 1e300, 2.0**63, 2.0**53 + 2]

scalars = st.one_of(
    st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.booleans(), st.integers(-5, 9), st.just(2**53 + 1), st.none()
)
values = st.one_of(scalars, st.lists(scalars, max_size=4))
attributes = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(["colour", "size", "tags", "stock"], values) | {"a": st.dictionaries(st.just("b"), values)},
)
moments = st.one_of(st.none(), st.integers(0, 50))
facts = st.builds(
    Facts,
    sale=st.booleans(),
    discount=st.sampled_from([0.0, 0.25, 0.5]),
    sale_from=moments,
    sale_until=moments,
    in_stock=st.one_of(st.none(), st.booleans()),
    low_stock_at=st.one_of(st.none(), st.sampled_from([0.0, 2.5])),
)
quantities = st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 1.0, 2.5, 5.0, 1000.0]))
leaves: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Facet, st.sampled_from(NAMES), st.sampled_from(TEXTS)),
    st.builds(
        Compare,
        st.sampled_from(NAMES),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        st.sampled_from(NUMBERS),
    ),
    st.builds(Range, st.sampled_from(NAMES), st.sampled_from(NUMBERS), st.sampled_from(NUMBERS)),
)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)
steps = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 7), attributes, facts, quantities),
    st.tuples(st.just("quantity"), st.integers(0, 7), quantities),
    st.tuples(st.just("remove"), st.integers(0, 7)),
    st.tuples(st.just("advance"), st.integers(0, 60)),
    st.tuples(st.just("names"), st.integers(1, 5)),
    st.tuples(st.just("ask"), filters),
)


class Items:
    """What the columns have been told."""

    def __init__(self) -> None:
        self.items: dict[int, tuple[dict[str, Any], Facts, float | None]] = {}
        self.now_ms = 0

    def values(self, ordinal: int) -> dict[str, Any]:
        attributes, its_facts, quantity = self.items[ordinal]
        return attribute_values(attributes) | derived_attributes(flags(its_facts, quantity, self.now_ms, LOW))

    def matching(self, tree: Filter) -> set[int]:
        return {ordinal for ordinal in self.items if matches(tree, self.values(ordinal))}


def found(mask: Any) -> set[int]:
    return set(np.flatnonzero(mask).tolist())


@given(st.lists(steps, max_size=25), filters)
@settings(max_examples=200)
def test_a_mask_says_what_matches_says_of_each_item(sequence: list[Any], last: Filter) -> None:
    """However items come, change and go, whenever a filter first asks, and however far names were read before."""
    columns, items = Columns(LOW), Items()
    for step in [*sequence, ("ask", last)]:
        if step[0] == "put":
            _, ordinal, its_attributes, its_facts, quantity = step
            items.items[ordinal] = (its_attributes, its_facts, quantity)
            columns.put(ordinal, orjson.dumps(its_attributes), its_facts, quantity)
        elif step[0] == "quantity" and step[1] in items.items:
            items.items[step[1]] = (*items.items[step[1]][:2], step[2])
            columns.put_quantity(step[1], step[2])
        elif step[0] == "remove" and step[1] in items.items:
            del items.items[step[1]]
            columns.remove(step[1])
        elif step[0] == "advance":
            items.now_ms = max(items.now_ms, step[1])
            columns.advance(step[1])
        elif step[0] == "names":
            columns.read_names(step[1])
        elif step[0] == "ask":
            assert items.matching(step[1]) == found(columns.mask(step[1]))


@given(
    st.lists(st.tuples(attributes, facts, quantities), max_size=6),
    st.sampled_from(NAMES),
    st.lists(scalars.filter(lambda value: value is not None), max_size=3),
)
def test_same_as_finds_items_that_share_a_value(told: list[Any], attribute: str, wanted: list[Any]) -> None:
    """One value of the attribute equals one of those given, as facets compare."""
    columns, items = Columns(LOW), Items()
    for ordinal, (its_attributes, its_facts, quantity) in enumerate(told):
        items.items[ordinal] = (its_attributes, its_facts, quantity)
        columns.put(ordinal, orjson.dumps(its_attributes), its_facts, quantity)
    texts = {facet_text(value) for value in wanted}
    expected = {
        ordinal
        for ordinal in items.items
        if texts & {facet_text(value) for value in items.values(ordinal).get(attribute, ())}
    }

    assert expected == found(columns.same_as(attribute, wanted))


@given(st.lists(st.tuples(st.integers(0, 3), facts, st.integers(0, 60)), max_size=12))
def test_flags_are_those_of_the_moment(sequence: list[tuple[int, Facts, int]]) -> None:
    """Sale windows open and close when their time comes, also of items that were replaced meanwhile."""
    columns, items = Columns(LOW), Items()
    for ordinal, its_facts, now_ms in sequence:
        items.items[ordinal] = ({}, its_facts, None)
        columns.put(ordinal, b"{}", its_facts, None)
        items.now_ms = max(items.now_ms, now_ms)
        columns.advance(now_ms)
        for each in items.items:
            expected = derived_attributes(flags(items.items[each][1], None, items.now_ms, LOW))
            assert expected["on_sale"] == (bool(columns.on_sale[each]),)
            assert expected["discount"] == (columns.discount[each],)


@given(st.lists(st.tuples(st.integers(0, 3), facts, st.integers(0, 60)), max_size=12))
def test_flags_are_those_of_a_clock_that_is_set_back(sequence: list[tuple[int, Facts, int]]) -> None:
    """By far: then windows that opened too soon are closed until it is time; else it is waited for."""
    columns, items = Columns(LOW), Items()
    for ordinal, its_facts, now_ms in sequence:
        items.items[ordinal] = ({}, its_facts, None)
        columns.put(ordinal, b"{}", its_facts, None)
        columns.advance(now_ms + CLOCK_STEP_MS + 61)
        columns.advance(now_ms)
        columns.advance(now_ms - 1)
        for each in items.items:
            expected = derived_attributes(flags(items.items[each][1], None, now_ms, LOW))
            assert expected["on_sale"] == (bool(columns.on_sale[each]),)
            assert expected["discount"] == (columns.discount[each],)


def test_moving_a_sale_again_and_again_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outdated due times are thrown away; the valid one still turns the flag."""
    monkeypatch.setattr(columns_module, "HEAP_SLACK", 5)
    columns = Columns(LOW)
    for until in range(100, 300):
        columns.put(until % 2, b"{}", Facts(sale=True, sale_until=until), None)
        assert len(columns._heap) <= 9
    columns.advance(298)

    assert [False, True] == columns.on_sale[:2].tolist()


def test_columns_grow_with_what_they_know() -> None:
    """Beyond the capacity arrays double; values, flags and lists stay."""
    columns = Columns(LOW)
    columns.put(3, b'{"size": 5, "tags": ["a", "b"]}', Facts(sale=True), 2.0)
    assert {3} == found(columns.mask(Facet("tags", "A")))
    capacity = columns.capacity
    columns.put(5 * capacity, b'{"size": [5, 6], "tags": "a"}', Facts(), None)

    assert columns.capacity == 8 * capacity
    assert {3, 5 * capacity} == found(columns.mask(Facet("tags", "a")))
    assert {3, 5 * capacity} == found(columns.mask(Compare("size", "=", 5.0)))
    assert {3} == found(columns.mask(Facet("on_sale", "true")))
    assert {3} == found(columns.mask(Compare("stock", ">", 0.0)))
    assert all(len(getattr(columns, name)) == columns.capacity for name in ("present", "in_stock", "stock", "discount"))


def test_an_attribute_that_no_item_has_costs_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """Odd filters neither read all records nor fill the memory; the least recently asked column goes first."""
    monkeypatch.setattr(columns_module, "COLUMNS_MAX", 2)
    columns = Columns(LOW)
    columns.put(0, b'{"a": 1, "b": 2, "c": 3}', Facts(), None)
    for name in ("a", "nothing", "b", "a", "never", "c"):
        columns.mask(Facet(name, "1"))

    assert ["a", "c"] == list(columns._columns)
    with monkeypatch.context() as patch:
        patch.setattr(columns_module, "reader_of", None)
        patch.setattr(columns_module, "names_of", None)
        assert found(columns.mask(Not(Facet("nowhere", "1")))) == {0}
    columns.put(1, b'{"nothing": 1}', Facts(), None)
    assert {1} == found(columns.mask(Facet("nothing", "1")))


def test_names_are_read_before_anybody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few ordinals at a time, to the end; after that a filter about nothing reads no record."""
    columns = Columns(LOW)
    for ordinal in range(40):
        columns.put(ordinal, b'{"a": 1, "b": {"c": 2}}', Facts(), None)
    left = [columns.read_names(300) for _ in range(4)]
    monkeypatch.setattr(columns_module, "names_of", None)

    assert left == [True, True, True, False]
    assert found(columns.mask(Facet("nowhere", "1"))) == set()
    assert len(found(columns.mask(Facet("b.c", "2")))) == 40


def test_lists_do_not_pile_up() -> None:
    """An item whose list changes again and again takes the place of its former elements."""
    column = Column(8)
    for turn in range(1000):
        column.put(turn % 3, [turn, turn + 1, "x"])
    column.put(0, [])

    assert len(column._several.codes) <= 64
    assert {1, 2} == found(column.facet("x"))
    assert {1, 2} == found(column.compare("=", 998.0))
    assert {2} == found(column.within(998.5, 999.0))
