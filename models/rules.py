"""Merchandising rules: read, and kept as the book of those in force.

A rule is Algolia's Recommend rule and more (docs: `condition`, `consequence`, `validity`); what it means is
`models/rule.py`, which of many apply `models/rule_index.py`.  What is easy to get wrong:

* Windows are Unix *seconds* in the rule and ms in here: `from <= now < until`.
* The built-in rule applies beside the others until a rule named `default` replaces it, also by a disabled one.
* Null is the same as absent: many serializers write every field.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from models.errors import BadEvent, BadRequest
from models.field_values import shown
from models.filter_arrays import optional_filters
from models.outside_json import flag_of, kind_of, list_of, object_of, read_object, text_of
from models.query_parameters import read_filter
from models.rule import Boost, Pin, Rule, SameAs, Source
from models.rule_index import RuleIndex
from models.stock import DERIVED

__all__ = ["DEFAULT_RULE", "DEFAULT_RULE_ID", "Boost", "Pin", "Rule", "RuleBook", "SameAs", "parse_rule"]

RULE_BYTES_MAX = 1_000_000
DEFAULT_RULE_ID = "default"
FACTOR_MAX = 1_000.0
PIN_POSITION_MAX = 999
"""A reply has at most 1,000 hits."""


class RuleBook:
    """The rules in force, found by what a request is about."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules: dict[str, Rule] = {}
        self._index = RuleIndex()
        self._asking = 0
        self._asking_flags = 0
        self._ordered: tuple[Rule, ...] | None = None
        self.changes = 0
        """Counts up with every rule that is put or removed."""
        for rule in (DEFAULT_RULE, *rules):
            self.put(rule)

    def put(self, rule: Rule) -> None:
        """Takes the rule in place of an earlier one of its id."""
        self._forget(rule.rule_id)
        self._rules[rule.rule_id] = rule
        if rule.enabled:
            self._index.put(rule)
            self._count(rule, 1)

    def remove(self, rule_id: str) -> None:
        """Forgets the rule; the built-in one comes back if it was named `default`."""
        self._forget(rule_id)
        if rule_id == DEFAULT_RULE_ID:
            self.put(DEFAULT_RULE)

    def _forget(self, rule_id: str) -> None:
        self._ordered = None
        self.changes += 1
        before = self._rules.pop(rule_id, None)
        if before is not None and before.enabled:
            self._index.discard(before)
            self._count(before, -1)

    def _count(self, rule: Rule, times: int) -> None:
        asked = rule.asked()
        self._asking += times * bool(asked)
        self._asking_flags += times * (not asked.isdisjoint(DERIVED))

    def get(self, rule_id: str) -> Rule | None:
        return self._rules.get(rule_id)

    def in_force(self) -> tuple[Rule, ...]:
        """All enabled rules in the order of precedence, whatever their windows."""
        if self._ordered is None:
            enabled = [rule for rule in self._rules.values() if rule.enabled]
            self._ordered = tuple(sorted(enabled, key=Rule.precedence))
        return self._ordered

    @property
    def asks_source(self) -> bool:
        """Whether any rule has something to ask of the source item, so that its values are needed."""
        return self._asking > 0

    @property
    def asks_flags(self) -> bool:
        """Whether the derived attributes are among what any rule asks of the source item."""
        return self._asking_flags > 0

    def applicable(self, sources: Sequence[Source], contexts: Collection[str], now_ms: int) -> tuple[Rule, ...]:
        """The rules that apply to a request, in the order of precedence.

        `sources`: per source item its values by dotted path, derived attributes over them where `asks_flags`;
        `contexts`: the request's.
        """
        return self._index.applicable(sources, contexts, now_ms)


def parse_rule(rule_id: str, value: bytes) -> Rule:
    """The rule of an event of `rule-changes`.  BadEvent says where and what was expected."""
    try:
        return _rule(rule_id, value, read_object(value, RULE_BYTES_MAX))
    except BadRequest as error:
        raise BadEvent(f"rule {shown(rule_id)}: {error}") from error


