"""How many messages of the truths are not read yet, worked out anew only when that may have changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition

from streams.connection import Connection
from streams.kafka.outbox import Message, Outbox
from streams.kafka.truths import TruthReader
from tests.brokers import TestBroker
from tests.waiting import wait_until

SOON_S = 20


@pytest_asyncio.fixture
async def reader(broker: TestBroker, topic_prefix: str) -> AsyncIterator[TruthReader]:
    """Of two partitions, of which the first has three messages; none is read yet."""
    places = [TopicPartition(topic_prefix + "t", number) for number in range(2)]
    await broker.create_topics({places[0].topic: 2})
    await put(broker, places[0], 3)
    made = TruthReader(Connection(broker.bootstrap), "test", places, records_max=1)
    await made.connect()
    made.start()
    yield made
    await made.stop()


async def put(broker: TestBroker, place: TopicPartition, count: int) -> None:
    """Write messages."""
    connection = Connection(broker.bootstrap)
    producer = await connection.started(connection.producer, "test")
    outbox = Outbox(producer)
    try:
        outbox.extend(place.topic, place.partition, [Message(b"key", b"value")] * count)
        await outbox.deliver()
    finally:
        await producer.stop()


async def lags_are(reader: TruthReader, *expected: int, polls: bool = True) -> None:
    """Wait until so many messages wait, by partition."""

    async def so() -> bool:
        if polls:
            await reader.poll()
        return lags(reader) == list(expected)

    await wait_until(so, SOON_S, lambda: f"lags of {expected}, they are {lags(reader)}")


def lags(reader: TruthReader) -> Sequence[int]:
    return [reader.lag(place) for place in reader.partitions]


async def test_lags_follow_what_comes_and_what_is_read(broker: TestBroker, reader: TruthReader) -> None:
    """One message a poll; what is not polled is known as soon as the broker has told of it."""
    await lags_are(reader, 3, 0, polls=False)
    await reader.poll()
    assert lags(reader) == [2, 0]
    assert set(reader.lags()) == {reader.partitions[0]}
    await lags_are(reader, 0, 0)
    assert not reader.lags()

    await put(broker, reader.partitions[1], 2)

    await lags_are(reader, 0, 2, polls=False)


async def test_lags_follow_a_seek(reader: TruthReader) -> None:
    """Also one that asks the consumer itself, as for what others wrote among what is ours."""
    await lags_are(reader, 0, 0)
    reader.consumer.pause(*reader.partitions)

    reader.seek(reader.partitions[0], 1)
    assert lags(reader) == [2, 0]
    reader.consumer.seek(reader.partitions[0], 0)
    assert lags(reader) == [3, 0]


async def test_lags_that_nothing_has_moved_are_not_worked_out_again(reader: TruthReader) -> None:
    """Pages and every answer ask for them."""
    await lags_are(reader, 0, 0)
    reader.consumer.pause(*reader.partitions)
    await wait_until(lambda: not reader.consumer._fetcher._in_flight, SOON_S, "the end of the last fetch")

    assert reader.lags() is reader.lags()


async def test_a_reader_that_connects_again_counts_anew(reader: TruthReader) -> None:
    """Its new consumer may have moved as often as the former one."""
    await lags_are(reader, 3, 0, polls=False)
    moves = reader.consumer.moves
    await reader.consumer.stop()

    await reader.connect()
    reader.consumer.moves = moves

    assert lags(reader) == [0, 0]


@pytest.mark.needs_kafka
async def test_an_end_without_messages_is_reached(broker: TestBroker, reader: TruthReader) -> None:
    """A transaction that was taken back leaves offsets that nobody reads."""
    await lags_are(reader, 0, 0)
    place = reader.partitions[0]
    writer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=place.topic)
    async with asyncio.timeout(SOON_S), writer:
        await writer.begin_transaction()
        await writer.send_and_wait(place.topic, b"never", partition=place.partition)
        await writer.abort_transaction()

    async def reached() -> bool:
        assert not any((await reader.poll()).values())
        return reader.position(place) == 5

    await wait_until(reached, SOON_S, "the new end")
    assert reader.consumer.highwater(place) == 5
    assert lags(reader) == [0, 0]
