"""Diversity: hits that look like the source and not too much like each other.

Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the next hit is the candidate with the highest

    (1 - diversity) * relevance - diversity * similarity to the hit that it is most alike

so the first is always the most relevant one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.vectors import Vectors

POOL_MIN, POOL_FACTOR = 500, 5


def pool_size(count: int) -> int:
    """How many candidates `count` hits are chosen from: five times as many up to 500, at least twice as many."""
    return max(2 * count, min(POOL_FACTOR * count, POOL_MIN))


def spread(relevance: NDArray[np.float64], vectors: Vectors, count: int, diversity: float) -> list[int]:
    """Which `count` candidates, in which order.

    `relevance` float64[K], best first; of equals the first is taken.  `vectors` float32[K, D]: unit rows.
    """
    value = (1 - diversity) * relevance
    nearest = np.full(len(relevance), -np.inf)
    chosen: list[int] = []
    while len(chosen) < min(count, len(relevance)):
        best = int(np.argmax(value - diversity * nearest)) if chosen else int(np.argmax(relevance))
        chosen.append(best)
        value[best] = -np.inf
        # Not a matrix product: its last bits differ with its shape, and answers are to be the same byte for byte.
        np.maximum(nearest, np.einsum("kd,d->k", vectors, vectors[best]), out=nearest)
    return chosen
