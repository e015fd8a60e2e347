"""How many items the embedded broker holds: it keeps so many bytes a partition and forgets the oldest beyond.

Every item stands once on each of the topics; the one on which it takes most fills first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from models.truth_messages import Facts, ImageEmbedding, ItemEmbedding, ItemRecord, Written, write_message
from streams.brokers.embedded import PARTITION_BYTES_MAX

SHIPPED_DIMENSION = 128
"""Numbers of a vector of the shipped model."""
FOREIGN_DIMENSION = 2_048
"""Taken for any other model, without loading it: more than those that are in use have."""
BATCH_BYTES = 120
"""What a message takes beside key and value when it is produced alone: the heads of batch and message, headers."""
SHARE = 0.9
"""Of the room that is counted on: items are spread by a hash, never quite evenly, and the tour writes more."""
_TIME_MS = 1_700_000_000_000
_WRITER = "0" * 32


def items_max(records: Sequence[dict[str, Any]], partitions: int, *, shipped_model: bool) -> int:
    """Return how many items like these (a sample of records, each with `objectID` and `image`) fit."""
    dimension = SHIPPED_DIMENSION if shipped_model else FOREIGN_DIMENSION
    mean = sum(bytes_of_item(record, dimension) for record in records) / len(records)
    return int(partitions * PARTITION_BYTES_MAX * SHARE / mean)


def bytes_of_item(record: dict[str, Any], dimension: int) -> int:
    """Return the bytes of an item on the topic on which it takes most."""
    value, image = orjson.dumps(record), str(record["image"])
    written = Written(_TIME_MS, 1_000_000)
    on_records = ItemRecord(
        msgspec.Raw(value), Facts(True, 0.123456789), (image,), 1, _TIME_MS, written, writer=_WRITER
    )
    vector = "A" * (-(-dimension * 2 // 3) * 4)
    embedded = ImageEmbedding(image, digest=_WRITER, vector=vector)
    on_embeddings = ItemEmbedding(1, _WRITER, (embedded,), _WRITER)
    largest = max(len(write_message(on_records)), len(write_message(on_embeddings)))
    return largest + len(str(record["objectID"])) + BATCH_BYTES
