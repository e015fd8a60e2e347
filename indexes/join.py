"""The join: record, level and embedding of each item, in whatever order they come.

Each truth sets or clears its own part of an item; what follows from the parts together is worked out anew.  So the
order between the truths does not matter, and neither does how often a message is repeated.

* An item has an ordinal while it has a record or an embedding.  A level alone has none.
* A row is shown while its item has a record that names the row's image.  Rows of other images stay, unseen: the record
  may come back to them, and a later record must find them as if it had come first.
* A vector that a new embedding carries over keeps its row: a new price or a second image moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.columns import Columns
from indexes.hit_heads import HitHeads
from indexes.record_values import RecordValues
from indexes.rows import Rows
from indexes.shard_settings import ShardSettings
from indexes.stored import ShardItem, StoredEmbedding, StoredImage, StoredRecord, item_images
from indexes.truth_reading import ReadEmbedding
from models.filter_tree import Scalar
from models.projection import Projection
from models.stock import Level, derived_attributes, flags
from models.truth_messages import ImageEmbedding

DELETED_MAX = 10_000
"""Ids of deleted items that are remembered, so that a pin of one can say so."""


class Look(NamedTuple):
    """What an item looks like."""

    images: tuple[int, ...]
    """Which of its record's images are embedded."""
    vectors: NDArray[np.float32]
    """float32[R, D] theirs, centred, of unit length."""


