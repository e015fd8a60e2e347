"""Beginnings of hits, kept: the record's attributes and the matched image, up to the score.

Most of a hit's bytes are the same each time the item is one.  They are kept by form, which is what
`attributesToRetrieve` and highlighting make of a record; most requests of a shop have the same one or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from indexes.stored import StoredRecord
from models.answer import Retrieved, hit_head, record_part

BYTES_MAX = 64_000_000
"""Of one shard; beyond it all are forgotten at once and come back as they are needed."""
FORMS_MAX = 8
"""The one that was asked for longest ago goes first."""
IMAGE_BITS = 16


def head_key(ordinal: int, image: int) -> int:
    """One number for an item's image."""
    return ordinal << IMAGE_BITS | image


class HitHeads:
    """Beginnings of hits for the items of one shard."""

    def __init__(self, stored: Sequence[StoredRecord | None], bytes_max: int = BYTES_MAX) -> None:
        self.stored = stored
        self.bytes_max = bytes_max
        self.bytes = 0
        self._forms: dict[tuple[Retrieved, bool], FormHeads] = {}

    def form(self, asked: Retrieved, highlight: bool) -> FormHeads:
        """Those of one form."""
        heads = self._forms.pop((asked, highlight), None)
        if heads is None:
            if len(self._forms) >= FORMS_MAX:
                self._forms.pop(next(iter(self._forms))).end()
            heads = FormHeads(self, asked, highlight)
        self._forms[asked, highlight] = heads
        return heads

    def forget(self, ordinal: int, images: int) -> None:
        """The item with this many images is about to change."""
        for heads in self._forms.values():
            for image in range(images):
                heads.forget(head_key(ordinal, image))

    def clear(self) -> None:
        """Forget all of them."""
        for heads in self._forms.values():
            heads.clear()


class FormHeads:
    """Beginnings of hits of one form, by `head_key`; `get` is a dictionary's own method, asked once a hit."""

    def __init__(self, heads: HitHeads, asked: Retrieved, highlight: bool) -> None:
        self._all = heads
        self._asked = asked
        self._highlight = highlight
        self._by_key: dict[int, bytes] = {}
        self.get = self._by_key.get
        self.ended = False
        """Whether another form has its place: it keeps nothing any more."""

    def many(self, keys: Sequence[int]) -> list[bytes]:
        """The beginnings of many hits, by `head_key`."""
        heads = list(map(self.get, keys))
        if None in heads:
            return [
                head or self.make(key >> IMAGE_BITS, key & (1 << IMAGE_BITS) - 1)
                for head, key in zip(heads, keys, strict=True)
            ]
        return cast(list[bytes], heads)

    def make(self, ordinal: int, image: int) -> bytes:
        """The beginning that `get` did not have."""
        record = self._all.stored[ordinal]
        assert record is not None, f"ordinal {ordinal} has no item"
        part = record_part(record.record, self._asked, highlight=self._highlight)
        head = hit_head(part, record.images[image])
        if self.ended:
            return head
        if self._all.bytes + len(head) > self._all.bytes_max:
            self._all.clear()
        self._by_key[head_key(ordinal, image)] = head
        self._all.bytes += len(head)
        return head

    def forget(self, key: int) -> None:
        """It is about to change."""
        head = self._by_key.pop(key, None)
        if head is not None:
            self._all.bytes -= len(head)

    def clear(self) -> None:
        """Forget all of this form."""
        self._all.bytes -= sum(map(len, self._by_key.values()))
        self._by_key.clear()

    def end(self) -> None:
        """Forget all, and keep nothing from now on."""
        self.clear()
        self.ended = True
