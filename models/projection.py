"""Projection: the many numbers of a wide model's vectors become 256, by directions that were fitted on the catalog.

    projected = vector @ basis        basis float[W, 256], columns of unit length, each at right angles to the others

1. The directions are the first principal ones of a sample of the catalog's vectors (about zero, not about their mean:
   the mean is a direction that vectors have in common, and is subtracted later).
2. A sample may have fewer than 256: a catalog that began with ten pictures, each a hundred times.  Random directions
   fill up, so that what comes later and differs otherwise is not lost.

Easy to get wrong:

* A projected vector is shorter than 1 by what was left out, and stays so: then the projected mean is the mean of the
  projected, and centring before or after is the same.
* Workers must project alike.  All use the one basis that stands on `catalog-statistics`, rounded to float16 there, and
  add up in float64: what is left of the order of additions is lost when rows are rounded to float16.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.vectors import Vectors, pack_half, unpack_half

PROJECTED = 256
"""Numbers of a projected vector.  A model that gives more than so many is wide."""
SAMPLE_MIN = 1_024
"""Vectors that a basis is fitted on at least.  See docs/decisions/0018-wide-models-are-projected-once.md."""
SAMPLE_MAX = 4_096
TOGETHER = 2_048
"""Vectors that are projected at once: 21 MB of float64 at 1,280 numbers."""
_VARIANCE_MIN = 1e-9
"""Share of the largest variance below which a direction is rounding noise."""


class Projection:
    """A basis, float[W, 256]."""

    def __init__(self, basis: NDArray[np.floating]) -> None:
        self._basis = basis.astype(np.float16).astype(np.float64)

    @property
    def width(self) -> int:
        """W, numbers of the vectors that it takes."""
        return len(self._basis)

    @property
    def dimension(self) -> int:
        """Numbers of the vectors that it gives."""
        return self._basis.shape[1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Projection) and np.array_equal(self._basis, other._basis)

    __hash__ = None  # type: ignore[assignment]

    def of(self, vectors: NDArray[np.floating]) -> Vectors:
        """float32[..., 256] of vectors float[..., W]."""
        flat = vectors.reshape(-1, self.width)
        parts = [flat[at : at + TOGETHER].astype(np.float64) @ self._basis for at in range(0, len(flat), TOGETHER)]
        projected = np.concatenate(parts) if parts else np.zeros((0, self.dimension))
        return projected.astype(np.float32).reshape(*vectors.shape[:-1], self.dimension)

    def packed(self) -> str:
        """Base64 of the basis, row by row, as little-endian float16."""
        return pack_half(self._basis.ravel())

    @classmethod
    def unpack(cls, text: str, width: int) -> Projection:
        """Of what `packed` wrote.  BadEvent: not base64, not width x 256 numbers, not finite."""
        return cls(unpack_half(text, width * PROJECTED).reshape(width, PROJECTED))


def is_wide(width: int) -> bool:
    """Whether vectors of so many numbers are projected."""
    return width > PROJECTED


def fitted(rows: NDArray[np.floating]) -> Projection:
    """The projection that loses least of vectors float[N, W]; the same rows in the same order give the same."""
    exact = rows[:SAMPLE_MAX].astype(np.float64)
    count, width = exact.shape
    if count == 0 or not is_wide(width):
        raise ValueError(f"expected vectors of more than {PROJECTED} numbers and at least one, got {count} of {width}")
    if count < width:  # the smaller of the two products has the same variances
        variances, weights = np.linalg.eigh(exact @ exact.T)
    else:
        variances, weights = np.linalg.eigh(exact.T @ exact)
    best = np.argsort(-variances, kind="stable")[:PROJECTED]
    best = best[variances[best] > _VARIANCE_MIN * max(variances.max(), 0.0)]
    directions = exact.T @ weights[:, best] if count < width else weights[:, best]
    directions = _completed(directions / np.maximum(np.linalg.norm(directions, axis=0), 1e-300))
    largest = np.abs(directions).argmax(axis=0)
    return Projection(directions * np.sign(directions[largest, np.arange(PROJECTED)]))


def _completed(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[W, 256]: orthogonal unit directions float64[W, K], and random ones at right angles to them."""
    width, known = directions.shape
    further = np.random.default_rng(0).standard_normal((width, PROJECTED - known))
    for _ in range(2):  # once leaves rounding behind
        further -= directions @ (directions.T @ further)
        further = np.linalg.qr(further)[0]
    return np.concatenate((directions, further), axis=1)
