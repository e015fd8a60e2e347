"""Looks: the centred vectors of items that are known by shard and ordinal, and what they are most alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from indexes.join import Look
from indexes.question import Row
from indexes.seeds import Seeds, Source, mean_look
from indexes.shard import Shard
from models.parts import part_cosines
from models.vectors import Vectors


class Pair(NamedTuple):
    """Two pictures that look alike: one of an item, one of a source."""

    image: int
    source: Source
    source_image: int
    similarity: float


class Looks:
    """What items of the shards look like."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards

    def of(self, number: int, ordinal: int) -> Look:
        """The embedded images of an item that has a record."""
        return self._shards[number].look(ordinal)

    def mean(self, number: int, ordinal: int) -> Vectors:
        """float32[D], the row that an item's images come to."""
        return mean_look(self.of(number, ordinal).vectors, self._shards[number].settings.colour)

    def row(self, number: int, ordinal: int, query: Vectors) -> Row | None:
        """An item as a hit: by which of its images it is most alike to a query float32[D]; None: it has none."""
        look = self.of(number, ordinal)
        if not look.images:
            return None
        similarities = np.einsum("rd,d->r", look.vectors, query)
        best = int(similarities.argmax())
        return number, ordinal, look.images[best], similarities.item(best)

    def matched(self, rows: Sequence[Row]) -> Vectors:
        """float32[K, D] of the images that matched."""
        found = []
        for number, ordinal, image, _ in rows:
            look = self.of(number, ordinal)
            found.append(look.vectors[look.images.index(image)])
        return np.array(found)

    def parts(self, row: Row, seeds: Seeds) -> tuple[float, float]:
        """Cosines of the row's look and of its colour with those that are asked for."""
        return part_cosines(self.matched([row])[0], seeds.row, self._shards[row[0]].settings.colour)

    def pair(self, row: Row, seeds: Seeds) -> Pair | None:
        """Which picture of a source the row's picture is most alike; None without a source to look like."""
        vector = seeds.asked(self.matched([row])[0])
        best: Pair | None = None
        for source in seeds.sources:
            if source.weight <= 0:
                continue
            similarities = np.einsum("rd,d->r", source.vectors, vector)
            at = int(similarities.argmax())
            if best is None or similarities.item(at) > best.similarity:
                best = Pair(row[2], source, source.images[at], similarities.item(at))
        return best
