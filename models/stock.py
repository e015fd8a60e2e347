"""Stock levels, and the flags that follow from record, level and time.

Pure functions: the clock is an argument.  Easy to get wrong:

* A level that was never told is not zero: the item counts as in stock unless its record says `in_stock: false`.
* *Low* means that some are left: `0 < quantity <= threshold`.  A sold-out item is out of stock, not low.
* A quantity below zero is an oversold item, as shops' stock keeping has them: out of stock.
* A sale's window is `sale_from <= now < sale_until`; a window that ends before it begins is never open.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from models.field_values import INSTANT_MS_MAX, INSTANT_MS_MIN
from models.truth_messages import Facts

DERIVED = ("on_sale", "discount", "stock", "low_stock", "out_of_stock", "in_stock")
"""The derived attributes: in filters and rules they stand in place of a record's own of the same name."""

CLOCK_STEP_MS = 1_000
"""A clock that goes back by more was set back: what was turned by time is looked at again.  By less, it catches up."""


class Level(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """How many there were at a moment.  `quantity` None: not known any more."""

    quantity: float | None
    at: Annotated[int, msgspec.Meta(ge=INSTANT_MS_MIN, le=INSTANT_MS_MAX)]
    """Unix ms at which the level held."""


class Flags(msgspec.Struct, frozen=True, gc=False):
    """What record, level and time say of an item at one moment."""

    on_sale: bool
    discount: float
    """Share of the old price that is saved, 0..1; 0 when not on sale."""
    stock: float | None
    """The quantity as told; None: not known."""
    low_stock: bool
    out_of_stock: bool
    in_stock: bool


def flags(facts: Facts, quantity: float | None, now_ms: int, low_stock_at: float) -> Flags:
    """The flags at `now_ms` (Unix ms).  `low_stock_at` is the threshold of items whose record has none."""
    on_sale = facts.sale and _window_open(facts, now_ms)
    if quantity is None:
        low, out = False, facts.in_stock is False
    else:
        threshold = low_stock_at if facts.low_stock_at is None else facts.low_stock_at
        low, out = 0 < quantity <= threshold, quantity <= 0
    return Flags(on_sale, facts.discount if on_sale else 0.0, quantity, low, out, not out)


def may_turn(told: Flags | None, facts: Facts, quantity: float | None, low_stock_at: float) -> bool:
    """Whether a new quantity may have turned a flag since they were told.

    False for most levels, at a fraction of the cost of `flags`, and only where that would find none turned.
    """
    if told is None or quantity is None or facts.sale or told.on_sale:
        return True
    threshold = low_stock_at if facts.low_stock_at is None else facts.low_stock_at
    return (quantity <= 0) != told.out_of_stock or (0 < quantity <= threshold) != told.low_stock


def next_turn_ms(facts: Facts, now_ms: int) -> int | None:
    """The first moment after `now_ms` at which time alone changes the flags (Unix ms); None: never."""
    begin, end = facts.sale_from, facts.sale_until
    if not facts.sale or (begin is not None and end is not None and begin >= end):
        return None
    if begin is not None and now_ms < begin:
        return begin
    if end is not None and now_ms < end:
        return end
    return None


def turns_by_time(facts: Facts) -> bool:
    """Whether there is a moment, past or to come, at which time alone changes the flags."""
    return facts.sale and (facts.sale_from is not None or facts.sale_until is not None)


def alerts(before: Flags | None, after: Flags | None) -> tuple[str, ...]:
    """The alerts of a change, each a flag that turned.  None: there was, or is, no such item.

    A new item is `new` and nothing else, whatever its flags: none of them turned.
    """
    if before is None or after is None:
        if after is not None:
            return ("new",)
        return () if before is None else ("gone",)
    turned = []
    if before.on_sale != after.on_sale:
        turned.append("on_sale" if after.on_sale else "sale_over")
    if after.low_stock and not before.low_stock:
        turned.append("low_stock")
    if before.out_of_stock != after.out_of_stock:
        turned.append("out_of_stock" if after.out_of_stock else "back_in_stock")
    return tuple(turned)


def derived_attributes(flags: Flags) -> dict[str, tuple[bool | float, ...]]:
    """The derived attributes in the shape of `attribute_values`, to be laid over them.

    A level that is not known is an empty tuple, not a missing name: it hides the record's own `stock`.
    """
    return {
        "on_sale": (flags.on_sale,),
        "discount": (flags.discount,),
        "stock": () if flags.stock is None else (flags.stock,),
        "low_stock": (flags.low_stock,),
        "out_of_stock": (flags.out_of_stock,),
        "in_stock": (flags.in_stock,),
    }


def _window_open(facts: Facts, now_ms: int) -> bool:
    begin, end = facts.sale_from, facts.sale_until
    return (begin is None or begin <= now_ms) and (end is None or now_ms < end)