def _rule(rule_id: str, raw: bytes, body: dict[str, Any]) -> Rule:
    if not rule_id:
        raise BadRequest("expected a rule id as the key")
    fields = object_of(body, "", _RULE_FIELDS)
    if fields.get("objectID", rule_id) != rule_id:
        raise BadRequest(f"objectID: expected the key, {shown(rule_id)}, got {shown(fields['objectID'])}")
    condition = object_of(fields.get("condition", {}), "condition", ("filters", "context"))
    consequence = object_of(fields.get("consequence", {}), "consequence", ("hide", "promote", "params"))
    place = "consequence.params"
    params = object_of(consequence.get("params", {}), place, _PARAMS)
    optional = [
        Boost(scored.filter, scored.factor, scored.text)
        for scored in optional_filters(params.get("optionalFilters", []), f"{place}.optionalFilters")
    ]
    boosts = [
        _boost(boost, f"{place}.boosts[{number}]")
        for number, boost in enumerate(list_of(params.get("boosts", []), f"{place}.boosts"))
    ]
    return Rule(
        rule_id=rule_id,
        condition=read_filter(condition.get("filters", ""), "condition.filters"),
        context=text_of(condition["context"], "condition.context") if "context" in condition else None,
        hide=frozenset(
            _item_id(hidden, f"consequence.hide[{number}]", ("objectID",))
            for number, hidden in enumerate(list_of(consequence.get("hide", []), "consequence.hide"))
        ),
        pins=_pins(list_of(consequence.get("promote", []), "consequence.promote")),
        filter=read_filter(params.get("filters", ""), f"{place}.filters"),
        same_as=tuple(
            _same_as(facet, f"{place}.automaticFacetFilters[{number}]")
            for number, facet in enumerate(
                list_of(params.get("automaticFacetFilters", []), f"{place}.automaticFacetFilters")
            )
        ),
        boosts=(*optional, *boosts),
        validity=tuple(
            _window(window, f"validity[{number}]")
            for number, window in enumerate(list_of(fields.get("validity", []), "validity"))
        ),
        enabled=flag_of(fields.get("enabled", True), "enabled"),
        description=text_of(fields.get("description", ""), "description"),
        raw=raw,
    )


_RULE_FIELDS = ("objectID", "condition", "consequence", "description", "enabled", "validity", "_metadata")
"""`_metadata` is what Algolia adds to the rules that it gives out; people send them back with it."""
_PARAMS = ("filters", "optionalFilters", "automaticFacetFilters", "boosts")


def _item_id(value: object, where: str, known: tuple[str, ...]) -> str:
    item_id = object_of(value, where, known).get("objectID")
    if not isinstance(item_id, str) or not item_id:
        raise BadRequest(f"{where}.objectID: expected an item id, got {shown(item_id)}")
    return item_id


def _pins(promoted: list[Any]) -> tuple[Pin, ...]:
    pins = []
    for number, value in enumerate(promoted):
        where = f"consequence.promote[{number}]"
        item_id = _item_id(value, where, ("objectID", "position"))
        position = value.get("position")
        if type(position) is not int or not 0 <= position <= PIN_POSITION_MAX:
            raise BadRequest(f"{where}.position: expected 0 to {PIN_POSITION_MAX}, got {shown(position)}")
        pins.append(Pin(item_id, position))
    return tuple(pins)


def _same_as(value: object, where: str) -> SameAs:
    fields = object_of(value, where, ("facet", "negative"))
    facet = text_of(fields.get("facet"), f"{where}.facet")
    negative = fields.get("negative", False)
    if not facet or not isinstance(negative, bool):
        raise BadRequest(f'{where}: expected {{"facet": attribute, "negative": true or false}}')
    return SameAs(facet, negative)


def _boost(value: object, where: str) -> Boost:
    fields = object_of(value, where, ("filters", "factor"))
    filter = read_filter(fields.get("filters", ""), f"{where}.filters")
    factor = fields.get("factor")
    if filter is None:
        raise BadRequest(f"{where}.filters: expected a filter, got {shown(fields.get('filters'))}")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor <= FACTOR_MAX:
        raise BadRequest(f"{where}.factor: expected a number above 0 and up to {FACTOR_MAX:g}, got {shown(factor)}")
    return Boost(filter, float(factor), fields["filters"])


def _window(value: object, where: str) -> tuple[int | None, int | None]:
    fields = object_of(value, where, ("from", "until"))
    begin, end = _moment_ms(fields.get("from"), f"{where}.from"), _moment_ms(fields.get("until"), f"{where}.until")
    if begin is not None and end is not None and begin >= end:
        raise BadRequest(f"{where}: expected until after from")
    return begin, end


def _moment_ms(value: object, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 253_402_300_799:
        hint = " (ms?)" if isinstance(value, int | float) and value > 253_402_300_799 else ""
        got = shown(value) if isinstance(value, int | float) else kind_of(value)
        raise BadRequest(f"{where}: expected Unix seconds, got {got}{hint}")
    return math.floor(value * 1000)


DEFAULT_RULE = parse_rule(
    DEFAULT_RULE_ID,
    b'{"objectID":"default","description":"on sale first, running low last","consequence":{"params":{"boosts":['
    b'{"filters":"on_sale:true","factor":1.15},{"filters":"low_stock:true","factor":0.7}]}}}',
)
"""In force without being asked for; a rule named `default` replaces it."""
