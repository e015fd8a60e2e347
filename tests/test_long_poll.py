"""Fetches that wait for a minute keep nobody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError, GroupAuthorizationFailedError

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


def polled(
    consumer: LongPollConsumer, *partitions: TopicPartition, timeout_ms: int = WAIT_MS
) -> asyncio.Task[list[bytes]]:
    """A poll in a task: the values that it brings."""

    async def values() -> list[bytes]:
        found = await consumer.getmany(*partitions, timeout_ms=timeout_ms)
        return [message.value for messages in found.values() for message in messages]

    return asyncio.create_task(values())


async def waits(consumer: LongPollConsumer) -> None:
    """Wait until a poll waits for messages."""
    await wait_until(lambda: consumer._fetcher._fetch_waiters, SOON_S, "a poll")


async def soon(poll: asyncio.Task[list[bytes]]) -> list[bytes]:
    """What a poll brings, soon."""
    async with asyncio.timeout(SOON_S):
        return await poll


async def test_a_poll_ends_with_a_message(broker: TestBroker, consumer: LongPollConsumer) -> None:
    """And no sooner: aiokafka tells once more of a fetch whose messages the poll before has taken already."""
    place = min(consumer.assignment())

    async def two() -> list[list[bytes]]:
        return [[each.value for each in (await consumer.getmany(timeout_ms=WAIT_MS))[place]] for _ in range(2)]

    polls = asyncio.create_task(two())
    await waits(consumer)
    await put(broker, place, b"1")
    await wait_until(lambda: consumer.position_now(place) == 1, SOON_S, "the first message")
    await waits(consumer)

    await put(broker, place, b"2")

    async with asyncio.timeout(SOON_S):
        assert await polls == [[b"1"], [b"2"]]


async def test_a_poll_ends_with_its_time(consumer: LongPollConsumer) -> None:
    """And leaves nothing behind."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()

    assert await soon(polled(consumer, timeout_ms=300)) == []

    assert loop.time() - begun_s > 0.29
    assert not consumer._fetcher._fetch_waiters


def when_told(consumer: LongPollConsumer, monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Do something right after those who wait now are told of a fetch."""
    waiting, notify = list(consumer._fetcher._fetch_waiters), consumer._fetcher._notify

    def told(waiter: asyncio.Future[None]) -> None:
        news = waiter in waiting and not waiter.done()
        notify(waiter)
        if news:
            then()

    monkeypatch.setattr(consumer._fetcher, "_notify", told)


async def test_who_waits_is_told_first(
    broker: TestBroker, consumer: LongPollConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the fetch itself, not by the task that waits for its end."""
    poll = polled(consumer)
    await waits(consumer)
    by_fetch: list[bool] = []
    when_told(
        consumer, monkeypatch, lambda: by_fetch.append(asyncio.current_task() in consumer._fetcher._pending_tasks)
    )

    await put(broker, min(consumer.assignment()), b"1")

    assert await soon(poll) == [b"1"]
    assert by_fetch == [True]


async def test_a_poll_of_one_partition_waits_for_that_one(broker: TestBroker, consumer: LongPollConsumer) -> None:
    """What comes to another one stays there, and does not end it."""
    wanted, other = sorted(consumer.assignment())
    poll = polled(consumer, wanted)
    await waits(consumer)
    await put(broker, other, b"other")
    await wait_until(lambda: other in consumer._fetcher._records, SOON_S, "the other to come")
    assert not poll.done()

    await put(broker, wanted, b"wanted")

    assert await soon(poll) == [b"wanted"]
    assert await taken(consumer) == b"other"


async def test_a_poll_that_is_cancelled_takes_nothing(
    broker: TestBroker, consumer: LongPollConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is at the moment that it would go on; the next poll brings the message."""
    poll = polled(consumer)
    await waits(consumer)
    when_told(consumer, monkeypatch, lambda: poll.cancel())
    await put(broker, min(consumer.assignment()), b"1")

    await asyncio.wait([poll], timeout=SOON_S)
    assert poll.cancelled()
    assert not consumer._fetcher._fetch_waiters
    assert await taken(consumer) == b"1"


async def test_a_poll_ends_when_the_consumer_stops(consumer: LongPollConsumer) -> None:
    """With nothing; a later one says that it has stopped."""
    poll = polled(consumer)
    await waits(consumer)

    await consumer.stop()

    assert await soon(poll) == []
    with pytest.raises(ConsumerStoppedError):
        await soon(polled(consumer))


async def test_who_waits_is_told_what_the_group_may_not(consumer: LongPollConsumer) -> None:
    """aiokafka gives such an error to whoever waits for a fetch."""
    poll = polled(consumer)
    await waits(consumer)

    consumer._subscription.abort_waiters(GroupAuthorizationFailedError("group"))

    with pytest.raises(GroupAuthorizationFailedError):
        await soon(poll)
    assert not consumer._fetcher._fetch_waiters


async def test_all_that_may_move_is_counted(broker: TestBroker, consumer: LongPollConsumer) -> None:
    """An answer of the broker, what a poll takes, a seek, and a place that the broker tells."""
    place = min(consumer.assignment())
    await under_way(consumer)
    before = consumer.moves
    await put(broker, place, b"1", b"2")
    await wait_until(lambda: place in consumer._fetcher._records, SOON_S, "a message")
    assert consumer.highwater(place) == 2
    assert consumer.moves > before

    before = consumer.moves
    assert await taken(consumer) == b"1"
    assert consumer.moves > before

    before = consumer.moves
    consumer.seek(place, 2)
    assert consumer.moves > before

    consumer.pause(*consumer.assignment())
    await wait_until(lambda: not consumer._fetcher._in_flight, SOON_S, "the end of the last fetch")
    before = consumer.moves
    async with asyncio.timeout(SOON_S):
        await consumer.seek_to_beginning(place)
    assert consumer.position_now(place) == 0
    assert consumer.moves > before
