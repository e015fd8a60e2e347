"""Levels and flags, against a reading of the contract that steps through time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.stock import DERIVED, Flags, alerts, derived_attributes, flags, may_turn, next_turn_ms
from models.truth_messages import Facts

moments = st.none() | st.integers(0, 12)
facts = st.builds(
    Facts,
    sale=st.booleans(),
    discount=st.sampled_from([0.0, 0.25, 1.0]),
    sale_from=moments,
    sale_until=moments,
    in_stock=st.none() | st.booleans(),
    low_stock_at=st.none() | st.integers(-2, 6).map(float),
)
quantities = st.none() | st.integers(-3, 9).map(float) | st.sampled_from([0.5, 1e300])
thresholds = st.integers(0, 6).map(float)

PLENTY = Flags(on_sale=False, discount=0.0, stock=9.0, low_stock=False, out_of_stock=False, in_stock=True)
LOW = Flags(on_sale=False, discount=0.0, stock=2.0, low_stock=True, out_of_stock=False, in_stock=True)
OUT = Flags(on_sale=False, discount=0.0, stock=0.0, low_stock=False, out_of_stock=True, in_stock=False)
SALE = Flags(on_sale=True, discount=0.5, stock=9.0, low_stock=False, out_of_stock=False, in_stock=True)


def expected_flags(facts: Facts, quantity: float | None, now_ms: int, low_stock_at: float) -> Flags:
    """The contract's sentences one by one."""
    begun = facts.sale_from is None or now_ms >= facts.sale_from
    over = facts.sale_until is not None and now_ms >= facts.sale_until
    on_sale = bool(facts.sale and begun and not over)
    if quantity is not None:
        in_stock = quantity > 0
    else:
        in_stock = True if facts.in_stock is None else facts.in_stock
    threshold = facts.low_stock_at if facts.low_stock_at is not None else low_stock_at
    low = quantity is not None and in_stock and quantity <= threshold
    return Flags(
        on_sale=on_sale,
        discount=facts.discount if on_sale else 0.0,
        stock=quantity,
        low_stock=low,
        out_of_stock=not in_stock,
        in_stock=in_stock,
    )


@given(facts, quantities, st.integers(-1, 14), thresholds)
def test_flags_are_what_the_contract_says(facts, quantity, now_ms, low_stock_at):
    """Flags follow from record, level, time and threshold alone."""
    assert flags(facts, quantity, now_ms, low_stock_at) == expected_flags(facts, quantity, now_ms, low_stock_at)


@given(facts, quantities, st.integers(-1, 14))
def test_flags_turn_at_the_next_turn_and_nowhere_before(facts, quantity, now_ms):
    """Stepping through time, the first change of the flags is at `next_turn_ms`, or there is none."""
    now = expected_flags(facts, quantity, now_ms, 5.0)
    later = (t for t in range(now_ms + 1, 20) if expected_flags(facts, quantity, t, 5.0) != now)

    assert next_turn_ms(facts, now_ms) == next(later, None)


@pytest.mark.parametrize(
    ("quantity", "low", "out"),
    [(6.0, False, False), (5.0, True, False), (0.5, True, False), (0.0, False, True), (-2.0, False, True)],
)
def test_low_means_that_some_are_left(quantity, low, out):
    """At the threshold an item runs low; sold out or oversold it is out of stock and not low."""
    now = flags(Facts(), quantity, 0, 5.0)

    assert (low, out, not out) == (now.low_stock, now.out_of_stock, now.in_stock)
    assert quantity == now.stock


def test_an_unknown_level_counts_as_in_stock_unless_the_record_denies_it():
    """`in_stock` of the record counts only while no level is known."""
    assert flags(Facts(), None, 0, 5.0).in_stock
    assert flags(Facts(in_stock=False), None, 0, 5.0).out_of_stock
    assert flags(Facts(in_stock=False), 3.0, 0, 5.0).in_stock
    assert flags(Facts(in_stock=True), 0.0, 0, 5.0).out_of_stock


def test_a_sale_holds_from_its_first_ms_until_before_its_end():
    """`sale_from` is inside the window, `sale_until` is not."""
    facts = Facts(sale=True, discount=0.3, sale_from=1_700_000_000_000, sale_until=1_700_000_000_010)
    seen = [flags(facts, None, 1_700_000_000_000 + t, 5.0).discount for t in (-1, 0, 9, 10)]

    assert [0.0, 0.3, 0.3, 0.0] == seen
    assert 1_700_000_000_000 == next_turn_ms(facts, 0)
    assert 1_700_000_000_010 == next_turn_ms(facts, 1_700_000_000_000)
    assert next_turn_ms(facts, 1_700_000_000_010) is None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, None, ()),
        (None, SALE, ("new",)),
        (None, OUT, ("new",)),
        (SALE, None, ("gone",)),
        (PLENTY, PLENTY, ()),
        (PLENTY, SALE, ("on_sale",)),
        (SALE, PLENTY, ("sale_over",)),
        (PLENTY, LOW, ("low_stock",)),
        (LOW, PLENTY, ()),
        (PLENTY, OUT, ("out_of_stock",)),
        (LOW, OUT, ("out_of_stock",)),
        (OUT, PLENTY, ("back_in_stock",)),
        (OUT, LOW, ("low_stock", "back_in_stock")),
        (SALE, OUT, ("sale_over", "out_of_stock")),
    ],
)
def test_alerts_tell_each_flag_that_turned(before, after, expected):
    """An alert is a flag that turned; items that come or go have one alert of their own."""
    assert expected == alerts(before, after)


@given(facts, quantities, quantities, st.integers(0, 12))
def test_nothing_turned_means_no_alert(facts, quantity, other, now_ms):
    """Equal flags alert nobody, and a change of quantity alone alerts only if it turns a flag."""
    before, after = flags(facts, quantity, now_ms, 5.0), flags(facts, other, now_ms, 5.0)

    assert () == alerts(before, before)
    assert ("out_of_stock" in alerts(before, after)) == (before.in_stock and not after.in_stock)
    assert ("low_stock" in alerts(before, after)) == (after.low_stock and not before.low_stock)


@given(facts, quantities, quantities, st.integers(0, 12), thresholds)
def test_a_level_that_may_turn_nothing_turns_nothing(facts, quantity, other, now_ms, low_stock_at):
    """The short question says no only where the flags in full alert nobody, and only then where nothing is on sale."""
    before, after = flags(facts, quantity, now_ms, low_stock_at), flags(facts, other, now_ms, low_stock_at)
    turned = may_turn(before, facts, other, low_stock_at)

    assert turned or not alerts(before, after)
    if not facts.sale and other is not None:
        assert turned == ((before.low_stock, before.out_of_stock) != (after.low_stock, after.out_of_stock))
    assert may_turn(None, facts, other, low_stock_at)


@given(facts, quantities)
def test_derived_attributes_are_the_flags_by_name(facts, quantity):
    """Every derived attribute is there, in the shape of attribute values; an unknown level is there and empty."""
    now = flags(facts, quantity, 5, 5.0)
    derived = derived_attributes(now)

    assert DERIVED == tuple(derived)
    for name in DERIVED:
        value = getattr(now, name)
        assert (() if value is None else (value,)) == derived[name]
