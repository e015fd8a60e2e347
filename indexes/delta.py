"""The delta: the newest vectors, preallocated, scanned exactly; a vector is found the moment it is appended.

Easy to get wrong:

* A position is reused after its row was dropped, so nothing may remember a position across changes; a row id may.
* `centred` is derived from `raw` and the mean, `across` from `centred`; `settle` must run after appends, before the
  next search.
* Arrays are longer than `size` and padded with positions that are never shown; `width` is `size` rounded up to whole
  blocks of `BLOCK`, which the search needs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexes.half import floats_of
from indexes.placed_rows import PlacedRows
from models.parts import rows_of

LAID_TOGETHER = 64
"""Rows that are turned into columns at once: they and their columns stay in the cache."""
BLOCK = 16
"""Positions are handed out to whole blocks, so that a scan can take the best of each block first."""
CAPACITY_MIN = 1024
NAMES = ("centred", "raw_rows", "owner", "image", "shown", "row", "serial")
"""The arrays by position."""

Positions = NDArray[np.int32]


def centred_rows(raw: NDArray[np.float16], mean: NDArray[np.float32] | None, colour: int = 0) -> NDArray[np.float32]:
    """float32[N, D] rows of raw vectors float16[N, D] less the mean; each row's bytes depend on that row alone."""
    return rows_of(floats_of(raw), mean, colour)


