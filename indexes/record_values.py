"""Attributes of records by dotted path, kept for the items that are asked about again and again as sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from indexes.stored import StoredRecord
from models.attributes import attribute_values
from models.filter_tree import Scalar

ITEMS_MAX = 10_000
"""Of one shard, some kilobytes each; beyond it all are forgotten at once."""


class RecordValues:
    """By ordinal what can be compared of a record.  A record is immutable, so what was read of it stays true."""

    def __init__(self, stored: Sequence[StoredRecord | None], items_max: int = ITEMS_MAX) -> None:
        self._stored = stored
        self._items_max = items_max
        self._read: dict[int, tuple[StoredRecord, Mapping[str, Sequence[Scalar]]]] = {}

    def of(self, ordinal: int) -> Mapping[str, Sequence[Scalar]]:
        """The attributes of the item's record by dotted path; not to be changed."""
        record = self._stored[ordinal]
        assert record is not None, f"ordinal {ordinal} has no item"
        known = self._read.get(ordinal)
        if known is not None and known[0] is record:
            return known[1]
        if len(self._read) >= self._items_max:
            self._read.clear()
        values = attribute_values(orjson.loads(record.record))
        self._read[ordinal] = (record, values)
        return values
