"""Shards in this process with a catalog in them, fed with the messages of the truths as the index stage feeds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from bench.embeddings import Vectors
from bench.ground import LOADED_AT_MS, SHARDS, loaded_record
from indexes.shard import EMBEDDINGS, RECORDS, STOCKS, Shard
from indexes.shard_settings import ShardSettings
from models.record import AttributeNames, RecordLimits, parse_record
from models.truth_messages import ImageEmbedding, ItemEmbedding, ItemRecord, ItemStock, Written, write_message
from models.vectors import pack_half
from streams import topics

MODEL = "bench"
RETENTION_MS = 86_400_000


class FilledShards:
    """As many shards as an installation has, and their items: those of `loaded_record`, one vector each."""

    def __init__(self, folder: Path, vectors: Vectors) -> None:
        self.now_ms = LOADED_AT_MS
        self.mean = vectors.mean(axis=0)
        settings = ShardSettings(dimension=vectors.shape[1], model=MODEL)
        self.shards = [
            Shard.open(
                folder / f"shard-{number}",
                number,
                settings,
                cluster_id="bench",
                now_ms=self.now_ms,
                retention_ms=RETENTION_MS,
                offsets={},
            )
            for number in range(SHARDS)
        ]
        self.item_ids: list[str] = []
        for number, vector in enumerate(vectors):
            item_id, attributes = loaded_record(number)
            record = parse_record(item_id, attributes, AttributeNames.parse(""), RecordLimits())
            raw, written = msgspec.Raw(record.canonical), Written(0, number + 1)
            image = ImageEmbedding(record.images[0], vector=pack_half(vector))
            self.apply(RECORDS, item_id, ItemRecord(raw, record.facts, record.images, 1, self.now_ms, written))
            self.apply(STOCKS, item_id, ItemStock(50 + number % 50, self.now_ms, written))
            self.apply(EMBEDDINGS, item_id, ItemEmbedding(1, MODEL, (image,)))
            self.item_ids.append(item_id)
        for shard in self.shards:
            shard.use_mean(self.mean)

    def apply(self, truth: str, item_id: str, message: Any) -> int:
        """One message of a truth; its shard."""
        number = topics.partition_of(item_id.encode(), SHARDS)
        self.shards[number].apply(truth, [(item_id, write_message(message))], 1, self.now_ms)
        return number
