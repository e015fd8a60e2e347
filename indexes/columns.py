"""Columns: attributes and flags as arrays over a shard's ordinals, and a filter over all of them at once.

* An attribute's column is built from the records when a filter first asks for it, and kept up to date from then on.
  Which attributes there are is read before, a few records at a time (`read_names`), so that no visitor waits for it.
* The derived attributes (`models.stock.DERIVED`) are always there.  They are the flags at `now_ms`, for every item:
  `advance` turns those whose sale's window opens or closes, by a heap of due times.
* `mask` says for every item what `models.filter_tree.matches` says of its values.

Easy to get wrong: ordinals are reused, so an entry of the heap counts only while its ordinal is due at that time; and
an ordinal without an item matches nothing, not even a `NOT`.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexes.column import Column, Mask, compare_numbers
from indexes.record_parts import names_of, reader_of, record_values
from models.filter_tree import And, Facet, Filter, Not, Or, Range, Scalar, facet_text, facet_texts, number_of
from models.stock import CLOCK_STEP_MS, DERIVED, flags, next_turn_ms, turns_by_time
from models.truth_messages import Facts

CAPACITY_MIN = 1024
HEAP_SLACK = 1000
"""Outdated entries that the heap of due times may hold, beside as many as it has valid ones."""
COLUMNS_MAX = 200
"""Columns kept; the one that was asked for longest ago goes first, so that odd filters cannot fill the memory."""

KEPT_MAX = 16
"""Results kept between changes; most requests ask for the same two."""

T = TypeVar("T")


class Columns:
    """Arrays by ordinal, each `capacity` long: `present`, `on_sale`, `low_stock`, `out_of_stock`, `in_stock` bool,
    `discount` and `stock` float64 (`stock` NaN: not known), `family` int64 (0: none; see `family_number`).

    The arrays are changed in place and replaced when they grow: read them anew for every request.
    """

    def __init__(self, low_stock_at: float) -> None:
        self._kept: dict[Hashable, tuple[object, Any]] = {}
        self.changes = 0
        """Counts up with every change."""
        self.capacity = CAPACITY_MIN
        self.now_ms = 0
        self._low_stock_at = low_stock_at
        self.present = np.zeros(CAPACITY_MIN, np.bool_)
        self.on_sale = np.zeros(CAPACITY_MIN, np.bool_)
        self.low_stock = np.zeros(CAPACITY_MIN, np.bool_)
        self.out_of_stock = np.zeros(CAPACITY_MIN, np.bool_)
        self.in_stock = np.zeros(CAPACITY_MIN, np.bool_)
        self.family = np.zeros(CAPACITY_MIN, np.int64)
        self.discount = np.zeros(CAPACITY_MIN, np.float64)
        self.stock = np.full(CAPACITY_MIN, np.nan)
        self._records: list[bytes] = [b""] * CAPACITY_MIN
        self._facts: list[Facts | None] = [None] * CAPACITY_MIN
        self._quantities: list[float | None] = [None] * CAPACITY_MIN
        self._due: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []
        self._columns: dict[str, Column] = {}
        self._names: set[str] = set()
        self._named = 0

    # Items

    def kept(self, key: Hashable, owner: object, work: Callable[[], T]) -> T:
        """What `work` gives, worked out once until anything of the columns changes.

        `key` may name `owner` by its identity; the owner is kept with the result, so that no other object can have it.
        """
        found = self._kept.get(key)
        if found is None or found[0] is not owner:
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            found = self._kept[key] = (owner, work())
        kept: T = found[1]
        return kept

    def _changed(self) -> None:
        self._kept.clear()
        self.changes += 1

    def grow(self, capacity: int) -> None:
        """Make room for ordinals below `capacity`."""
        self._changed()
        more = capacity - self.capacity
        for name in ("present", "family", *DERIVED):
            old = getattr(self, name)
            vacant = np.full(more, np.nan) if name == "stock" else np.zeros(more, old.dtype)
            setattr(self, name, np.concatenate((old, vacant)))
        self._records += [b""] * more
        self._facts += [None] * more
        self._quantities += [None] * more
        for column in self._columns.values():
            column.grow(capacity)
        self.capacity = capacity

    def put(self, ordinal: int, record: bytes, facts: Facts, quantity: float | None) -> None:
        """This is the ordinal's item now: record (JSON object), what is derived from it, its level."""
        self._changed()
        while ordinal >= self.capacity:
            self.grow(self.capacity * 2)
        if (self._columns or ordinal < self._named) and record != self._records[ordinal]:
            values = record_values(record)
            self._names.update(values)
            for name, column in self._columns.items():
                column.put(ordinal, values.get(name, ()))
        self.present[ordinal] = True
        self.family[ordinal] = family_number(facts.group)
        self._records[ordinal] = record
        self._facts[ordinal] = facts
        self._quantities[ordinal] = quantity
        self._flag(ordinal, facts, quantity)

    def put_quantity(self, ordinal: int, quantity: float | None) -> None:
        """The level of a present item is this now."""
        self._changed()
        facts = self._facts[ordinal]
        assert facts is not None, f"ordinal {ordinal} has no item"
        self._quantities[ordinal] = quantity
        turned = flags(facts, quantity, self.now_ms, self._low_stock_at)
        self.stock[ordinal] = np.nan if quantity is None else quantity
        self.low_stock[ordinal] = turned.low_stock
        self.out_of_stock[ordinal] = turned.out_of_stock
        self.in_stock[ordinal] = turned.in_stock

    def remove(self, ordinal: int) -> None:
        """The ordinal has no item any more."""
        self._changed()
        self.present[ordinal] = False
        self.family[ordinal] = 0
        for name in DERIVED:
            getattr(self, name)[ordinal] = np.nan if name == "stock" else 0
        for column in self._columns.values():
            column.put(ordinal, ())
        self._records[ordinal] = b""
        self._facts[ordinal] = None
        self._quantities[ordinal] = None
        self._due.pop(ordinal, None)

    def advance(self, now_ms: int) -> None:
        """Let time go on to `now_ms` (Unix ms) and turn the flags that it turns; far back if the clock was set back."""
        if now_ms < self.now_ms - CLOCK_STEP_MS:
            self._set_back(now_ms)
        self.now_ms = max(self.now_ms, now_ms)
        while self._heap and self._heap[0][0] <= self.now_ms:
            due_ms, ordinal = heapq.heappop(self._heap)
            facts = self._facts[ordinal]
            if self._due.get(ordinal) == due_ms and facts is not None:
                self._flag(ordinal, facts, self._quantities[ordinal])

    def _set_back(self, now_ms: int) -> None:
        """Windows that opened or closed too soon do so again when it is time."""
        self.now_ms = now_ms
        for ordinal, facts in enumerate(self._facts):
            if facts is not None and turns_by_time(facts):
                self._flag(ordinal, facts, self._quantities[ordinal])

    def _flag(self, ordinal: int, facts: Facts, quantity: float | None) -> None:
        self._changed()
        now = flags(facts, quantity, self.now_ms, self._low_stock_at)
        self.on_sale[ordinal] = now.on_sale
        self.discount[ordinal] = now.discount
        self.stock[ordinal] = np.nan if now.stock is None else now.stock
        self.low_stock[ordinal] = now.low_stock
        self.out_of_stock[ordinal] = now.out_of_stock
        self.in_stock[ordinal] = now.in_stock
        due_ms = next_turn_ms(facts, self.now_ms)
        if due_ms is None:
            self._due.pop(ordinal, None)
        elif self._due.get(ordinal) != due_ms:
            self._due[ordinal] = due_ms
            heapq.heappush(self._heap, (due_ms, ordinal))
            if len(self._heap) > 2 * len(self._due) + HEAP_SLACK:  # of sales whose ends were moved again and again
                self._heap = [(due_ms, ordinal) for ordinal, due_ms in self._due.items()]
                heapq.heapify(self._heap)

    # Filters

    def mask(self, tree: Filter) -> Mask:
        """bool[capacity] the items that the filter lets through."""
        return self._mask(tree) & self.present

    def same_as(self, attribute: str, values: Sequence[Scalar]) -> Mask:
        """bool[capacity] the items of which one value of the attribute equals one of `values`, as facets compare."""
        if attribute in DERIVED:
            mask = np.zeros(self.capacity, np.bool_)
            for text in {facet_text(value) for value in values}:
                mask |= self._derived_text(attribute, text)
            return mask & self.present
        return self._column(attribute).equal(values) & self.present

    def _mask(self, tree: Filter) -> Mask:
        if isinstance(tree, And | Or):
            joint = np.logical_and if isinstance(tree, And) else np.logical_or
            mask = self._mask(tree.parts[0])
            for part in tree.parts[1:]:
                joint(mask, self._mask(part), out=mask)
            return mask
        if isinstance(tree, Not):
            return ~self._mask(tree.part)
        if isinstance(tree, Facet):
            return self._facet(tree)
        if tree.attribute not in DERIVED:
            column = self._column(tree.attribute)
            if isinstance(tree, Range):
                return column.within(tree.low, tree.high)
            return column.compare(tree.operator, tree.number)
        numbers = self._derived_numbers(tree.attribute)
        if isinstance(tree, Range):
            return (numbers >= tree.low) & (numbers <= tree.high)
        return compare_numbers(numbers, tree.operator, tree.number)

    def _facet(self, tree: Facet) -> Mask:
        if tree.attribute not in DERIVED:
            return self._column(tree.attribute).facet(tree.value)
        mask = np.zeros(self.capacity, np.bool_)
        for text in facet_texts(tree.value):
            mask |= self._derived_text(tree.attribute, text)
        return mask

    def _derived_numbers(self, attribute: str) -> NDArray[np.float64]:
        values: NDArray[Any] = getattr(self, attribute)
        return values.astype(np.float64, copy=False)

    def _derived_text(self, attribute: str, text: str) -> Mask:
        values: NDArray[Any] = getattr(self, attribute)
        if values.dtype == np.bool_:
            return values == (text == "true") if text in ("true", "false") else np.zeros(self.capacity, np.bool_)
        number = number_of(text)
        if number is None or facet_text(number) != text:
            return np.zeros(self.capacity, np.bool_)
        mask: Mask = values == number
        return mask

    def _column(self, attribute: str) -> Column:
        self.read_names(self.capacity)
        column = self._columns.pop(attribute, None)
        if column is None:
            column = self._build(attribute)
            if len(self._columns) >= COLUMNS_MAX:
                del self._columns[next(iter(self._columns))]
        if attribute in self._names:
            self._columns[attribute] = column
        return column

    def _build(self, attribute: str) -> Column:
        column = Column(self.capacity)
        if attribute in self._names:
            read = reader_of(attribute)
            for ordinal in np.flatnonzero(self.present).tolist():
                values = read(self._records[ordinal])
                if values:
                    column.put(ordinal, values)
        return column

    def read_names(self, ordinals: int) -> bool:
        """Read the attributes' names of the next so many ordinals; whether there are any left.

        They are every attribute that an item has, or had: a filter that asks for any other reads no record.
        """
        end = min(self._named + ordinals, self.capacity)
        for ordinal in range(self._named, end):
            if self.present[ordinal]:
                self._names.update(names_of(self._records[ordinal]))
        self._named = end
        return end < self.capacity


def family_number(group: str | None) -> int:
    """A number for a variant family, the same in every shard; 0 for an item without one."""
    if group is None:
        return 0
    return int.from_bytes(hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=7).digest()) + 1
