"""Vectors of two models never meet: a worker of another model than the topic's does not begin to embed."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.embedder import Embedder
from models.truth_messages import ImageEmbedding, ItemEmbedding, write_message
from models.vectors import pack_half
from streams.connection import Connection
from streams.embed.model_guard import LOOK_BACK, OtherModel, check_model
from streams.kafka.outbox import Message, Outbox
from streams.settings import Settings
from streams.topics import ITEM_EMBEDDINGS
from tests.brokers import TestBroker
from tests.responder import connection_of
from tests.test_embedder import graph, model

SHARDS = 2


def embedding(of_model: str, dimension: int = 12) -> bytes:
    vector = pack_half([1.0] + [0.0] * (dimension - 1))
    return write_message(ItemEmbedding(1, of_model, (ImageEmbedding("1.jpg", vector=vector),)))


async def on_topic(broker: TestBroker, settings: Settings, values: list[bytes | None]) -> Connection:
    """All of them on partition 1, one after the other."""
    await broker.create_topics({settings.topic_prefix + ITEM_EMBEDDINGS: SHARDS})
    connection = connection_of(broker)
    producer = await connection.started(connection.producer, "test")
    outbox = Outbox(producer)
    for number, value in enumerate(values):
        outbox.put(settings.topic_prefix + ITEM_EMBEDDINGS, 1, Message(b"%d" % number, value))
    await outbox.deliver()
    await producer.stop()
    return connection


@pytest.mark.parametrize(
    "last",
    [
        [],
        [None],
        [None] * (LOOK_BACK + 1),
        [b"none of ours"],
        [write_message(ItemEmbedding(2, "other@0123456789ab", ()))],
    ],
    ids=["nothing", "a tombstone", "many tombstones", "a message of others", "an item without a picture"],
)
async def test_another_model_is_refused_by_both_names(
    broker: TestBroker, topic_prefix: str, tmp_path: Path, last: list[bytes | None]
) -> None:
    """The error names the topic's model and this one's, with their dimensions; what stands behind it hides nothing."""
    settings = Settings(broker=broker.bootstrap, topic_prefix=topic_prefix, shards=SHARDS)
    embedder = Embedder(model(tmp_path, graph("Flatten")))
    connection = await on_topic(broker, settings, [embedding("other@0123456789ab", 24), *last])

    with pytest.raises(OtherModel) as refused:
        await check_model(connection, settings, embedder)

    assert "of the model other@0123456789ab (24 dimensions)" in str(refused.value)
    assert f"this worker has {embedder.model} (12 dimensions)" in str(refused.value)


@pytest.mark.parametrize("empty", [True, False])
async def test_its_own_vectors_and_an_empty_topic_are_fine(
    broker: TestBroker, topic_prefix: str, tmp_path: Path, empty: bool
) -> None:
    """The first worker of all begins, and the same model goes on."""
    settings = Settings(broker=broker.bootstrap, topic_prefix=topic_prefix, shards=SHARDS)
    embedder = Embedder(model(tmp_path, graph("Flatten")))
    connection = await on_topic(broker, settings, [] if empty else [embedding(embedder.model), None])

    await check_model(connection, settings, embedder)
