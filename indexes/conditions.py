"""Conditions: which items of each shard a request may be answered with, and the factors on their scores.

Requests that ask for the same share the same arrays, which also lets the search treat them together.  One object must
not outlive a change to the shards or the rules.  Where one shard changes, the columns of the others keep their arrays.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.shard import Shard
from models.filter_arrays import Optional, OptionalSum, factor_of
from models.filter_tree import Filter, Scalar, all_of
from models.rule import Boost, Rule

Mask = NDArray[np.bool_]
Masks = list[Mask | None]
Factors = list[NDArray[np.float32] | None]

FACTOR_MIN, FACTOR_MAX = 1e-3, 1e3
"""Bounds of all factors on one item together; beyond them float32 similarities would lose what tells items apart."""


class Equal(NamedTuple):
    """Only items that share a value of the attribute, or, `negative`, only those that do not."""

    attribute: str
    values: tuple[Scalar, ...]
    negative: bool = False


class Conditions:
    """Masks and factors by shard, each worked out once."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._allowed: dict[Hashable, Masks] = {}
        self._factors: dict[Hashable, Factors] = {}
        self._found: dict[Filter, list[Mask]] = {}
        self._ids: dict[int, tuple[tuple[Rule, ...], tuple[str, ...]]] = {}

    def __len__(self) -> int:
        """How much is kept: combinations of rules, filters, masks and factors."""
        return len(self._allowed) + len(self._factors) + len(self._found) + len(self._ids)

    def allowed(
        self, rules: tuple[Rule, ...], filter: Filter | None, equal: tuple[Equal, ...], *, out_of_stock: bool
    ) -> Masks:
        """Per shard bool[N] of the items that pass filter, `equal`, and the rules' filters and hiding; None: all."""
        same = tuple([(one.attribute, one.negative, *map(_exact, one.values)) for one in equal]) if equal else ()
        key = (self._rule_ids(rules), filter, same, out_of_stock)
        masks = self._allowed.get(key)
        if masks is None:
            kept = ("allowed", id(rules), key)
            masks = [
                shard.columns.kept(kept, rules, partial(self._mask, number, rules, filter, equal, out_of_stock))
                for number, shard in enumerate(self._shards)
            ]
            self._allowed[key] = masks
        return masks

    def factors(self, rules: tuple[Rule, ...], optional: tuple[Optional, ...]) -> Factors:
        """Per shard float32[N], the product of the factors that find an item; None: 1 for all."""
        key = (self._rule_ids(rules), optional)
        factors = self._factors.get(key)
        if factors is None:
            boosts = [*optional, *[boost for rule in rules for boost in rule.boosts]]
            kept = ("factors", id(rules), key)
            factors = [
                shard.columns.kept(kept, rules, partial(self._product, number, boosts))
                for number, shard in enumerate(self._shards)
            ]
            self._factors[key] = factors
        return factors

    def found(self, filter: Filter) -> list[Mask]:
        """Per shard bool[N] of the items that the filter finds; not to be changed."""
        masks = self._found.get(filter)
        if masks is None:
            masks = self._found[filter] = [shard.columns.mask(filter) for shard in self._shards]
        return masks

    def factor(self, boost: Boost | Optional, number: int) -> NDArray[np.float32] | None:
        """float32[N], one boost's factor on each item of a shard; None: it changes none."""
        if isinstance(boost, OptionalSum):
            total = np.zeros(self._shards[number].capacity)
            for part in boost.parts:
                total += np.where(self.found(part.filter)[number], part.score, 0.0)
            scores, at = np.unique(total, return_inverse=True)
            if not scores.any():
                return None
            return np.array([factor_of(score) for score in scores.tolist()], np.float32)[at]
        found = self.found(boost.filter)[number]
        if boost.factor == 1 or not found.any():
            return None
        return np.where(found, np.float32(boost.factor), np.float32(1))

    def same(self, equal: Equal, number: int) -> Mask:
        """bool[N] of a shard's items that are the same, or not."""
        columns = self._shards[number].columns
        found = columns.same_as(equal.attribute, equal.values)
        return columns.present & ~found if equal.negative else found

    def hidden(self, item_ids: Iterable[str], number: int) -> list[int]:
        """Ordinals of those that are in a shard."""
        shard = self._shards[number]
        return [ordinal for item_id in item_ids if (ordinal := shard.ordinal(item_id)) is not None]

    def _rule_ids(self, rules: tuple[Rule, ...]) -> tuple[str, ...]:
        """By identity first: most requests have the very same rules, and there may be many."""
        known = self._ids.get(id(rules))
        if known is None:
            known = self._ids[id(rules)] = (rules, tuple([rule.rule_id for rule in rules]))
        return known[1]

    def _mask(
        self,
        number: int,
        rules: tuple[Rule, ...],
        filter: Filter | None,
        equal: tuple[Equal, ...],
        out_of_stock: bool,
    ) -> Mask | None:
        columns = self._shards[number].columns
        filter = all_of([filter, *[rule.filter for rule in rules]])
        hidden = frozenset[str]().union(*[rule.hide for rule in rules])
        mask = None if out_of_stock else columns.in_stock
        if filter is not None:
            found = columns.mask(filter)
            mask = found if mask is None else mask & found
        for one in equal:
            found = self.same(one, number)
            mask = found if mask is None else mask & found
        if ordinals := self.hidden(hidden, number):
            mask = columns.present.copy() if mask is None else mask.copy()
            mask[ordinals] = False
        return mask

    def _product(self, number: int, boosts: Sequence[Boost | Optional]) -> NDArray[np.float32] | None:
        product: NDArray[np.float32] | None = None
        for boost in boosts:
            factor = self.factor(boost, number)
            if factor is not None:
                product = factor if product is None else np.multiply(product, factor, out=product)
        return None if product is None else np.clip(product, FACTOR_MIN, FACTOR_MAX, out=product)


def _exact(value: Scalar) -> tuple[str, Scalar]:
    """Python takes 1, 1.0 and true for the same key; facets do not."""
    return (type(value).__name__, value)