class Delta(PlacedRows):
    """Rows by position, and `serial` int64: which append the vector came by.  A position without a row is free.

    `across` float32[D, capacity] has the centred vectors as columns: a matrix product reads them in their order, which
    saves a fifth of a batch's product and half of that for a single query.
    """

    def __init__(self, dimension: int, *, colour: int = 0) -> None:
        self._colour = colour
        self.size = 0
        self.live = 0
        self._mean: NDArray[np.float32] | None = None
        self._free: list[int] = []
        self._unsettled: list[int] = []
        self._serial = 0
        self._allocate(dimension, CAPACITY_MIN)

    def _allocate(self, dimension: int, capacity: int) -> None:
        capacity = -(-capacity // BLOCK) * BLOCK
        self.centred = np.zeros((capacity, dimension), np.float32)
        self.across = np.zeros((dimension, capacity), np.float32)
        self.raw_rows = np.zeros((capacity, dimension), np.float16)
        self.owner = np.zeros(capacity, np.int32)
        self.image = np.full(capacity, -1, np.int16)
        self.shown = np.zeros(capacity, np.float32)
        self.row = np.full(capacity, -1, np.int32)
        self.serial = np.zeros(capacity, np.int64)

    @property
    def width(self) -> int:
        """`size` in whole blocks; positions beyond `size` are not shown."""
        return -(-self.size // BLOCK) * BLOCK

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        return self.centred.nbytes + self.across.nbytes + self.raw_rows.nbytes + self.owner.nbytes * 6

    def append(self, raw: NDArray[np.float16], row: int, owner: int) -> int:
        """The position of a new raw unit vector float16[D], not shown yet."""
        if self._free:
            position = self._free.pop()
        else:
            position = self.size
            if position == len(self.row):
                self._grow(position * 2)
            self.size += 1
        self.raw_rows[position] = raw
        self.row[position] = row
        self.owner[position] = owner
        self._serial += 1
        self.serial[position] = self._serial
        self.live += 1
        self._unsettled.append(position)
        return position

    def append_many(
        self, raw: NDArray[np.float16], rows: Positions, owners: Positions, images: NDArray[np.int16]
    ) -> Positions:
        """The positions of many vectors float16[K, D] at once, shown where their image is not -1."""
        start, stop = self.size, self.size + len(raw)
        if stop > len(self.row):
            self._grow(max(stop, len(self.row) * 2))
        self.raw_rows[start:stop] = raw
        self.row[start:stop] = rows
        self.owner[start:stop] = owners
        self.image[start:stop] = images
        self.shown[start:stop] = images >= 0
        self.serial[start:stop] = np.arange(self._serial + 1, self._serial + 1 + len(raw))
        self._serial += len(raw)
        self.centred[start:stop] = centred_rows(self.raw_rows[start:stop], self._mean, self._colour)
        self._lay(start, stop)
        self.size = stop
        self.live += len(raw)
        return np.arange(start, stop, dtype=np.int32)

    def drop(self, position: int) -> None:
        """Free the position."""
        super().drop(position)
        self._free.append(position)

    def drop_many(self, positions: NDArray[np.intp] | Positions) -> None:
        """Free many positions at once and close the gaps.  Rows that stay get new positions: see `row`."""
        self.row[positions] = -1
        keep = np.flatnonzero(self.row[: self.size] >= 0)
        self.settle()
        kept = {name: getattr(self, name)[keep] for name in NAMES}
        self._allocate(self.raw_rows.shape[1], max(CAPACITY_MIN, len(keep) * 2))
        self.size = self.live = len(keep)
        self._free.clear()
        for name in NAMES:
            getattr(self, name)[: self.size] = kept[name]
        self._lay(0, self.size)

    def reopen(self, raw: NDArray[np.float16]) -> None:
        """Start with the vectors float16[N, D] of a snapshot; a position lives once it is claimed."""
        self._allocate(raw.shape[1], max(CAPACITY_MIN, 2 * len(raw)))
        self.size, self.live = len(raw), 0
        self.raw_rows[: self.size] = raw
        self.serial[: self.size] = np.arange(1, self.size + 1)
        self._serial = self.size

    def reopened(self) -> None:
        """All positions that live have been claimed."""
        self._free = np.flatnonzero(self.row[: self.size] < 0).tolist()
        self.use_mean(self._mean)

    def settle(self) -> None:
        """Centre what was appended since the last call."""
        if self._unsettled:
            positions = np.array(self._unsettled)
            self.centred[positions] = centred_rows(self.raw_rows[positions], self._mean, self._colour)
            self.across[:, positions] = self.centred[positions].T
            self._unsettled.clear()

    def use_mean(self, mean: NDArray[np.float32] | None) -> None:
        """Centre all rows by another mean."""
        self._mean = mean
        self._unsettled.clear()
        self.centred[: self.size] = centred_rows(self.raw_rows[: self.size], mean, self._colour)
        self._lay(0, self.size)

    def _lay(self, start: int, stop: int) -> None:
        """Make columns of these rows."""
        for begin in range(start, stop, LAID_TOGETHER):
            some = slice(begin, min(begin + LAID_TOGETHER, stop))
            self.across[:, some] = self.centred[some].T

    def use_raw(self, raw: NDArray[np.float16]) -> None:
        """Vectors of another dimension float16[size, D], by position, in the place of all."""
        kept = {name: getattr(self, name)[: self.size] for name in NAMES if name not in ("centred", "raw_rows")}
        self._allocate(raw.shape[1], len(self.row))
        for name, values in kept.items():
            getattr(self, name)[: self.size] = values
        self.raw_rows[: self.size] = raw
        self.use_mean(None)

    def fetch(self, positions: NDArray[np.intp] | Positions) -> NDArray[np.float32]:
        """float32[K, D] centred rows."""
        return self.centred.take(positions, axis=0)

    def raw(self, positions: NDArray[np.intp] | Positions) -> NDArray[np.float16]:
        """float16[K, D] raw unit vectors."""
        return self.raw_rows[positions]

    def _grow(self, capacity: int) -> None:
        capacity = -(-capacity // BLOCK) * BLOCK
        for name in NAMES:
            old = getattr(self, name)
            new = np.zeros((capacity, *old.shape[1:]), old.dtype)
            if name in ("image", "row"):
                new.fill(-1)
            new[: self.size] = old[: self.size]
            setattr(self, name, new)
        across = np.zeros((len(self.across), capacity), np.float32)
        across[:, : self.size] = self.across[:, : self.size]
        self.across = across
