"""Rows: one image's vector each, wherever it lies now.

A row id stays the same while its vector moves from the delta into a segment and on into another; so the items that
name their rows need not know of sealing.  Slot 0 is the delta, others are segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexes.delta import Delta

DELTA = 0
Index = NDArray[np.int32] | NDArray[np.intp]


class Part(Protocol):
    """What delta and segments have in common: arrays by position, of which the first `size` are in use."""

    size: int
    live: int
    owner: NDArray[np.int32]
    image: NDArray[np.int16]
    shown: NDArray[np.float32]
    row: NDArray[np.int32]

    def show(self, position: int, owner: int, image: int) -> None: ...
    def drop(self, position: int) -> None: ...
    def fetch(self, positions: Index) -> NDArray[np.float32]: ...
    def raw(self, positions: Index) -> NDArray[np.float16]: ...
    def use_mean(self, mean: NDArray[np.float32] | None) -> None: ...


class Rows:
    """The rows of one shard: `slot` int8 and `position` int32 by row id, and the parts by slot."""

    def __init__(self, dimension: int) -> None:
        self.delta = Delta(dimension)
        self.parts: dict[int, Part] = {DELTA: self.delta}
        self.mean: NDArray[np.float32] | None = None
        self.slot = np.zeros(1024, np.int8)
        self.position = np.zeros(1024, np.int32)
        self._size = 0
        self._free: list[int] = []
        self._shown_by_owner = np.zeros(1024, np.int32)
        self.rows_shown = 0
        self.items_shown = 0

    @property
    def size(self) -> int:
        """Row ids given out so far, freed ones included."""
        return self._size

    @property
    def live(self) -> int:
        """Rows that exist, shown or not."""
        return self._size - len(self._free)

    def append(self, raw: NDArray[np.float16], owner: int) -> int:
        """The row id of a new vector float16[D] in the delta, not shown yet."""
        row = self._free.pop() if self._free else self._new_id()
        self.slot[row] = DELTA
        self.position[row] = self.delta.append(raw, row, owner)
        return row

    def show(self, row: int, owner: int, image: int) -> None:
        """Say which of its owner's images the row is; -1 hides it.  The owner of a shown row does not change."""
        part, position = self.parts[self.slot[row]], int(self.position[row])
        self._count(owner, int(image >= 0) - int(part.image[position] >= 0))
        part.show(position, owner, image)

    def drop(self, row: int) -> None:
        """Forget the row: its position in the delta is free, in a segment it becomes a tombstone."""
        part, position = self.parts[self.slot[row]], int(self.position[row])
        if part.image[position] >= 0:
            self._count(int(part.owner[position]), -1)
        part.drop(position)
        self._free.append(row)

    def raw(self, row: int) -> NDArray[np.float16]:
        """The raw unit vector float16[D]."""
        return self.parts[self.slot[row]].raw(self.position[row : row + 1])[0]

    def use_mean(self, mean: NDArray[np.float32] | None) -> None:
        """Centre by this mean from now on."""
        self.mean = mean
        for part in self.parts.values():
            part.use_mean(mean)

    def segment_slots(self) -> Iterator[int]:
        """Slots of the segments."""
        return (slot for slot in self.parts if slot != DELTA)

    def _new_id(self) -> int:
        row = self._size
        self._size += 1
        if row == len(self.slot):
            self.slot = np.concatenate((self.slot, np.zeros_like(self.slot)))
            self.position = np.concatenate((self.position, np.zeros_like(self.position)))
        return row

    def _count(self, owner: int, change: int) -> None:
        if not change:
            return
        while owner >= len(self._shown_by_owner):
            self._shown_by_owner = np.concatenate((self._shown_by_owner, np.zeros_like(self._shown_by_owner)))
        before = self._shown_by_owner[owner]
        self._shown_by_owner[owner] = before + change
        self.rows_shown += change
        self.items_shown += int(before + change > 0) - int(before > 0)
