"""Selection: from all similarities of a batch, the few that may be among the best.

1. Similarities come multiplied by weights, 0 for rows that do not match.
2. The best of each block of rows; the `wanted`-th best of those is a bound that at least `wanted` rows reach.  That is
   several times as quick as a partition of all rows.
3. What reaches the bound, less the error of a matrix product, is selected: seldom more than one row beyond `wanted`.
4. A query with fewer than `wanted` rows above 0 is looked at alone, with negative similarities adjusted the right way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexes.delta import BLOCK

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]


class Scratch:
    """Memory that a search writes its scores into: asked anew each time, the system would clear every page of it."""

    def __init__(self) -> None:
        self._scores = np.empty(0, np.float32)
        self._reached = np.empty(0, np.bool_)

    def scores(self, lines: int, width: int) -> NDArray[np.float32]:
        """float32[lines, width] with anything in it; good until the next call."""
        size = lines * width
        if size > len(self._scores):
            self._scores = np.empty(size, np.float32)
        return self._scores[:size].reshape(lines, width)

    def reached(self, lines: int, width: int) -> NDArray[np.bool_]:
        """bool[lines, width] with anything in it; good until the next call."""
        size = lines * width
        if size > len(self._reached):
            self._reached = np.empty(size, np.bool_)
        return self._reached[:size].reshape(lines, width)


def select(
    weighted: Floats, weights: Floats, lines: Ints, wanted: int, error: float, scratch: Scratch
) -> tuple[Ints, Ints]:
    """Which query and row: all rows that may be among the best `wanted` of a query.

    `weights` float32[G, M]: positive, or 0 where a row does not match.  `lines` int[B]: the line of weights of each
    query.  `weighted` float32[B, M]: similarities, each off by at most `error`, times those weights.
    """
    width = weighted.shape[1]
    reached = scratch.reached(*weighted.shape)
    block = 4 * BLOCK
    while width // block < 4 * wanted and block > 1:
        block //= 2
    across = width // block
    best = weighted[:, : across * block].reshape(len(weighted), block, across).max(axis=1)
    last = min(wanted, across)
    bound = np.partition(best, -last, axis=1)[:, -last]
    slack = 2 * error * weights.max(axis=1)[lines]
    # Rows that do not match have 0, and negative similarities are not adjusted right: a bound above both is needed.
    rich = bound > slack
    np.greater_equal(weighted, np.where(rich, bound - slack, np.float32(np.inf))[:, None], out=reached)
    for poor in np.flatnonzero(~rich).tolist() if np.count_nonzero(rich) < len(rich) else ():
        weight = weights[lines[poor]]
        matching = np.flatnonzero(weight)
        if len(matching) > wanted:
            weight = weight[matching]
            right = adjusted(weighted[poor, matching] / weight, weight)
            least = np.partition(right, -wanted)[-wanted]
            matching = matching[right >= least - 2 * error * max(weight.max(), 1 / weight.min())]
        reached[poor, matching] = True
    if len(reached) == 1:
        column = reached[0].nonzero()[0]
        return np.zeros(len(column), np.intp), column
    return np.divmod(np.flatnonzero(reached), width)


def adjusted(similarity: Floats, factor: Floats) -> Floats:
    """`similarity * factor` where it is positive, `similarity / factor` below 0: a boost never moves an item down."""
    return np.where(similarity > 0, similarity * factor, similarity / factor)
