"""Foreground masks of pictures that stand before a plain ground: what a picture editor's magic wand would leave.

No labels and no network: a picture qualifies when nearly all of its border has one colour; what hangs together with
the border and has that colour is ground.  Shadows and reflections stay with the thing; pictures of rooms, shelves and
people do not qualify and have no mask.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BORDER = 3  # pixels
BORDER_SHARE = 0.92  # of the border must have the ground's colour
TOLERANCE = 26  # largest difference in any channel: JPEG's noise and soft light
FOREGROUND_SHARES = (0.05, 0.85)  # less is a speck, more has no ground worth replacing


def foreground(pixels: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """uint8[H, W, 3] -> bool[H, W], true where the thing is; None: this picture has no plain ground."""
    ring = np.ones(pixels.shape[:2], bool)
    ring[BORDER:-BORDER, BORDER:-BORDER] = False
    colour = np.median(pixels[ring], axis=0).astype(np.int16)
    like_ground = np.abs(pixels.astype(np.int16) - colour).max(2) <= TOLERANCE
    if like_ground[ring].mean() < BORDER_SHARE:
        return None
    thing = ~_grow(ring & like_ground, like_ground)
    share = float(thing.mean())
    return thing if FOREGROUND_SHARES[0] <= share <= FOREGROUND_SHARES[1] else None


def _grow(seed: NDArray[np.bool_], within: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """All of `within` that hangs together with `seed`, by steps of one pixel along rows and columns."""
    region, size = seed.copy(), -1
    while (now := int(region.sum())) != size:
        size = now
        for _ in range(8):  # counting is as dear as growing
            wider = region.copy()
            wider[1:] |= region[:-1]
            wider[:-1] |= region[1:]
            wider[:, 1:] |= region[:, :-1]
            wider[:, :-1] |= region[:, 1:]
            region = wider & within
    return region


def pack_mask(mask: NDArray[np.bool_] | None, side: int) -> NDArray[np.uint8]:
    """bool[side, side] -> uint8[side * side / 8]; no mask is all zero."""
    return np.packbits(mask.ravel()) if mask is not None else np.zeros(side * side // 8, np.uint8)


def unpack_mask(bits: NDArray[np.uint8], side: int) -> NDArray[np.bool_]:
    return np.unpackbits(bits).reshape(side, side).astype(bool)
