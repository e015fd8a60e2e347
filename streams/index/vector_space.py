"""The space that all rows of a worker are in, as `catalog-statistics` has it: their model, projection and mean.

A row is a vector of the model, brought to fewer numbers by the projection if the model is wide, and the numbers of its
colour behind them.  The mean comes as both were before; so with a projection it is another one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from indexes.shard import Shard
from models.colour import NUMBERS
from models.errors import BadEvent, KindredError
from models.projection import Projection, is_wide
from models.truth_messages import (
    MEAN,
    PROJECTION,
    CatalogProjection,
    CatalogStatistics,
    read_catalog_projection,
    read_catalog_statistics,
)
from models.vectors import Vectors, unpack_mean
from streams import topics

log = logging.getLogger(__name__)


class OtherProjection(KindredError):
    """Two owners of partition 0 fitted a projection each, one of them late.  A worker that starts anew is right."""


class VectorSpace:
    """What rows and queries have in common."""

    def __init__(self, model: str, width: int) -> None:
        self.model = model
        self.width = width
        """Numbers of the model's vectors."""
        self.dimension = width + NUMBERS
        """Numbers of a row, its colour's included; fewer once there is a projection."""
        self.projection: Projection | None = None
        self.mean: Vectors | None = None
        """float32[D]"""
        self.mean_version = 0
        self._told_mean: tuple[Vectors, Vectors] | None = None
        """Of the model's vectors, and of colours."""

    @property
    def is_wide(self) -> bool:
        """Whether the model's vectors are to be projected."""
        return is_wide(self.width)

    def read(self, messages: Sequence[Any], shards: Sequence[Shard]) -> None:
        """Take in messages of `catalog-statistics`: these shards project and centre by the newest of our model."""
        for message in messages:
            if message.value is None:
                if message.key == PROJECTION and not shards:  # later there are rows, and they stay projected
                    self.projection, self.dimension = None, self.width + NUMBERS
                continue
            try:
                if message.key == PROJECTION:
                    self._use_projection(read_catalog_projection(message.value), shards)
                elif message.key == MEAN:
                    self._use_mean(read_catalog_statistics(message.value))
            except (msgspec.DecodeError, BadEvent) as error:
                log.warning("catalog-statistics@%d is not ours: %s", message.offset, error)
        self.mean = None if self._told_mean is None else self.raw_row(*self._told_mean)
        for shard in shards:
            shard.use_mean(self.mean)

    def _use_mean(self, statistics: CatalogStatistics) -> None:
        if statistics.model == self.model:
            self._told_mean = unpack_mean(statistics.mean, self.width), unpack_mean(statistics.colour, NUMBERS)
            self.mean_version = statistics.version

    def _use_projection(self, message: CatalogProjection, shards: Sequence[Shard]) -> None:
        if message.model != self.model or message.width != self.width or not self.is_wide:
            return
        projection = Projection.unpack(message.basis, self.width)
        if self.projection is not None and shards:
            if self.projection != projection:
                raise OtherProjection(
                    f"{topics.CATALOG_STATISTICS} has another projection of {self.model} now than the one that this "
                    "worker's vectors went through: it has to start anew, and then takes the newest"
                )
            return
        self.projection, self.dimension = projection, projection.dimension + NUMBERS
        for shard in shards:
            shard.use_projection(projection)
        log.info("index: vectors of %d numbers are projected to %d", self.width, projection.dimension)

    def raw_row(self, look: Vectors, colour: Vectors) -> Vectors:
        """float32[D] of a vector of the model float32[W] and a colour, or of means of both."""
        return np.concatenate((look if self.projection is None else self.projection.of(look), colour))

    def status(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "dimension": self.width,
            "projected": self.dimension - NUMBERS if self.projection else None,
            "mean_version": self.mean_version,
        }