class Join:
    """Items of one shard: by id the three parts, by ordinal the id and the record's bytes."""

    def __init__(self, settings: ShardSettings) -> None:
        self._settings = settings
        self.rows = Rows(settings)
        self.columns = Columns(settings.low_stock_at)
        self.records: dict[str, StoredRecord] = {}
        self.levels: dict[str, Level] = {}
        self.embeddings: dict[str, StoredEmbedding] = {}
        self.deleted: dict[str, None] = {}
        """Of those whose deletion was read since the start; nothing but words depends on it."""
        self.ordinal_of: dict[str, int] = {}
        self.item_ids: list[str] = []
        self.stored: list[StoredRecord | None] = []
        self.heads = HitHeads(self.stored)
        self._values = RecordValues(self.stored)
        self._free: list[int] = []

    # Changes

    def put_record(self, item_id: str, record: StoredRecord | None) -> None:
        """The item's record is this now; None: it has none."""
        before = self.records.get(item_id)
        if before is not None:
            self.heads.forget(self.ordinal_of[item_id], len(before.images))
        if record is None:
            self._remember_deleted(item_id)
            if before is None:
                return
            del self.records[item_id]
            ordinal = self.ordinal_of[item_id]
            self.stored[ordinal] = None
            self.columns.remove(ordinal)
        else:
            self.deleted.pop(item_id, None)
            self.records[item_id] = record
            ordinal = self._ordinal(item_id)
            self.stored[ordinal] = record
            level = self.levels.get(item_id)
            self.columns.put(ordinal, record.record, record.facts, level.quantity if level else None)
        if (before and before.images) != (record and record.images):
            self._show(item_id)
        self._release(item_id)

    def _remember_deleted(self, item_id: str) -> None:
        self.deleted[item_id] = None
        if len(self.deleted) > DELETED_MAX:
            del self.deleted[next(iter(self.deleted))]

    def put_level(self, item_id: str, level: Level | None) -> None:
        """The item's level is this now; None: it has none."""
        if level is not None:
            self.levels[item_id] = level
        elif self.levels.pop(item_id, None) is None:
            return
        if item_id in self.records:
            self.columns.put_quantity(self.ordinal_of[item_id], level.quantity if level else None)

    def put_embedding(self, item_id: str, embedding: ReadEmbedding | None) -> None:
        """The item's embedding is this now; None: it has none."""
        before = self.embeddings.pop(item_id, None)
        old = {image.link: image.row for image in before.images if image.row >= 0} if before else {}
        if embedding is not None:
            ordinal = self._ordinal(item_id)
            images = []
            for image, vector in zip(embedding.images, embedding.vectors, strict=True):
                row = -1
                if vector is not None:
                    row = old.pop(image.link, -1)
                    if row >= 0 and self.rows.raw(row).tobytes() != vector.tobytes():
                        self.rows.drop(row)
                        row = -1
                    if row < 0:
                        row = self.rows.append(vector, ordinal)
                images.append(_stored(image, row))
            self.embeddings[item_id] = StoredEmbedding(embedding.image_version, tuple(images))
        for row in old.values():
            self.rows.drop(row)
        self._show(item_id)
        self._release(item_id)

    def _show(self, item_id: str) -> None:
        """Let the rows say which of the record's images they are."""
        record, embedding = self.records.get(item_id), self.embeddings.get(item_id)
        if embedding is None:
            return
        ordinal = self.ordinal_of[item_id]
        index = {link: number for number, link in enumerate(record.images)} if record else {}
        for image in embedding.images:
            if image.row >= 0:
                self.rows.show(image.row, ordinal, index.get(image.link, -1))

    def restore(
        self, item_id: str, record: StoredRecord | None, level: Level | None, embedding: StoredEmbedding | None
    ) -> None:
        """Put back an item of a snapshot.  A vector whose segment is lost is missing until it is read again."""
        if level is not None:
            self.levels[item_id] = level
        if embedding is not None:
            ordinal = self._ordinal(item_id)
            images = tuple(
                image if image.row < 0 or self.rows.claim(image.row) else msgspec.structs.replace(image, row=-1)
                for image in embedding.images
            )
            self.embeddings[item_id] = StoredEmbedding(embedding.image_version, images)
        if record is not None:
            self.records[item_id] = record
            ordinal = self._ordinal(item_id)
            self.stored[ordinal] = record
            self.columns.put(ordinal, record.record, record.facts, level.quantity if level else None)
        self._show(item_id)

    def project(self, projection: Projection, settings: ShardSettings) -> None:
        """Go on with projected vectors, of which these are the settings."""
        self.rows.project(projection, settings.colour)
        self._settings = settings

    # Ordinals

    def _ordinal(self, item_id: str) -> int:
        ordinal = self.ordinal_of.get(item_id)
        if ordinal is None:
            if self._free:
                ordinal = self._free.pop()
                self.item_ids[ordinal] = item_id
            else:
                ordinal = len(self.item_ids)
                self.item_ids.append(item_id)
                self.stored.append(None)
                if ordinal == self.columns.capacity:
                    self.columns.grow(2 * ordinal)
            self.ordinal_of[item_id] = ordinal
        return ordinal

    def _release(self, item_id: str) -> None:
        if item_id in self.ordinal_of and item_id not in self.records and item_id not in self.embeddings:
            ordinal = self.ordinal_of.pop(item_id)
            self.item_ids[ordinal] = ""
            self._free.append(ordinal)

    # Views

    def item(self, item_id: str) -> ShardItem | None:
        """The item as it is now; None: it has no record."""
        record = self.records.get(item_id)
        if record is None:
            return None
        embedding = self.embeddings.get(item_id)
        return ShardItem(
            item_id,
            record.record,
            record.facts,
            self.levels.get(item_id),
            item_images(record, embedding),
            record.image_version,
            embedding.image_version if embedding else None,
            self.ordinal_of[item_id],
            self._settings.low_stock_at,
        )

    def vectors(self, item_id: str) -> NDArray[np.float32]:
        """float32[R, D] raw unit vectors of the images that the record names, in its order."""
        record, embedding = self.records.get(item_id), self.embeddings.get(item_id)
        rows = {image.link: image.row for image in embedding.images if image.row >= 0} if embedding else {}
        found = [self.rows.raw(rows[link]) for link in record.images if link in rows] if record else []
        if not found:
            return np.zeros((0, self._settings.dimension), np.float32)
        return np.array(found, np.float32)

    def source_values(self, ordinal: int) -> dict[str, Sequence[Scalar]]:
        """What can be compared of an item that has a record: its attributes, the derived ones over them.

        They are of the columns' time: a clock that went back by less than a step turns neither.
        """
        item_id = self.item_ids[ordinal]
        level = self.levels.get(item_id)
        quantity = level.quantity if level else None
        now = flags(self.records[item_id].facts, quantity, self.columns.now_ms, self._settings.low_stock_at)
        return {**self._values.of(ordinal), **derived_attributes(now)}

    def record_values(self, ordinal: int) -> Mapping[str, Sequence[Scalar]]:
        """What the record of an item says by dotted path; not to be changed."""
        return self._values.of(ordinal)

    def only_row(self, item_id: str) -> tuple[int, int] | None:
        """Ordinal and row of an item whose first image is all that is embedded, as most have it; None for any other."""
        record, embedding = self.records.get(item_id), self.embeddings.get(item_id)
        if record is None or embedding is None or len(embedding.images) != 1 or not record.images:
            return None
        image = embedding.images[0]
        return (self.ordinal_of[item_id], image.row) if image.row >= 0 and image.link == record.images[0] else None

    def look(self, ordinal: int) -> Look:
        """The images of an item that has a record, as far as they are embedded."""
        item_id = self.item_ids[ordinal]
        record, embedding = self.records.get(item_id), self.embeddings.get(item_id)
        found: list[tuple[int, int]] = []
        if record is not None and embedding is not None:
            links = record.images
            if len(embedding.images) == 1 and links and embedding.images[0].link == links[0]:  # as most items have it
                if embedding.images[0].row >= 0:
                    found.append((0, embedding.images[0].row))
            else:
                rows = {image.link: image.row for image in embedding.images if image.row >= 0}
                found = [(number, rows[link]) for number, link in enumerate(links) if link in rows]
        if len(found) == 1:
            return Look((found[0][0],), self.rows.centred(found[0][1]))
        if not found:
            return Look((), np.zeros((0, self._settings.dimension), np.float32))
        return Look(
            tuple([number for number, _ in found]), np.concatenate([self.rows.centred(row) for _, row in found])
        )


def _stored(image: ImageEmbedding, row: int) -> StoredImage:
    return StoredImage(image.link, row, image.digest, image.error, image.attempt, image.retry_at)
