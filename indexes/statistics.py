"""The catalog's mean: running sums of its vectors, and the rule that says when to fit it anew.

1. The sample is whatever items are told, thinned out by halves when it grows beyond `sample_max` items: an item is in
   it while the last `level` bits of its id's hash are zero.  So it does not depend on the order of events.
2. Sums are of float16 numbers in float64.  Those are exact (multiples of 2**-24, up to 2**28 vectors), so that an item
   taken out leaves nothing behind, and the same items give the same mean to the bit.
3. It is due at first with `count_min` vectors, then when their number has doubled, as long as the mean in force is of
   fewer than `GROWN`; and whenever the mean has drifted by more than `drift_max` and by more than chance explains: a
   mean of n unit vectors is off by about 1/sqrt(n).
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from models.parts import means_apart

COUNT_MIN = 16
"""Vectors below which a mean would say more about the few items than about the catalog; doubling betters it soon."""
SAMPLE_MAX = 50_000
"""Items."""
SAMPLE_NUMBERS_MAX = 7_500_000
"""Of all of them, so that a wide model's take no more memory than others': 15 MB in float16."""
DRIFT_MAX = 0.1
"""Euclidean distance, between means of unit vectors.  Measured in docs/decisions/0008-centring-by-the-catalogs-mean.md:
up to .14 a mean that has stayed behind costs less than .002 of mean average precision."""
GROWTH = 2
GROWN = 1_024
"""Vectors of which a mean is as good as one of all: off by .03, scores by a third of a point."""


class MeanFit:
    """Fits the mean of raw rows float32[R, D] that are told item by item, of which `colour` numbers are colour."""

    def __init__(
        self,
        dimension: int,
        *,
        colour: int = 0,
        count_min: int = COUNT_MIN,
        sample_max: int = SAMPLE_MAX,
        drift_max: float = DRIFT_MAX,
    ) -> None:
        self.dimension = dimension
        self._colour = colour
        self.count = 0
        """Vectors in the sample."""
        self._count_min = count_min
        self._sample_max = min(sample_max, SAMPLE_NUMBERS_MAX // dimension)
        self._drift_max = drift_max
        self._level = 0
        self._items: dict[str, NDArray[np.float16]] = {}
        self._sum = np.zeros(dimension, np.float64)
        self._fitted: NDArray[np.float32] | None = None
        self._fitted_count = 0

    def add(self, item_id: str, vectors: NDArray[np.float32]) -> None:
        """These are the item's vectors now, float[R, D]; R = 0: it has none."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension or not np.isfinite(vectors).all():
            raise ValueError(f"expected finite vectors of {self.dimension} dimensions, got shape {vectors.shape}")
        self.remove(item_id)
        if len(vectors) == 0 or _hash(item_id) % (1 << self._level):
            return
        half = vectors.astype(np.float16)
        self._items[item_id] = half
        self._sum += half.sum(axis=0, dtype=np.float64)
        self.count += len(half)
        while len(self._items) > self._sample_max:
            self._level += 1
            for other in [other for other in self._items if _hash(other) % (1 << self._level)]:
                self.remove(other)

    def remove(self, item_id: str) -> None:
        """Forget an item; one that is not in the sample is nothing to forget."""
        half = self._items.pop(item_id, None)
        if half is not None:
            self._sum -= half.sum(axis=0, dtype=np.float64)
            self.count -= len(half)

    def looks(self) -> NDArray[np.float16]:
        """float16[N, D] of the sample, without colours, in the order of item ids."""
        numbers = self.dimension - self._colour
        rows = [self._items[item_id][:, :numbers] for item_id in sorted(self._items)]
        return np.concatenate(rows) if rows else np.zeros((0, numbers), np.float16)

    def due(self) -> bool:
        """Whether the mean is to be fitted anew now."""
        if self.count < self._count_min:
            return False
        if self._fitted is None:
            return True
        if self._fitted_count < GROWN and self.count >= GROWTH * self._fitted_count:
            return True
        drift = means_apart((self._sum / self.count).astype(np.float32), self._fitted, self._colour)
        return drift > max(self._drift_max, 2 / math.sqrt(min(self.count, self._fitted_count)))

    def fit(self) -> tuple[NDArray[np.float32], int]:
        """The mean float32[D] and the number of vectors it is of; `due` compares with it from now on."""
        if self.count == 0:
            raise ValueError("expected at least one vector to fit a mean on, got none")
        mean = (self._sum / self.count).astype(np.float32)
        self.adopt(mean, self.count)
        return mean, self.count

    def adopt(self, mean: NDArray[np.float32], count: int) -> None:
        """This mean float32[D] of so many vectors is in force, whoever fitted it: `due` compares with it."""
        if mean.shape != (self.dimension,):
            raise ValueError(f"expected a mean of {self.dimension} numbers, got shape {mean.shape}")
        self._fitted, self._fitted_count = mean, max(count, 1)


def _hash(item_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(item_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
