"""Beginnings of hits, kept: whole records with the matched image, up to the score.

Most of a hit's bytes are the same each time the item is one.  `get` is a dictionary's own method, asked once a hit.
"""

from __future__ import annotations

from collections.abc import Sequence

from indexes.stored import StoredRecord
from models.answer import hit_head, whole_record

BYTES_MAX = 64_000_000
"""Of one shard; beyond it all are forgotten at once and come back as they are needed."""
IMAGE_BITS = 16


def head_key(ordinal: int, image: int) -> int:
    """One number for an item's image."""
    return ordinal << IMAGE_BITS | image


class HitHeads:
    """By `head_key` the beginning of a hit with all attributes, for items of one shard."""

    def __init__(self, stored: Sequence[StoredRecord | None], bytes_max: int = BYTES_MAX) -> None:
        self._stored = stored
        self._bytes_max = bytes_max
        self._heads: dict[int, bytes] = {}
        self.bytes = 0
        self.get = self._heads.get

    def make(self, ordinal: int, image: int) -> bytes:
        """The beginning of a hit that `get` did not have."""
        record = self._stored[ordinal]
        assert record is not None, f"ordinal {ordinal} has no item"
        head = hit_head(whole_record(record.record), record.images[image], "model")
        if self.bytes + len(head) > self._bytes_max:
            self._heads.clear()
            self.bytes = 0
        self._heads[head_key(ordinal, image)] = head
        self.bytes += len(head)
        return head

    def forget(self, ordinal: int, images: int) -> None:
        """The item with this many images is about to change."""
        for image in range(images):
            head = self._heads.pop(head_key(ordinal, image), None)
            if head is not None:
                self.bytes -= len(head)
