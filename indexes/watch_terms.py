"""Terms: what a question asks of an item, for one item at a time.

`conditions.py` says the same for all items of a shard at once; here is what a single changed item is asked, when it is
to be known which lists it may enter.  Questions with equal terms share one object.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from indexes.conditions import FACTOR_MAX, FACTOR_MIN, Equal
from indexes.question import Question
from models.filter_arrays import Optional, OptionalSum, factor_of
from models.filter_tree import Filter, Scalar, all_of, attributes_of, facet_text, matches
from models.rule import Boost, Rule
from models.stock import DERIVED

Values = Mapping[str, Sequence[Scalar]]


class Terms:
    """Filters, hiding, stock and factors of some questions."""

    def __init__(self, rules: tuple[Rule, ...], question: Question) -> None:
        request = question.request
        self.rules = rules
        """Kept, so that no other rules get their identity while these terms are known by it."""
        self.filter: Filter | None = all_of([request.filter, *[rule.filter for rule in rules]])
        self.equal: tuple[Equal, ...] = tuple([one.equal for one in question.same])
        self.hidden = frozenset[str]().union(*[rule.hide for rule in rules])
        self.boosts: tuple[Boost | Optional, ...] = (*request.optional, *[one for rule in rules for one in rule.boosts])
        self.out_of_stock = request.out_of_stock
        asked = {one.attribute for one in self.equal}
        if self.filter is not None:
            asked |= attributes_of(self.filter)
        for boost in self.boosts:
            for part in boost.parts if isinstance(boost, OptionalSum) else (boost,):
                asked |= attributes_of(part.filter)
        if not self.out_of_stock:
            asked.add("in_stock")
        self.derived = frozenset(asked).intersection(DERIVED)
        """The derived attributes that matter."""
        most = 1.0
        for boost in self.boosts:
            if isinstance(boost, OptionalSum):
                most *= factor_of(sum(max(part.score, 0.0) for part in boost.parts))
            else:
                most *= max(boost.factor, 1.0)
        self.factor_most = min(most, FACTOR_MAX)
        """No item has a larger factor."""

    @staticmethod
    def key(question: Question) -> Hashable:
        """The same for questions with equal terms, as long as their rules live."""
        request = question.request
        same = tuple(
            [(one.equal.attribute, one.equal.negative, *map(_exact, one.equal.values)) for one in question.same]
        )
        return tuple(map(id, question.rules)), request.filter, request.optional, same, request.out_of_stock

    def factor(self, item_id: str, values: Values) -> float:
        """The factor of an item with these values, derived ones included; 0: it may not be a hit."""
        if item_id in self.hidden or not (self.out_of_stock or values["in_stock"][0]):
            return 0.0
        if self.filter is not None and not matches(self.filter, values):
            return 0.0
        for one in self.equal:
            wanted = {facet_text(value) for value in one.values}
            if any(facet_text(value) in wanted for value in values.get(one.attribute, ())) is one.negative:
                return 0.0
        factor = 1.0
        for boost in self.boosts:
            if isinstance(boost, OptionalSum):
                factor *= factor_of(sum([part.score for part in boost.parts if matches(part.filter, values)]))
            elif matches(boost.filter, values):
                factor *= boost.factor
        return min(max(factor, FACTOR_MIN), FACTOR_MAX)


def _exact(value: Scalar) -> tuple[str, Scalar]:
    """Python takes 1, 1.0 and true for the same key; facets do not."""
    return type(value).__name__, value
