"""Conditions: which items of each shard a request may be answered with, and the factors on their scores.

One object serves one batch of requests: those that ask for the same share the same arrays, which also lets the search
treat them together.  It must not outlive a change to the shards.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.shard import Shard
from models.filter_arrays import OptionalFilter
from models.filter_tree import Filter, Scalar, all_of
from models.rules import Boost, Rule

Masks = list[NDArray[np.bool_] | None]
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
        self._masks: dict[Hashable, Masks] = {}
        self._factors: dict[Hashable, Factors] = {}

    def allowed(
        self, rules: Sequence[Rule], filter: Filter | None, equal: tuple[Equal, ...], *, out_of_stock: bool
    ) -> Masks:
        """Per shard bool[N] of the items that pass filter, `equal`, and the rules' filters and hiding; None: all."""
        same = tuple([(one.attribute, one.negative, *map(_exact, one.values)) for one in equal]) if equal else ()
        key = (_ids(rules), filter, same, out_of_stock)
        masks = self._masks.get(key)
        if masks is None:
            filter = all_of([filter, *[rule.filter for rule in rules]])
            hidden = frozenset[str]().union(*[rule.hide for rule in rules])
            masks = [_mask(shard, filter, equal, hidden, out_of_stock) for shard in self._shards]
            self._masks[key] = masks
        return masks

    def factors(self, rules: Sequence[Rule], optional: tuple[OptionalFilter, ...]) -> Factors:
        """Per shard float32[N], the product of the factors that find an item; None: 1 for all."""
        key = (_ids(rules), optional)
        factors = self._factors.get(key)
        if factors is None:
            boosts: tuple[Boost | OptionalFilter, ...] = (
                *optional,
                *(boost for rule in rules for boost in rule.boosts),
            )
            factors = [_product(shard, boosts) for shard in self._shards]
            self._factors[key] = factors
        return factors


def _ids(rules: Sequence[Rule]) -> tuple[str, ...]:
    return tuple([rule.rule_id for rule in rules])


def _exact(value: Scalar) -> tuple[str, Scalar]:
    """Python takes 1, 1.0 and true for the same key; facets do not."""
    return (type(value).__name__, value)


def _mask(
    shard: Shard, filter: Filter | None, equal: tuple[Equal, ...], hidden: frozenset[str], out_of_stock: bool
) -> NDArray[np.bool_] | None:
    columns = shard.columns
    mask = None if out_of_stock else columns.in_stock
    if filter is not None:
        found = columns.mask(filter)
        mask = found if mask is None else mask & found
    for one in equal:
        found = columns.same_as(one.attribute, one.values)
        if one.negative:
            found = columns.present & ~found
        mask = found if mask is None else mask & found
    ordinals = [item.ordinal for item_id in hidden if (item := shard.item(item_id)) is not None]
    if ordinals:
        mask = columns.present.copy() if mask is None else mask.copy()
        mask[ordinals] = False
    return mask


def _product(shard: Shard, boosts: tuple[Boost | OptionalFilter, ...]) -> NDArray[np.float32] | None:
    product: NDArray[np.float32] | None = None
    for boost in boosts:
        found = shard.columns.mask(boost.filter)
        if boost.factor != 1 and found.any():
            if product is None:
                product = np.ones(len(found), np.float32)
            np.multiply(product, np.float32(boost.factor), out=product, where=found)
    return None if product is None else np.clip(product, FACTOR_MIN, FACTOR_MAX, out=product)
