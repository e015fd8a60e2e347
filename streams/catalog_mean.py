"""The catalog's mean, fitted by the owner of partition 0 on the vectors of its partition and told to all.

Items are spread over the partitions by a hash, so one partition is a fair sample.  Everybody centres by the last
message of `catalog-statistics`, so all workers change it at the same event.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from indexes.statistics import MeanFit
from models.colour import NUMBERS
from models.errors import BadEvent
from models.truth_messages import CatalogStatistics, ItemEmbedding, read_catalog_statistics
from models.vectors import Vectors, half_numbers, pack_mean, unpack_half, unpack_mean

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

    def read(self, messages: Iterable[Any]) -> None:
        """Messages of `catalog-statistics`: what is in force."""
        for message in messages:
            if message.value is None:
                continue
            try:
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

    def due(self, now_ms: int) -> CatalogStatistics | None:
        """The message to publish now, if the catalog has grown or drifted enough since the last one."""
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
