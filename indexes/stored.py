"""What a shard keeps of an item: its record, its images, and the item as others see it.

Parts are immutable and replaced whole, so that a checkpoint can be written from another thread while events go on.
A record's bytes are kept as they came; its attributes are parsed only where somebody asks for them.
"""

from __future__ import annotations

import msgspec

from models.stock import Flags, Level, flags
from models.truth_messages import Facts


class StoredRecord(msgspec.Struct, frozen=True, gc=False):
    """The newest record of an item."""

    record: bytes
    facts: Facts
    images: tuple[str, ...]
    image_version: int
    at: int
    """Unix ms of the catalog event."""


class StoredImage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One image of the newest embedding: the row that its vector is in, or the reason why it has none."""

    link: str
    row: int = -1
    """Row id; -1: no vector."""
    digest: str | None = None
    error: str | None = None
    attempt: int = 0
    retry_at: int | None = None


class StoredEmbedding(msgspec.Struct, frozen=True, gc=False):
    """The newest embedding of an item."""

    image_version: int
    images: tuple[StoredImage, ...]


class ShardImage(msgspec.Struct, frozen=True, gc=False):
    """An image of the item's record as it stands: embedded, failed, or neither yet."""

    link: str
    embedded: bool = False
    digest: str | None = None
    error: str | None = None
    attempt: int = 0
    retry_at: int | None = None


class ShardItem(msgspec.Struct, frozen=True, gc=False):
    """An item as a shard knows it at this moment."""

    item_id: str
    record: bytes
    """JSON object as it came, with `objectID`."""
    facts: Facts
    level: Level | None
    """None: never told, or not known any more."""
    images: tuple[ShardImage, ...]
    """In the order of the record; `Candidates.image` counts in it."""
    image_version: int
    embedded_version: int | None
    """Image version of the newest embedding; None: there is none."""
    ordinal: int
    low_stock_at: float
    """The catalog's threshold; the record's own comes first."""

    def flags(self, now_ms: int) -> Flags:
        """Sale and stock at `now_ms`."""
        return flags(self.facts, self.level.quantity if self.level else None, now_ms, self.low_stock_at)


def item_images(record: StoredRecord, embedding: StoredEmbedding | None) -> tuple[ShardImage, ...]:
    """The record's images with what the embedding says of each."""
    known = {image.link: image for image in reversed(embedding.images)} if embedding else {}
    images = []
    for link in record.images:
        image = known.get(link)
        if image is None:
            images.append(ShardImage(link))
        else:
            embedded = image.row >= 0
            images.append(ShardImage(link, embedded, image.digest, image.error, image.attempt, image.retry_at))
    return tuple(images)
