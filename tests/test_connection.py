"""Clients of the broker as all stages use them."""

from __future__ import annotations

import asyncio

from streams.connection import Connection
from streams.outbox import Message, Outbox
from tests.brokers import TestBroker

AT_ONCE = 300


async def test_many_batches_at_once_for_a_partition(broker: TestBroker, topic_prefix: str) -> None:
    """Batches that wait for the same partition are all sent, none is given up because many others wait too."""
    topic = topic_prefix + "busy"
    await broker.create_topics({topic: 1})
    connection = Connection(broker.bootstrap)
    producer = await connection.started(connection.producer, "test")
    places: list[int] = []
    try:
        batches = []
        for number in range(AT_ONCE):
            batch = producer.create_batch()
            batch.append(key=None, value=b"%d" % number, timestamp=None)
            batches.append(producer.send_batch(batch, topic, partition=0))
        for sent in await asyncio.gather(*batches):
            places.append((await sent).offset)

        outbox = Outbox(producer)
        outbox.put(topic, 0, Message(b"key", b"last"))
        await outbox.deliver()
    finally:
        await producer.stop()

    assert places == list(range(AT_ONCE))
