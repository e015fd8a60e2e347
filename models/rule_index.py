"""An index of rules by what they ask of a request: a rule costs only the requests that it may touch.

1. By context: a rule with one is looked at for requests in that context alone.
2. By anchors: from a condition follows that the source item has at least one of a few values (`category:shoes`), or a
   number within an interval (`price > 10`).  The rules of an anchor are looked at when the source item has it.
3. What is found is asked in full (`Rule.meets`, `Rule.in_window`): an anchor is necessary, seldom sufficient.

Of AND the part with the best anchors is taken, of OR all of them; NOT has none.  Rules without anchors are asked each
time; those without any condition are kept ready, sorted, until the next of their windows opens or closes.

Changes are cheap too: 10,000 rules are read one by one when a worker starts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.filter_tree import And, Compare, Facet, Filter, Not, Or, Range, facet_text, facet_texts, number_of
from models.rule import Precedence, Rule, Source

Entries = dict[str, tuple[Precedence, Rule]]
"""Rules by id, each with what it sorts by."""
KEPT_MAX = 100_000
"""Of an attribute: rules kept ready by places of numbers, some megabytes; those beyond are looked up each time."""


class Value(NamedTuple):
    """An anchor: the source item has this value, as facets compare (`facet_text`)."""

    attribute: str
    text: str


class Interval(NamedTuple):
    """An anchor: the source item has a number from `low` to `high`, both included."""

    attribute: str
    low: float
    high: float


Anchor = Value | Interval


def anchors(condition: Filter) -> tuple[Anchor, ...]:
    """What follows from a condition: at least one of these holds for every item that meets it; () if nothing does."""
    if isinstance(condition, Facet):
        return tuple([Value(condition.attribute, text) for text in facet_texts(condition.value)])
    if isinstance(condition, Range):
        return (Interval(condition.attribute, condition.low, condition.high),)
    if isinstance(condition, Compare):
        low = condition.number if condition.operator in ("=", ">", ">=") else -inf
        high = condition.number if condition.operator in ("=", "<", "<=") else inf
        return (Interval(condition.attribute, low, high),)
    if isinstance(condition, Not):
        return ()
    parts = [anchors(part) for part in condition.parts]
    if isinstance(condition, And):
        return min(filter(None, parts), key=_looseness, default=())
    assert isinstance(condition, Or)
    return tuple(dict.fromkeys([anchor for part in parts for anchor in part])) if all(parts) else ()


def _looseness(alternatives: tuple[Anchor, ...]) -> tuple[int, int]:
    """Sorts the anchors that few items have before those that many have, as far as one can tell."""
    return sum(isinstance(anchor, Interval) for anchor in alternatives), len(alternatives)


class RuleIndex:
    """Enabled rules, found by context, source and time."""

    def __init__(self) -> None:
        self._everywhere = _Bucket()
        self._by_context: dict[str, _Bucket] = {}

    def put(self, rule: Rule) -> None:
        """Takes in a rule; one of its id must have been discarded before."""
        bucket = self._everywhere
        if rule.context is not None:
            bucket = self._by_context.setdefault(rule.context, _Bucket())
        bucket.put(rule)

    def discard(self, rule: Rule) -> None:
        """Forgets a rule that was put."""
        bucket = self._everywhere if rule.context is None else self._by_context[rule.context]
        bucket.discard(rule)
        if rule.context is not None and bucket.empty:
            del self._by_context[rule.context]

    def applicable(self, sources: Sequence[Source], contexts: Collection[str], now_ms: int) -> tuple[Rule, ...]:
        """The rules that apply, in the order of precedence; the same object while only unconditional ones do."""
        found: Entries = {}
        self._everywhere.find(sources, now_ms, found)
        if self._by_context:
            for context in contexts:
                if bucket := self._by_context.get(context):
                    bucket.find(sources, now_ms, found)
                    found |= bucket.plain.open_at(now_ms)
        plain = self._everywhere.plain
        if not found:
            return plain.rules_at(now_ms)
        return tuple([rule for _, rule in sorted((found | plain.open_at(now_ms)).values())])


class _Bucket:
    """The rules of one context, or those without one."""

    def __init__(self) -> None:
        self.plain = _Timed()
        self._loose = _Timed()
        self._by_value: dict[str, dict[str, Entries]] = {}
        self._by_number: dict[str, _Intervals] = {}

    @property
    def empty(self) -> bool:
        return not (self.plain.entries or self._loose.entries or self._by_value or self._by_number)

    def put(self, rule: Rule) -> None:
        entry = (rule.precedence(), rule)
        if rule.condition is None:
            self.plain.put(entry)
            return
        found = anchors(rule.condition)
        if not found:
            self._loose.put(entry)
        for anchor in found:
            if isinstance(anchor, Value):
                by_text = self._by_value.setdefault(anchor.attribute, {})
                by_text.setdefault(anchor.text, {})[rule.rule_id] = entry
            else:
                self._by_number.setdefault(anchor.attribute, _Intervals()).put(anchor, entry)

    def discard(self, rule: Rule) -> None:
        if rule.condition is None:
            self.plain.discard(rule.rule_id)
            return
        found = anchors(rule.condition)
        if not found:
            self._loose.discard(rule.rule_id)
        for anchor in found:
            if isinstance(anchor, Value):
                by_text = self._by_value[anchor.attribute]
                by_text[anchor.text].pop(rule.rule_id)
                if not by_text[anchor.text]:
                    del by_text[anchor.text]
                if not by_text:
                    del self._by_value[anchor.attribute]
            else:
                intervals = self._by_number[anchor.attribute]
                intervals.discard(rule.rule_id, anchor)
                if not intervals.entries:
                    del self._by_number[anchor.attribute]

    def find(self, sources: Sequence[Source], now_ms: int, found: Entries) -> None:
        """Adds the rules with a condition that is met, in an open window."""
        if not sources:
            return
        for values in sources:
            for entries in self._touched(values):
                for rule_id, entry in entries.items():
                    if rule_id not in found and entry[1].in_window(now_ms) and entry[1].meets(sources):
                        found[rule_id] = entry
        for rule_id, entry in self._loose.open_at(now_ms).items():
            if entry[1].meets(sources):
                found[rule_id] = entry

    def _touched(self, values: Source) -> list[Entries]:
        """Rules of which one source item has an anchor."""
        touched = []
        for attribute in self._by_value.keys() & values.keys():
            by_text = self._by_value[attribute]
            for value in values[attribute]:
                if entries := by_text.get(facet_text(value)):
                    touched.append(entries)
        for attribute in self._by_number.keys() & values.keys():
            intervals = self._by_number[attribute]
            for value in values[attribute]:
                if (number := number_of(value)) is not None:
                    touched.append(intervals.around(number))
        return touched


class _Timed:
    """Rules of which those in an open window are kept ready."""

    def __init__(self) -> None:
        self.entries: Entries = {}
        self._from: float = inf
        self._until: float = -inf
        self._open: Entries = {}
        self._rules: tuple[Rule, ...] = ()

    def put(self, entry: tuple[Precedence, Rule]) -> None:
        self.entries[entry[1].rule_id] = entry
        self._from, self._until = inf, -inf

    def discard(self, rule_id: str) -> None:
        del self.entries[rule_id]
        self._from, self._until = inf, -inf

    def open_at(self, now_ms: int) -> Entries:
        if not self._from <= now_ms < self._until:
            self._open = {key: entry for key, entry in self.entries.items() if entry[1].in_window(now_ms)}
            self._rules = tuple([rule for _, rule in sorted(self._open.values())])
            turns = [turn for _, rule in self.entries.values() for window in rule.validity for turn in window]
            self._from = max([turn for turn in turns if turn is not None and turn <= now_ms], default=-inf)
            self._until = min([turn for turn in turns if turn is not None and turn > now_ms], default=inf)
        return self._open

    def rules_at(self, now_ms: int) -> tuple[Rule, ...]:
        """In the order of precedence; the same object while nothing changes."""
        self.open_at(now_ms)
        return self._rules


class _Intervals:
    """Rules by an interval each.

    Their bounds cut the numbers into places (the bounds themselves, and what lies between two), and all numbers of a
    place are within the same intervals: what was found for a place is kept, until a rule changes.
    """

    def __init__(self) -> None:
        self.entries: dict[tuple[str, Interval], tuple[Precedence, Rule]] = {}
        self._in_order: list[tuple[Precedence, Rule]] | None = None
        self._bounds: NDArray[np.float64] = np.zeros((2, 0))
        self._cuts: list[float] = []
        self._known: dict[int, Entries] = {}
        self._kept = 0

    def put(self, interval: Interval, entry: tuple[Precedence, Rule]) -> None:
        self.entries[entry[1].rule_id, interval] = entry
        self._in_order = None

    def discard(self, rule_id: str, interval: Interval) -> None:
        del self.entries[rule_id, interval]
        self._in_order = None

    def around(self, number: float) -> Entries:
        """The rules whose interval the number is in; not to be changed."""
        if self._in_order is None:
            self._in_order = list(self.entries.values())
            self._bounds = np.array([(at.low, at.high) for _, at in self.entries]).T
            self._cuts = np.unique(self._bounds).tolist()
            self._known, self._kept = {}, 0
        at = bisect_left(self._cuts, number)
        place = 2 * at + (at < len(self._cuts) and self._cuts[at] == number)
        found = self._known.get(place)
        if found is None:
            low, high = self._bounds
            around = np.flatnonzero((low <= number) & (number <= high)).tolist()
            found = {self._in_order[at][1].rule_id: self._in_order[at] for at in around}
            if self._kept + len(found) < KEPT_MAX and len(self._known) < KEPT_MAX:
                self._known[place] = found
                self._kept += len(found)
        return found
