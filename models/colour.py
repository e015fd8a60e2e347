"""Colour: how much of a picture is of which colour, in 16 numbers, whatever the model.

1. Each pixel falls into one of 8 x 8 x 8 boxes of red, green and blue.
2. Each box gives some of its share to boxes that people see as nearly the same colour (distance in CIE Lab), so that
   a little more light does not make another colour of it.
3. The roots of the shares are a unit vector.  Its first 16 principal components, whitened, are made unit length.

The components (`colour.npy`, float32[513, 16]: the matrix, and the offset below it) were fitted by
`python -m bench.quality.colour --fit` on pictures of three packs and on made-up cut-outs of all colours: fitted on
photographs alone, all strong colours were one, as those are rare there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.vectors import Vectors, unit

NUMBERS = 16
"""Of a colour vector."""
LEVELS = 8
"""Of a channel."""
BOXES = LEVELS**3
NEAR = 8.0
"""Distance in Lab at which a box gives 1 / sqrt(e) of what it keeps; one of 2.3 can just be seen."""


def lab() -> NDArray[np.float64]:
    """float64[512, 3], the middle of each box in CIE Lab, for sRGB under D65 (IEC 61966-2-1, CIE 15)."""
    level = (np.arange(LEVELS) + 0.5) / LEVELS
    rgb = np.stack(np.meshgrid(level, level, level, indexing="ij"), axis=-1).reshape(BOXES, 3)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / to_xyz.sum(axis=1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).T
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), axis=1)


def _giving() -> Vectors:
    """float32[512, 512]: what share each box gives to each; rows add up to 1."""
    places = lab()
    apart = ((places[:, None] - places[None]) ** 2).sum(axis=-1)
    given = np.exp(-apart / (2 * NEAR**2))
    return (given / given.sum(axis=1, keepdims=True)).astype(np.float32)


FILE = Path(__file__).with_name("colour.npy")
_BASIS: Vectors = np.load(FILE, allow_pickle=False).astype(np.float32)
_GIVING = _giving()
RECIPE = f"colour 1 {hashlib.sha256(_BASIS.astype('<f4').tobytes()).hexdigest()}"
"""What colour vectors depend on beside the pixels: a part of the id of every model."""


def colours(pixels: NDArray[np.uint8]) -> Vectors:
    """float32[B, 16] of unit length for `pixels` uint8[B, H, W, 3] RGB; each depends on its picture alone.

    Zero for a picture whose colours are exactly the average of the pictures that the components were fitted on.
    """
    matrix, offset = _BASIS[:-1], _BASIS[-1]
    rows = [spread(share) @ matrix - offset for share in shares(pixels)]  # products of batches would round otherwise
    return unit(np.array(rows, np.float32).reshape(len(pixels), NUMBERS))


def shares(pixels: NDArray[np.uint8]) -> Vectors:
    """float32[B, 512], the share of each box in each of `pixels` uint8[B, H, W, 3]; they add up to 1."""
    level = pixels >> 5
    box = (level[..., 0].astype(np.intp) << 6) | (level[..., 1].astype(np.intp) << 3) | level[..., 2]
    counts = np.array([np.bincount(each.ravel(), minlength=BOXES) for each in box], np.float32)
    return counts.reshape(len(pixels), BOXES) / np.float32(max(1, pixels.shape[1] * pixels.shape[2]))


def spread(share: Vectors) -> Vectors:
    """float32[..., 512] of unit length: roots of the shares float32[..., 512] when each box has given of its own."""
    return np.sqrt(share @ _GIVING)
