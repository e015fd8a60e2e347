"""Item changes: what has changed of which items since somebody last looked.

1. Records and embeddings are noted by id as they are applied.
2. Flags and levels are compared with a copy of the columns.  So whatever turned them is found: a level, a record, a
   sale's window that opened by itself, with nothing to be told.

Easy to get wrong: an ordinal may have become another item's in between.  Both items' records were noted then, and a
flag that is said to have turned for the new one costs a question more at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.shard import EMBEDDINGS, RECORDS, Shard
from models.stock import DERIVED

RECORD, IMAGES = "record", "images"
STRUCTURE = frozenset((RECORD, IMAGES))
"""Changes that may have changed anything of an item."""
BY_TIME = ("on_sale", "discount")
"""What turns although nothing was applied."""
EVENTS = {
    RECORD: "catalog",
    IMAGES: "images",
    "on_sale": "sale",
    "discount": "sale",
    "stock": "stock",
    "low_stock": "stock",
    "out_of_stock": "stock",
    "in_stock": "stock",
}
"""What changes are called in messages."""
_KINDS = {RECORDS: RECORD, EMBEDDINGS: IMAGES}


class ItemChange(NamedTuple):
    """What has changed of an item."""

    item_id: str
    kinds: frozenset[str]
    """`record`, `images`, and the derived attributes that are not what they were."""
    place: tuple[int, int] | None
    """Shard and ordinal; None: it has no record."""


class ItemChanges:
    """Collects the changes to some shards."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._position = {shard.number: position for position, shard in enumerate(shards)}
        self._noted: list[dict[str, set[str]]] = [{} for _ in shards]
        self._touched = [False] * len(shards)
        self._copies: list[dict[str, NDArray[Any]]] = []
        self.restart()

    def restart(self) -> None:
        """Forget what has changed so far."""
        for noted in self._noted:
            noted.clear()
        self._touched = [False] * len(self._shards)
        self._copies = [{name: _bits(shard, name).copy() for name in DERIVED} for shard in self._shards]

    def note(self, number: int, truth: str, item_ids: Iterable[str]) -> None:
        """Messages of a truth about these items were applied to the shard of this number."""
        position = self._position[number]
        self._touched[position] = True
        kind = _KINDS.get(truth)
        if kind is not None:
            noted = self._noted[position]
            for item_id in item_ids:
                noted.setdefault(item_id, set()).add(kind)

    def compare(self) -> None:
        """Note what has turned so far; shards must have been advanced to now.

        To be called before anything is asked of the shards: what turns back afterwards is then another change.
        """
        for position, shard in enumerate(self._shards):
            names = DERIVED if self._touched[position] else BY_TIME
            kinds = self._noted[position]
            self._touched[position] = False
            for name in names:
                for ordinal in self._turned(position, shard, name):
                    item_id = shard.item_ids[ordinal] if ordinal < len(shard.item_ids) else ""
                    if item_id:
                        kinds.setdefault(item_id, set()).add(name)

    def take(self) -> list[ItemChange]:
        """What has changed since the last call; shards must have been advanced to now."""
        self.compare()
        found: list[ItemChange] = []
        for position, shard in enumerate(self._shards):
            kinds, self._noted[position] = self._noted[position], {}
            for item_id, changed in kinds.items():
                at = shard.ordinal(item_id)
                found.append(ItemChange(item_id, frozenset(changed), None if at is None else (position, at)))
        return found

    def _turned(self, position: int, shard: Shard, name: str) -> list[int]:
        """Ordinals at which a column is not what it was."""
        now, before = _bits(shard, name), self._copies[position][name]
        if len(now) > len(before):
            vacant = np.full(
                len(now) - len(before), np.nan if name == "stock" else 0, getattr(shard.columns, name).dtype
            )
            before = np.concatenate((before, _as_bits(vacant)))
            self._copies[position][name] = before
        turned = np.flatnonzero(now != before)
        before[turned] = now[turned]
        ordinals: list[int] = turned.tolist()
        return ordinals


def _bits(shard: Shard, name: str) -> NDArray[Any]:
    """A column in a form in which NaN equals itself."""
    return _as_bits(getattr(shard.columns, name))


def _as_bits(column: NDArray[Any]) -> NDArray[Any]:
    return column.view(np.int64) if column.dtype == np.float64 else column
