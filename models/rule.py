"""A merchandising rule, understood: whom it applies to, and what it does.

Reading one is `models/rules.py`.  What is easy to get wrong:

* The condition's `filters` is about the *source* item, every consequence about what is recommended.
* A rule with a `filters` condition does not apply where there is no source item (a request by image alone); with
  several source items it applies if one of them meets the whole condition.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from models.filter_tree import Filter, Scalar, attributes_of, matches

Source = Mapping[str, Sequence[Scalar]]
"""What a source item says by dotted path, derived attributes included."""

Precedence = tuple[bool, bool, bool, str]


class Boost(msgspec.Struct, frozen=True, gc=False):
    """The ranking score of what the filter finds is multiplied by `factor`; `text` is how the rule wrote it."""

    filter: Filter
    factor: float
    text: str


class Pin(msgspec.Struct, frozen=True, gc=False):
    """An item's place among the hits, counted from 0."""

    item_id: str
    position: int


class SameAs(msgspec.Struct, frozen=True, gc=False):
    """Only items that share a value of `facet` with the source item, or, `negative`, only those that do not."""

    facet: str
    negative: bool = False


class Rule(msgspec.Struct, frozen=True):
    """One rule, understood."""

    rule_id: str
    condition: Filter | None = None
    context: str | None = None
    hide: frozenset[str] = frozenset()
    pins: tuple[Pin, ...] = ()
    filter: Filter | None = None
    same_as: tuple[SameAs, ...] = ()
    boosts: tuple[Boost, ...] = ()
    """Optional filters stand here too, as factors."""
    validity: tuple[tuple[int | None, int | None], ...] = ()
    """Windows in Unix ms, from inclusive, until exclusive; none: always."""
    enabled: bool = True
    description: str = ""
    raw: bytes = b""
    """The rule as it came."""

    def in_window(self, now_ms: int) -> bool:
        """Whether one of its windows is open."""
        return not self.validity or any(
            (begin is None or begin <= now_ms) and (end is None or now_ms < end) for begin, end in self.validity
        )

    def meets(self, sources: Sequence[Source]) -> bool:
        """Whether the source items are what its condition asks for."""
        return self.condition is None or any(matches(self.condition, values) for values in sources)

    def asked(self) -> frozenset[str]:
        """The attributes of the source item that it asks for."""
        asked = frozenset([one.facet for one in self.same_as])
        return asked if self.condition is None else asked | attributes_of(self.condition)

    def applies(self, sources: Sequence[Source], contexts: Collection[str], now_ms: int) -> bool:
        """Whether it applies to a request from these source items in these contexts."""
        return (
            self.enabled
            and (self.context is None or self.context in contexts)
            and self.in_window(now_ms)
            and self.meets(sources)
        )

    def precedence(self) -> Precedence:
        """Sorts rules first to last: with a context, with filter or boosts, with a window, by id."""
        steers = self.filter is not None or bool(self.boosts) or bool(self.same_as)
        return (self.context is None, not steers, not self.validity, self.rule_id)
