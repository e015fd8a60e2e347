"""Messages on their way out: each once, in their order, whatever happens to who delivers them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError

from streams.connection import Connection
from streams.kafka.outbox import SLICE, Message, Outbox, begin_together
from streams.producer import Producer
from tests.brokers import TestBroker

SOON_S = 20
Deliveries = list[tuple[int, int]]


class Topic:
    """A topic of two partitions, and an outbox for it that tells what was delivered: partition and number."""

    def __init__(self, broker: TestBroker, name: str, producer: Producer) -> None:
        self.bootstrap = broker.bootstrap
        self.name = name
        self.producer = producer
        self.delivered: Deliveries = []
        self.outbox = Outbox(producer, lambda topic, partition, base, count: self.delivered.append((partition, count)))

    def put(self, *values: str, partition: int = 0, instead: Message | None = None) -> None:
        for value in values:
            self.outbox.put(self.name, partition, Message(None, value.encode(), instead=instead))

    async def deliver(self) -> None:
        """Deliver, soon."""
        async with asyncio.timeout(SOON_S):
            await self.outbox.deliver()

    async def holds(self, partition: int = 0) -> list[str]:
        """All values of a partition after those that were there at first."""
        place = TopicPartition(self.name, partition)
        async with AIOKafkaConsumer(bootstrap_servers=self.bootstrap) as consumer, asyncio.timeout(SOON_S):
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            consumer.seek(place, 1)
            values: list[str] = []
            while await consumer.position(place) < end:
                for messages in (await consumer.getmany(timeout_ms=1_000)).values():
                    values += [message.value.decode() for message in messages]
            return values


@pytest_asyncio.fixture
async def topic(broker: TestBroker, topic_prefix: str) -> AsyncIterator[Topic]:
    """Its producer knows its partitions, which have one message each."""
    name = topic_prefix + "t"
    await broker.create_topics({name: 2})
    connection = Connection(broker.bootstrap)
    producer = await connection.started(connection.producer, "test")
    made = Topic(broker, name, producer)
    for partition in range(2):
        made.put("there", partition=partition)
    await made.deliver()
    made.delivered.clear()
    yield made
    async with asyncio.timeout(SOON_S):
        await producer.stop()


def requests(topic: Topic) -> int:
    """How many requests the connection to the broker has had."""
    (connection,) = topic.producer.client._conns.values()
    return int(connection._correlation_id)


async def test_what_has_begun_is_delivered_once(topic: Topic) -> None:
    """However often it is begun, and with what is put meanwhile behind it."""
    topic.put("1", "2")
    topic.outbox.begin()
    topic.put("3")
    topic.put("elsewhere", partition=1)
    topic.outbox.begin()
    topic.put("4")

    await topic.deliver()
    await topic.deliver()

    assert await topic.holds() == ["1", "2", "3", "4"]
    assert await topic.holds(1) == ["elsewhere"]
    assert sorted(topic.delivered) == [(0, 2), (0, 2), (1, 1)]
    assert not topic.outbox


async def test_several_begin_together(topic: Topic) -> None:
    """Those for other partitions go in the same request, one for the same partition behind the one before it."""
    outboxes = [Outbox(topic.producer) for _ in range(3)]
    for number, (outbox, partition) in enumerate(zip(outboxes, (0, 1, 0), strict=True)):
        outbox.put(topic.name, partition, Message(None, b"%d" % number))
    before = requests(topic)

    begin_together([*outboxes, Outbox(topic.producer)])

    assert requests(topic) == before + 1
    async with asyncio.timeout(SOON_S):
        await asyncio.gather(*(outbox.deliver() for outbox in outboxes))
    assert await topic.holds() == ["0", "2"]
    assert await topic.holds(1) == ["1"]


async def test_what_begins_is_written_at_once(topic: Topic) -> None:
    """In one request for both partitions, before anybody else has a turn."""
    topic.put("1")
    topic.put("2", partition=1)
    before = requests(topic)

    topic.outbox.begin()

    assert requests(topic) == before + 1
    await topic.deliver()
    assert sorted(topic.delivered) == [(0, 1), (1, 1)]


async def test_no_messages_are_no_batch(topic: Topic) -> None:
    """Nothing is asked of the broker for them."""
    before = requests(topic)
    topic.outbox.extend(topic.name, 0, [])

    await topic.deliver()

    assert requests(topic) == before
    assert not topic.delivered


async def test_more_than_a_turn_of_the_loop_may_take_is_not_begun(topic: Topic) -> None:
    """It would hold the others up; `deliver` puts it into batches piece by piece."""
    values = [str(number) for number in range(2 * SLICE + 1)]
    topic.put(*values)
    before = requests(topic)

    topic.outbox.begin()

    assert requests(topic) == before
    await topic.deliver()
    assert await topic.holds() == values
    assert topic.delivered == [(0, len(values))]


@pytest.mark.needs_kafka
@pytest.mark.parametrize("begun", [True, False])
async def test_a_message_that_is_too_large(topic: Topic, begun: bool) -> None:
    """Another one goes in its place, or who delivers it is told."""
    large = "x" * 1_500_000
    topic.put(large, instead=Message(None, b"smaller"))
    if begun:
        topic.outbox.begin()
    await topic.deliver()
    topic.put("1", large)
    if begun:
        topic.outbox.begin()
    with pytest.raises(MessageSizeTooLargeError):
        await topic.deliver()
    topic.put("2")
    await topic.deliver()

    assert await topic.holds() == ["smaller", "1", "2"]


async def test_who_delivers_may_be_cancelled(topic: Topic) -> None:
    """Before it begins to wait and while it waits: what is under way arrives, and nobody is told of errors unseen."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    topic.put("1")
    topic.put("a", partition=1)
    topic.outbox.begin()
    never = asyncio.create_task(topic.outbox.deliver())
    never.cancel()
    await asyncio.gather(never, return_exceptions=True)
    await topic.deliver()
    topic.put("2")
    topic.put("b", partition=1)
    halfway = asyncio.create_task(topic.outbox.deliver())
    await asyncio.sleep(0)
    halfway.cancel()
    await asyncio.gather(halfway, return_exceptions=True)
    assert halfway.cancelled()
    topic.put("3")

    await topic.deliver()

    assert await topic.holds() == ["1", "2", "3"]
    assert await topic.holds(1) == ["a", "b"]
    gc.collect()
    assert not told


async def test_outboxes_of_a_producer_wait_for_each_other(topic: Topic) -> None:
    """Those that come first go at once, the others as soon as they can; none is lost, none overtakes its partition."""
    outboxes = [Outbox(topic.producer) for _ in range(50)]
    for number, outbox in enumerate(outboxes):
        for partition in range(2):
            outbox.put(topic.name, partition, Message(None, b"%d" % number))
        outbox.begin()

    async with asyncio.timeout(SOON_S):
        await asyncio.gather(*(outbox.deliver() for outbox in outboxes))

    for partition in range(2):
        assert await topic.holds(partition) == [str(number) for number in range(len(outboxes))]
