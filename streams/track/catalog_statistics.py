"""The catalog's mean and projection, fitted by the owner of partition 0 on its partition's vectors and told to all.

Items are spread over the partitions by a hash, so one partition is a fair sample.  Everybody centres by the last
message of `catalog-statistics`, so all workers change it at the same event.  A projection is fitted for wide models
alone, and once: rows are stored projected, and cannot be projected otherwise later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.statistics import MeanFit
from models.colour import NUMBERS
from models.errors import BadEvent
from models.projection import SAMPLE_MAX, SAMPLE_MIN, fitted, is_wide
from models.truth_messages import (
    MEAN,
    PROJECTION,
    CatalogProjection,
    CatalogStatistics,
    ItemEmbedding,
    read_catalog_projection,
    read_catalog_statistics,
    write_message,
)
from models.vectors import Vectors, half_numbers, pack_mean, unpack_half, unpack_mean
from streams.kafka.outbox import Message

log = logging.getLogger(__name__)


class CatalogMean:
    """Watches embeddings of partition 0 and says when a new mean is to be published."""

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self.model = ""
        self.version = 0
        self._fit: MeanFit | None = None
        self._dimension = 0
        self._in_force: CatalogStatistics | None = None
        self._projected: set[str] = set()
        """Models of which there is a projection, or one is under way."""

    def read(self, messages: Iterable[Any]) -> None:
        """Messages of `catalog-statistics`: what is in force."""
        for message in messages:
            if message.value is None:
                if message.key == PROJECTION:  # somebody wants another one
                    self._projected.clear()
                continue
            try:
                if message.key == PROJECTION:
                    self._projected.add(read_catalog_projection(message.value).model)
                if message.key != MEAN:
                    continue
                statistics = read_catalog_statistics(message.value)
            except msgspec.DecodeError as error:
                log.warning("catalog-statistics@%d is not ours: %s", message.offset, error)
                continue
            self.version = max(self.version, statistics.version)
            self._in_force = statistics
            self._adopt()

    def observe(self, item_id: str, embedding: ItemEmbedding | None) -> None:
        """A message of `item-embeddings`."""
        texts = [(each.vector, each.colour) for each in embedding.images if each.vector] if embedding else []
        if embedding and texts and embedding.model != self.model:
            self.model, self._fit = embedding.model, None
        try:
            vectors = [_raw_row(*both) for both in texts]
        except BadEvent as error:
            log.warning("the embedding of %s does not count for the catalog's mean: %s", item_id, error)
            return
        if vectors and (self._fit is None or vectors[0].shape[0] != self._dimension):
            self._dimension = vectors[0].shape[0]
            self._fit = MeanFit(self._dimension, colour=NUMBERS)
            self._adopt()
        if self._fit is None:
            return
        if vectors:
            self._fit.add(item_id, np.stack(vectors))
        else:
            self._fit.remove(item_id)

    def _adopt(self) -> None:
        """Judge growth and drift against the mean in force, so that a new owner does not fit it anew for nothing."""
        statistics = self._in_force
        if self._fit and statistics and statistics.model == self.model:
            try:
                look = unpack_mean(statistics.mean, self._dimension - NUMBERS)
                mean = np.concatenate((look, unpack_mean(statistics.colour, NUMBERS)))
                self._fit.adopt(mean, statistics.count)
            except BadEvent as error:
                log.warning("the mean of catalog-statistics cannot be used: %s", error)

    async def messages(self, now_ms: int) -> list[Message]:
        """What is to be published now.  A projection takes a second or two, which it spends in a thread."""
        found = []
        if statistics := self.due(now_ms):
            found.append(Message(MEAN, write_message(statistics)))
        if (looks := self._to_project()) is not None:
            projection = await asyncio.to_thread(fitted, looks)
            width = looks.shape[1]
            said = CatalogProjection(self.model, len(looks), width, projection.packed(), now_ms, self.writer)
            found.append(Message(PROJECTION, write_message(said)))
            log.info("vectors of %s are to be projected, by the first %d of them", self.model, len(looks))
        return found

    def _to_project(self) -> NDArray[np.float16] | None:
        """float16[N, W] that a projection is to be fitted on now; None: there is one, or not enough, or no need."""
        if self._fit is None or self.model in self._projected or not is_wide(self._dimension - NUMBERS):
            return None
        if self._fit.count < SAMPLE_MIN:
            return None
        self._projected.add(self.model)
        return self._fit.looks()[:SAMPLE_MAX]

    def due(self, now_ms: int) -> CatalogStatistics | None:
        """The mean to publish now, if the catalog has grown or drifted enough since the last one."""
        if self._fit is None or not self._fit.due():
            return None
        mean, count = self._fit.fit()
        self.version += 1
        return CatalogStatistics(
            version=self.version,
            model=self.model,
            count=count,
            mean=pack_mean(mean[:-NUMBERS]),
            colour=pack_mean(mean[-NUMBERS:]),
            at=now_ms,
            writer=self.writer,
        )


def _raw_row(vector: str, colour: str | None) -> Vectors:
    """float32[D], the look of an image, then its colour; zeros for one that is not told."""
    tint = np.zeros(NUMBERS, np.float32) if colour is None else unpack_half(colour, NUMBERS)
    return np.concatenate((unpack_half(vector, half_numbers(vector)), tint))
