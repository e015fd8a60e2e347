"""Vectors of two parts: what the model makes of a picture, its look, then its colour.  How they are joined and weighed.

    raw row      [look, colour]                    each part of unit length, as the truths have them
    row          [look', t colour']                each part centred and of unit length again; t is `TINT`
    query of w   [(1 - w) look', w / t colour']

    query . row = (1 - w) cosine of the looks + w cosine of the colours

So rows are stored once, whatever a request lets colour count (its weight w, 0..1): a weight is a factor by number on
the query's side alone (`weighing`), and with 0 nothing is different from vectors without colour.  `colour` is
everywhere how many of the last numbers are colour; 0: there is one part.

Easy to get wrong:

* Rows are longer than 1, and queries of any length: products of the two are similarities all the same.
* A part without a direction (no colour known, or equal to the mean) is zero and adds nothing to any similarity.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.vectors import LENGTH_MIN, Vectors, centre, unit

TINT = 0.5
"""Length of a row's colour where its look has 1.  Trees of segments are built on rows: the more of it there is, the
better they find by colour and the worse by look.  Measured in docs/decisions/0016-colour-is-a-weight-of-the-query.md.
"""


def rows_of(raw: Vectors, mean: Vectors | None, colour: int) -> Vectors:
    """float32[N, D] rows of raw rows float32[N, D], centred by `mean` float32[D]; the bytes of each depend on it alone.

    A part that is zero, or equals the mean's, stays zero.
    """
    if not colour:
        return unit(raw) if mean is None else centre(raw, mean)
    rows = np.empty_like(raw)
    split = raw.shape[1] - colour
    for place, length in ((slice(0, split), 1.0), (slice(split, None), TINT)):
        part = raw[:, place]
        rows[:, place] = unit(part) if mean is None else centre(part, mean[place])
        if length != 1:
            rows[:, place] *= np.float32(length)
    return rows


def unit_parts(vector: Vectors, colour: int) -> Vectors:
    """float32[D] with each part of `vector` float32[D] as long as a row's is."""
    return rows_of(vector[None], None, colour)[0] if colour else unit(vector)


@lru_cache(maxsize=256)
def weighing(dimension: int, colour: int, weight: float) -> Vectors | None:
    """float32[D] by which a row becomes the query that colour counts `weight` for, 0..1; None where there is none.

    Not to be written to: all who ask for the same get the same.
    """
    if not colour:
        return None
    factors = np.full(dimension, 1 - weight, np.float32)
    factors[-colour:] = weight / TINT**2
    factors.flags.writeable = False
    return factors


def part_cosines(one: Vectors, other: Vectors, colour: int) -> tuple[float, float]:
    """Cosines of the looks and of the colours of two rows or queries float32[D]; 0 where there is no direction."""
    split = len(one) - colour
    look, tint = (float(unit(one[place]) @ unit(other[place])) for place in (slice(0, split), slice(split, None)))
    return look, tint


def are_raw_rows(raw: NDArray[np.floating], colour: int, tolerance: float) -> bool:
    """Whether all of float[N, D] are raw rows: looks of unit length, or shorter where they are projected, and colours.

    Colours have unit length, too, or are not known (zero).
    """
    split = raw.shape[1] - colour
    looks, tints = (np.linalg.norm(part.astype(np.float32), axis=1) for part in (raw[:, :split], raw[:, split:]))
    fits = (looks > LENGTH_MIN) & (looks <= 1 + tolerance)  # also false where one is not finite
    if colour:
        fits &= (abs(tints - 1) <= tolerance) | (tints == 0)
    return bool(fits.all())


def means_apart(one: Vectors, other: Vectors, colour: int) -> float:
    """How far two means float32[D] are apart (Euclidean), colour counting as little as it does in a row."""
    apart = one - other
    if colour:
        apart[-colour:] *= np.float32(TINT)
    return float(np.linalg.norm(apart))
