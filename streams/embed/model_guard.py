"""Refuse to embed with another model than the one that the item embeddings on the topic come from.

Vectors of two models do not compare, so one worker with a wrong setting could spoil the answers of all.  The index
stage refuses such vectors when it reads them; this keeps them from being written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from aiokafka import TopicPartition

from models.embedder import Embedder
from models.errors import KindredError
from models.truth_messages import ItemEmbedding, read_item_embedding
from models.vectors import half_numbers
from streams import topics
from streams.connection import Connection
from streams.kafka.truths import TruthReader
from streams.settings import Settings

LOOK_BACK = 200
"""Messages of each partition at first: the last ones may be tombstones, which name no model."""
LOOK_FURTHER = 10
"""Times as many where all of them are."""


class OtherModel(KindredError):
    """The embeddings on the topic come from another model: the worker does not start."""


async def check_model(connection: Connection, settings: Settings, embedder: Embedder) -> None:
    """Raise OtherModel unless the newest embeddings on the topic, if there are any, are of this model."""
    topic = settings.topic_prefix + topics.ITEM_EMBEDDINGS
    places = [TopicPartition(topic, number) for number in range(settings.shards)]
    reader = TruthReader(connection, "model check", places)
    await reader.connect()
    try:
        found = await _newest(reader, LOOK_BACK)
    finally:
        await reader.stop()
    _check(found, embedder, topic)


async def _newest(reader: TruthReader, look_back: int) -> list[ItemEmbedding]:
    """Embeddings among the last messages of the partitions; none only where the whole log has none."""
    while True:
        starts = {tp: max(reader.beginnings[tp], reader.ends[tp] - look_back) for tp in reader.partitions}
        reader.start(starts)
        found: list[ItemEmbedding] = []
        while not reader.caught_up:
            for messages in (await reader.poll()).values():
                found += filter(None, map(_read, messages))
        if found or starts == reader.beginnings:
            return found
        look_back *= LOOK_FURTHER


def _read(message: Any) -> ItemEmbedding | None:
    try:
        return None if message.value is None else read_item_embedding(message.value)
    except msgspec.DecodeError:
        return None  # none of ours; the index stage says so


def _check(found: Sequence[ItemEmbedding], embedder: Embedder, topic: str) -> None:
    others = [each for each in found if each.model != embedder.model]
    if not others:
        return
    newest = others[-1].model
    vectors = (image.vector for each in others if each.model == newest for image in each.images)
    numbers = next((half_numbers(vector) for vector in vectors if vector), None)  # many items may have no picture
    theirs = f"{newest} ({numbers} dimensions)" if numbers else newest
    raise OtherModel(
        f"{topic} holds vectors of the model {theirs}, this worker has {embedder.model} "
        f"({embedder.dimension} dimensions): set KINDRED_MODEL to the former, or use another KINDRED_TOPIC_PREFIX"
    )
