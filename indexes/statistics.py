"""When to fit the catalog's mean anew: a running sum of its vectors, and a rule for growth and drift."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COUNT_MIN = 16
"""Vectors below which a mean says more about the few items than about the catalog."""
GROWTH = 2.0
"""A catalog that has grown this much since the last fit is fitted anew."""
DRIFT_MAX = 0.05
"""So far may the mean move (Euclidean, of unit vectors) before it is fitted anew."""


class MeanFit:
    """Running sum of an item's unit vectors float32[R, D], item by item."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.count = 0
        self._sum = np.zeros(dimension, np.float64)
        self._by_item: dict[str, tuple[NDArray[np.float32], int]] = {}
        self._fitted: NDArray[np.float32] | None = None
        self._fitted_count = 0

    def add(self, item_id: str, vectors: NDArray[np.float32]) -> None:
        """Take in an item's vectors in place of those it had."""
        self.remove(item_id)
        total = vectors.sum(axis=0, dtype=np.float32)
        self._by_item[item_id] = (total, len(vectors))
        self._sum += total
        self.count += len(vectors)

    def remove(self, item_id: str) -> None:
        """Forget an item; one that is not known is nothing to forget."""
        total, count = self._by_item.pop(item_id, (None, 0))
        if total is not None:
            self._sum -= total
            self.count -= count

    def adopt(self, mean: NDArray[np.float32], count: int) -> None:
        """A mean float32[D] of `count` vectors is in force: the next `due` is judged against it."""
        self._fitted, self._fitted_count = mean, count

    def due(self) -> bool:
        """Whether the mean is to be fitted anew now."""
        if self.count < COUNT_MIN:
            return False
        if self._fitted is None or self.count >= GROWTH * self._fitted_count:
            return True
        return float(np.linalg.norm(self._sum / self.count - self._fitted)) > DRIFT_MAX

    def fit(self) -> tuple[NDArray[np.float32], int]:
        """The mean float32[D] and how many vectors it is of; the next `due` is judged against it."""
        mean = (self._sum / self.count).astype(np.float32)
        self.adopt(mean, self.count)
        return mean, self.count
