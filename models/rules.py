"""Merchandising rules: read, which of them apply, in which order.

A rule is Algolia's Recommend rule and more (docs: `condition`, `consequence`, `validity`).  What is easy to get wrong:

* The condition's `filters` is about the *source* item, everything in `consequence` about what is recommended.
* A rule with a `filters` condition does not apply where there is no source item (a request by image alone); with
  several source items it applies if one of them meets the whole condition.
* Windows are Unix *seconds* in the rule and ms in here: `from <= now < until`.
* The built-in rule applies beside the others until a rule named `default` replaces it, also by a disabled one.
* Null is the same as absent: many serializers write every field.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from models.errors import BadEvent, BadRequest
from models.field_values import shown
from models.filter_arrays import optional_filters
from models.filter_tree import Filter, Scalar, matches
from models.outside_json import flag_of, kind_of, list_of, object_of, read_object, text_of
from models.query_parameters import read_filter

RULE_BYTES_MAX = 1_000_000
DEFAULT_RULE_ID = "default"
FACTOR_MAX = 1_000.0
PIN_POSITION_MAX = 999
"""A reply has at most 1,000 hits."""


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

    def precedence(self) -> tuple[bool, bool, bool, str]:
        """Sorts rules first to last: with a context, with filter or boosts, with a window, by id."""
        steers = self.filter is not None or bool(self.boosts) or bool(self.same_as)
        return (self.context is None, not steers, not self.validity, self.rule_id)


class RuleBook:
    """The rules in force, kept in the order of precedence."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules = {DEFAULT_RULE_ID: DEFAULT_RULE} | {rule.rule_id: rule for rule in rules}
        self._arrange()

    def put(self, rule: Rule) -> None:
        """Takes the rule in place of an earlier one of its id."""
        self._rules[rule.rule_id] = rule
        self._arrange()

    def remove(self, rule_id: str) -> None:
        """Forgets the rule; the built-in one comes back if it was named `default`."""
        if rule_id == DEFAULT_RULE_ID:
            self._rules[rule_id] = DEFAULT_RULE
        else:
            self._rules.pop(rule_id, None)
        self._arrange()

    def get(self, rule_id: str) -> Rule | None:
        return self._rules.get(rule_id)

    def in_force(self) -> tuple[Rule, ...]:
        """All enabled rules in the order of precedence, whatever their windows."""
        return self._ordered

    @property
    def asks_source(self) -> bool:
        """Whether any rule has something to ask of the source item, so that its values are needed."""
        return self._asks_source

    def applicable(
        self, sources: Sequence[Mapping[str, Sequence[Scalar]]], contexts: Iterable[str], now_ms: int
    ) -> tuple[Rule, ...]:
        """The rules that apply to a request, in the order of precedence.

        `sources`: per source item its values by dotted path, derived attributes included; `contexts`: the request's.
        """
        if self._always:
            return self._ordered
        return tuple([rule for rule in self._ordered if _applies(rule, sources, contexts, now_ms)])

    def _arrange(self) -> None:
        self._ordered = tuple(sorted([rule for rule in self._rules.values() if rule.enabled], key=Rule.precedence))
        self._asks_source = any(rule.condition is not None or rule.same_as for rule in self._ordered)
        self._always = not any(rule.condition or rule.context is not None or rule.validity for rule in self._ordered)


def _applies(
    rule: Rule, sources: Sequence[Mapping[str, Sequence[Scalar]]], contexts: Iterable[str], now_ms: int
) -> bool:
    if rule.context is not None and rule.context not in contexts:
        return False
    if not rule.in_window(now_ms):
        return False
    return rule.condition is None or any(matches(rule.condition, values) for values in sources)


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
