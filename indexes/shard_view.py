"""What answers read of a shard: items by id and by ordinal, their columns and vectors, and the search among them.

An ordinal is an item's number inside one shard, and only until the shard changes.  Nothing here changes a shard: what
comes in, and its upkeep, is `shard.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.columns import Columns
from indexes.field import Candidates, Field
from indexes.hit_heads import HitHeads
from indexes.join import Join, Look
from indexes.search import search
from indexes.shard_settings import ShardSettings
from indexes.stored import ShardItem
from models.filter_tree import Scalar
from models.truth_messages import Facts


class ShardView:
    """A shard as it is to be read."""

    def __init__(self, join: Join, settings: ShardSettings) -> None:
        self._join = join
        self.settings = settings

    @property
    def items(self) -> int:
        """Items that have a record."""
        return len(self._join.records)

    @property
    def capacity(self) -> int:
        """N, the length of masks and factors: one more than any ordinal can be without growing."""
        return self._join.columns.capacity

    @property
    def columns(self) -> Columns:
        """Attributes and flags by ordinal."""
        return self._join.columns

    @property
    def item_ids(self) -> Sequence[str]:
        """Item ids by ordinal; empty where no item is."""
        return self._join.item_ids

    def record(self, ordinal: int) -> bytes:
        """The record of the item with this ordinal, as it came."""
        stored = self._join.stored[ordinal]
        assert stored is not None, f"ordinal {ordinal} has no item"
        return stored.record

    def ordinal(self, item_id: str) -> int | None:
        """The ordinal of an item; None: it has no record."""
        return self._join.ordinal_of[item_id] if item_id in self._join.records else None

    def was_deleted(self, item_id: str) -> bool:
        """Whether the item was deleted lately, as far as that is remembered."""
        return item_id in self._join.deleted

    def facts(self, ordinal: int) -> Facts:
        """The facts of the item with this ordinal."""
        stored = self._join.stored[ordinal]
        assert stored is not None, f"ordinal {ordinal} has no item"
        return stored.facts

    def source_values(self, ordinal: int) -> dict[str, Sequence[Scalar]]:
        """What rules and `sameAs` compare of a source item: attributes by dotted path, the derived ones over them."""
        return self._join.source_values(ordinal)

    def record_values(self, ordinal: int) -> Mapping[str, Sequence[Scalar]]:
        """The same without the derived attributes, at a fraction of the cost; not to be changed."""
        return self._join.record_values(ordinal)

    @property
    def heads(self) -> HitHeads:
        """Beginnings of hits with all attributes."""
        return self._join.heads

    def look(self, ordinal: int) -> Look:
        """The embedded images of the item with this ordinal."""
        return self._join.look(ordinal)

    def only_row(self, item_id: str) -> tuple[int, int] | None:
        """Ordinal and row of an item whose first image is all that is embedded, as most have it; None for any other."""
        return self._join.only_row(item_id)

    def centred(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """float32[K, D] rows as `only_row` names them, centred, of unit length."""
        return self._join.rows.centred_many(np.array(rows, np.intp))

    def centred_row(self, row: int) -> NDArray[np.float32]:
        """float32[1, D], the same of one row."""
        return self._join.rows.centred(row)

    @property
    def shown(self) -> NDArray[np.bool_]:
        """bool[N] by ordinal: what a search can find at all."""
        return self._join.rows.shown_owners(self.capacity)

    def image_name(self, ordinal: int, image: int) -> str:
        """The name of an image of the item with this ordinal; `image` as in `Candidates`."""
        stored = self._join.stored[ordinal]
        assert stored is not None, f"ordinal {ordinal} has no item"
        return stored.images[image]

    def item(self, item_id: str) -> ShardItem | None:
        """The item as it is now; None: it has no record."""
        return self._join.item(item_id)

    def vectors(self, item_id: str) -> NDArray[np.float32]:
        """float32[R, D] raw unit vectors of the item's images, in the record's order; R = 0: not embedded."""
        return self._join.vectors(item_id)

    # Search

    def field(
        self, allowed: Sequence[NDArray[np.bool_] | None], factors: Sequence[NDArray[np.floating] | None]
    ) -> Field:
        """This shard as a part of `indexes.search.search` over several."""
        rows = self._join.rows
        return Field(rows, self._join.item_ids, self.settings, rows.items_shown, allowed, factors)

    def search(
        self,
        queries: NDArray[np.float32],
        count: int,
        allowed: Sequence[NDArray[np.bool_] | None],
        factors: Sequence[NDArray[np.floating] | None],
    ) -> list[Candidates]:
        """For each of the centred unit queries float32[B, D] the best `count` items, best first.

        `allowed` bool[N] and `factors` (positive, [N]) by query; queries that share the same objects cost less.
        Best by `similarity * factor` where the similarity is positive, else by `similarity / factor`; then by item id.
        """
        return search([self.field(allowed, factors)], queries, count)
