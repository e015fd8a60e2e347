"""Fetches that wait for a minute keep nobody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import TopicPartition

from streams.connection import Connection
from streams.long_poll import LongPollConsumer
from tests.brokers import TestBroker
from tests.waiting import wait_until

pytestmark = pytest.mark.needs_kafka
WAIT_MS = 60_000
SOON_S = 20
"""Much less than the wait, and more than a busy machine takes."""


@pytest_asyncio.fixture
async def consumer(broker: TestBroker, topic_prefix: str) -> AsyncIterator[LongPollConsumer]:
    """At the beginning of two empty partitions, one message a poll."""
    await broker.create_topics({topic_prefix + "t": 2})
    connection = Connection(broker.bootstrap)
    made = await connection.started(
        lambda: connection.consumer(None, fetch_max_wait_ms=WAIT_MS, max_poll_records=1), "test"
    )
    made.assign([TopicPartition(topic_prefix + "t", number) for number in range(2)])
    await made.seek_to_beginning()
    yield made
    await made.stop()


async def put(broker: TestBroker, place: TopicPartition, *values: bytes) -> None:
    """Write messages, in one batch."""
    connection = Connection(broker.bootstrap)
    producer = await connection.started(connection.producer, "test")
    try:
        batch = producer.create_batch()
        for value in values:
            batch.append(key=None, value=value, timestamp=None)
        await (await producer.send_batch(batch, place.topic, partition=place.partition))
    finally:
        await producer.stop()


async def taken(consumer: LongPollConsumer) -> bytes:
    """The next message, soon."""
    async with asyncio.timeout(SOON_S):
        while True:
            for messages in (await consumer.getmany(timeout_ms=1_000)).values():
                return bytes(messages[0].value)


async def under_way(consumer: LongPollConsumer) -> None:
    """Wait until the broker has a fetch."""
    await wait_until(lambda: consumer._fetcher._in_flight, SOON_S, "a fetch")


async def test_a_message_does_not_wait_for_a_fetch_without_its_partition(
    broker: TestBroker, consumer: LongPollConsumer
) -> None:
    """What was fetched and is not taken in time leaves its partition out of the next fetch; that one ends soon."""
    slow = min(consumer.assignment())
    await put(broker, slow, b"1", b"2")
    assert await taken(consumer) == b"1"
    await under_way(consumer)
    assert slow in consumer._fetcher._records
    assert await taken(consumer) == b"2"

    await put(broker, slow, b"3")

    assert await taken(consumer) == b"3"


async def test_a_question_does_not_wait_for_a_fetch(broker: TestBroker, consumer: LongPollConsumer) -> None:
    """Kafka would answer it when the fetch has ended, were it asked on the same connection."""
    place = max(consumer.assignment())
    await under_way(consumer)
    async with asyncio.timeout(SOON_S):
        assert await consumer.end_offsets([place]) == {place: 0}

    await put(broker, place, b"1")

    assert await taken(consumer) == b"1"


async def test_it_may_stop_right_after_its_start(broker: TestBroker) -> None:
    """Nothing that waits between the two: asked for the ends of no partitions, as of a broker without topics."""
    connection = Connection(broker.bootstrap)
    consumer = await connection.started(connection.consumer, "test")

    assert await consumer.end_offsets([]) == {}
    await consumer.stop()
