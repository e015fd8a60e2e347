"""What goes into a search and comes out of it: a shard with what is asked of it, weights of its rows, candidates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.delta import Delta
from indexes.rows import Part, Rows
from indexes.shard_settings import ShardSettings

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Ints = NDArray[np.intp]


class Candidates(NamedTuple):
    """The best items for one query, best first."""

    ordinals: NDArray[np.int32]
    similarity: NDArray[np.float32]
    """Centred cosine of the item's best image, by its full vector."""
    image: NDArray[np.int16]
    """Which image that is: index in the record's images."""
    fields: NDArray[np.int16]
    """Which of the searched shards the item is in."""
    factors: NDArray[np.float32]
    """What the similarity is multiplied by."""


_NONE = np.zeros(0)
NOTHING = Candidates(
    _NONE.astype(np.int32),
    _NONE.astype(np.float32),
    _NONE.astype(np.int16),
    _NONE.astype(np.int16),
    _NONE.astype(np.float32),
)


class Field(NamedTuple):
    """One shard, as far as a search sees it, with what is asked of it."""

    rows: Rows
    item_ids: Sequence[str]
    settings: ShardSettings
    items: int
    """Items that have a row."""
    allowed: Sequence[Mask | None]
    """By query: bool[N] by ordinal, None: all."""
    factors: Sequence[NDArray[np.floating] | None]
    """By query: positive factors [N] by ordinal, None: 1.  A factor of 0 rules an item out."""


class Found(NamedTuple):
    """The candidates of several queries, one after the other."""

    candidates: Candidates
    bounds: list[int]
    """Where those of each query begin, and where the last ones end."""

    def apart(self) -> list[Candidates]:
        """Those of each query."""
        if len(self.bounds) == 2:
            return [self.candidates]
        return [
            Candidates._make([each[start:stop] for each in self.candidates]) for start, stop in pairwise(self.bounds)
        ]

    def replaced(self, numbers: Sequence[int], by: Found) -> Found:
        """With those of the queries with these numbers as `by` has them."""
        parts = []
        for number in range(len(self.bounds) - 1):
            one = by if number in numbers else self
            parts.append([each[one.bounds[number] : one.bounds[number + 1]] for each in one.candidates])
        bounds = np.cumsum([0, *[len(part[0]) for part in parts]]).tolist()
        return Found(Candidates._make(map(np.concatenate, zip(*parts, strict=True))), bounds)


Groups = dict[tuple[int, ...], "list[Weights]"]
"""Weights by field of what queries have in common, by the identity of their masks and factors."""


class Weights:
    """Weights of one group in one field; good until its shard changes."""

    def __init__(self, allowed: Mask | None, factors: NDArray[np.floating] | None) -> None:
        self.asked = (allowed, factors)
        """Held, so that no others get their identity."""
        self._of_delta: tuple[Floats, int] | None = None
        self.by_ordinal: Floats | None = None
        self.matching: int | None = None
        if factors is not None:
            self.by_ordinal = factors.astype(np.float32)
            if allowed is not None:
                self.by_ordinal *= allowed
        elif allowed is not None:
            self.by_ordinal = allowed.astype(np.float32)
        self.uneven = factors is not None

    def of_delta(self, delta: Delta) -> tuple[Floats, int]:
        """float32[width] by position, and how many are not 0."""
        if self._of_delta is None:
            weights = self.of(delta, delta.width)
            self._of_delta = (weights, int(np.count_nonzero(weights)))
        return self._of_delta

    def of(self, part: Part, width: int) -> Floats:
        """float32[width] by position."""
        shown = part.shown[:width]
        return shown if self.by_ordinal is None else self.by_ordinal.take(part.owner[:width]) * shown

    def at(self, part: Part, positions: Ints) -> Floats:
        """float32[K] at these positions."""
        shown = part.shown[positions]
        return shown if self.by_ordinal is None else self.by_ordinal[part.owner[positions]] * shown

    def items(self, most: int) -> int:
        """About how many items match."""
        return most if self.by_ordinal is None else min(most, int(np.count_nonzero(self.by_ordinal)))
