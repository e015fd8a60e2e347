"""Rows: one image's vector each, wherever it lies now.

A row id stays the same while its vector moves from the delta into a segment and on into another; so the items that
name their rows need not know of sealing.  Slot 0 is the delta, others are segments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from indexes.delta import Delta
from indexes.segment import Segment
from indexes.selection import Scratch
from indexes.shard_settings import ShardSettings
from models.projection import Projection

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

    def claim(self, position: int, row: int) -> None: ...
    def show(self, position: int, owner: int, image: int) -> None: ...
    def drop(self, position: int) -> None: ...
    def fetch(self, positions: Index) -> NDArray[np.float32]: ...
    def raw(self, positions: Index) -> NDArray[np.float16]: ...
    def use_mean(self, mean: NDArray[np.float32] | None) -> None: ...


class Captured(NamedTuple):
    """The rows that were alive in a part at one moment, by position."""

    slot: int
    part: Part
    positions: NDArray[np.intp]
    rows: NDArray[np.int32]
    owners: NDArray[np.int32]
    images: NDArray[np.int16]
    serials: NDArray[np.int64] | None
    """Of the delta, where positions are used again."""


class Rows:
    """The rows of one shard: `slot` int8 and `position` int32 by row id, and the parts by slot."""

    def __init__(self, settings: ShardSettings) -> None:
        self.delta = Delta(settings.dimension, colour=settings.colour)
        self.parts: dict[int, Part] = {DELTA: self.delta}
        self.mean: NDArray[np.float32] | None = None
        self.scratch = Scratch()
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

    def centred(self, row: int) -> NDArray[np.float32]:
        """float32[1, D], the row centred by the mean of today."""
        return self.parts[self.slot.item(row)].fetch(self.position[row : row + 1])

    def centred_many(self, rows: Index) -> NDArray[np.float32]:
        """float32[K, D] of row ids [K], centred by the mean of today."""
        vectors = np.empty((len(rows), self.delta.centred.shape[1]), np.float32)
        slots = self.slot[rows]
        for slot in np.unique(slots).tolist():
            at = np.flatnonzero(slots == slot)
            vectors[at] = self.parts[slot].fetch(self.position[rows[at]])
        return vectors

    def shown_owners(self, size: int) -> NDArray[np.bool_]:
        """bool[size] by ordinal, whether the item has a row that is shown."""
        shown = np.zeros(size, np.bool_)
        known = min(size, len(self._shown_by_owner))
        shown[:known] = self._shown_by_owner[:known] > 0
        return shown

    def use_mean(self, mean: NDArray[np.float32] | None) -> None:
        """Centre by this mean from now on."""
        if mean is None if self.mean is None else mean is not None and np.array_equal(mean, self.mean):
            return
        self.mean = mean
        for part in self.parts.values():
            part.use_mean(mean)

    def project(self, projection: Projection, colour: int) -> None:
        """Let every row be projected, and centred by no mean until there is one of so many numbers.

        Segments go back into the delta: their trees stand on other numbers.
        """
        for slot in self.segments:
            self.dissolve(slot)
        raw = self.delta.raw_rows[: self.delta.size]
        looks = projection.of(raw[:, : raw.shape[1] - colour]).astype(np.float16)
        self.mean = None
        self.delta.use_raw(np.concatenate((looks, raw[:, raw.shape[1] - colour :]), axis=1))

    # Segments

    @property
    def segments(self) -> dict[int, Segment]:
        """By slot."""
        return {slot: part for slot, part in self.parts.items() if isinstance(part, Segment)}

    def capture(self, slots: Sequence[int]) -> list[Captured]:
        """What is alive in these parts now, to be built into a segment."""
        captured = []
        for slot in slots:
            part = self.parts[slot]
            positions = np.flatnonzero(part.row[: part.size] >= 0)
            serials = self.delta.serial[positions] if slot == DELTA else None
            captured.append(
                Captured(
                    slot, part, positions, part.row[positions], part.owner[positions], part.image[positions], serials
                )
            )
        return captured

    def take_over(self, segment: Segment, captured: Sequence[Captured], places: Index) -> None:
        """Put a segment that was built from captured rows in the place of those, less what has died since then.

        `places` are where all of the captured rows lie in it, in their order.
        """
        slot = next(slot for slot in range(1, 128) if slot not in self.parts)
        start = 0
        moved_from_delta = None
        for source in captured:
            stop = start + len(source.positions)
            part, positions = source.part, source.positions
            alive = part.row[positions] == source.rows
            if source.serials is not None:  # a position and a row id of the delta may both have been used again
                alive &= self.delta.serial[positions] == source.serials
                moved_from_delta = positions[alive]
            new, old, rows = places[start:stop][alive], positions[alive], source.rows[alive]
            segment.row[new] = rows
            segment.owner[new] = part.owner[old]
            segment.image[new] = part.image[old]
            segment.shown[new] = part.shown[old]
            segment.live += len(rows)
            self.slot[rows] = slot
            self.position[rows] = new
            start = stop
        segment.use_mean(self.mean)
        if moved_from_delta is not None:
            self._empty_delta(moved_from_delta)
        replaced = {source.slot for source in captured if source.slot != DELTA}
        self.parts = {old: part for old, part in self.parts.items() if old not in replaced} | {slot: segment}

    def dissolve(self, slot: int) -> None:
        """Put a segment's live rows back into the delta."""
        part = self.parts[slot]
        positions = np.flatnonzero(part.row[: part.size] >= 0)
        rows = part.row[positions]
        self.position[rows] = self.delta.append_many(
            part.raw(positions), rows, part.owner[positions], part.image[positions]
        )
        self.slot[rows] = DELTA
        self.parts = {old: kept for old, kept in self.parts.items() if old != slot}

    def _empty_delta(self, positions: Index) -> None:
        self.delta.drop_many(positions)
        rows = self.delta.row[: self.delta.size]
        self.position[rows] = np.arange(len(rows), dtype=np.int32)

    # Reopening

    def reopen(
        self,
        slot: NDArray[np.int8],
        position: NDArray[np.int32],
        delta: NDArray[np.float16],
        segments: Mapping[int, Segment],
    ) -> None:
        """Start from the row table of a snapshot; every row is to be claimed, or it is dead."""
        self.slot, self.position, self._size = slot, position, len(slot)
        self.delta.reopen(delta)
        self.parts = {DELTA: self.delta, **segments}
        for part in segments.values():
            part.use_mean(self.mean)

    def claim(self, row: int) -> bool:
        """Say that an item has this row; False if its segment is lost."""
        part = self.parts.get(int(self.slot[row]))
        if part is None:
            return False
        part.claim(int(self.position[row]), row)
        return True

    def reopened(self) -> None:
        """All rows that live have been claimed."""
        alive = np.zeros(self._size, np.bool_)
        for part in self.parts.values():
            rows = part.row[: part.size]
            alive[rows[rows >= 0]] = True
        self._free = np.flatnonzero(~alive).tolist()
        self.delta.reopened()

    def _new_id(self) -> int:
        row = self._size
        self._size += 1
        if row >= len(self.slot):
            more = max(1024, len(self.slot))
            self.slot = np.concatenate((self.slot, np.zeros(more, np.int8)))
            self.position = np.concatenate((self.position, np.zeros(more, np.int32)))
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
