"""Rows by position, as delta and segments hold them: which row lies where, whose it is, and whether it is found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class PlacedRows:
    """`row` int32 row id or -1 where no row lives, `owner` int32 ordinal, `image` int16 index in the record's images,
    `shown` float32 1 or 0.  The first `size` positions are in use, `live` of them hold a row.
    """

    size: int
    live: int
    owner: NDArray[np.int32]
    image: NDArray[np.int16]
    shown: NDArray[np.float32]
    row: NDArray[np.int32]

    def claim(self, position: int, row: int) -> None:
        """Bring a position to life: `row` is in it."""
        self.row[position] = row
        self.live += 1

    def show(self, position: int, owner: int, image: int) -> None:
        """Say whose row it is and which of its images; -1 hides it."""
        self.owner[position] = owner
        self.image[position] = image
        self.shown[position] = image >= 0

    def drop(self, position: int) -> None:
        """The row at this position is dead."""
        self.row[position] = -1
        self.image[position] = -1
        self.shown[position] = 0.0
        self.live -= 1
