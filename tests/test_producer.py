"""Batches that leave at once: in their order, each to its end, and nothing of them stays behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import ConnectionGroup
from aiokafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    RequestTimedOutError,
)

from streams.brokers.apache_kafka import KafkaBroker
from streams.connection import Connection
from streams.kafka.outbox import Message, Outbox
from streams.producer import Delivery, ProducedBatch, Producer
from tests.brokers import TestBroker, create_topics
from tests.waiting import wait_until

SOON_S = 20
THERE = 1
"""Messages that a partition has before a test: it may still refuse the first, and a broker's answers are counted on."""
Alter = Callable[[bytes], bytes]


class Wire:
    """A producer's connection to the broker of a partition, whose answers a test holds; the next request is its own."""

    def __init__(self, producer: Producer, place: TopicPartition) -> None:
        node = producer.client.cluster.leader_for_partition(place)
        self.connection = producer.client._conns[node, ConnectionGroup.DEFAULT]
        self._number = self.connection._correlation_id + 1
        self._pass_on = self.connection._handle_frame
        self._held: list[bytes] = []
        self.connection._handle_frame = self._held.append

    async def answered(self) -> None:
        """Wait until the broker has answered the test's request."""
        await wait_until(lambda: any(map(self._is_it, self._held)), SOON_S, "an answer of the broker")

    async def open(self, altered: Alter = lambda frame: frame) -> None:
        """Let the answer through, `altered`, and all others as they are."""
        await self.answered()
        self.connection._handle_frame = self._pass_on
        for frame in self._held:
            self._pass_on(altered(frame) if self._is_it(frame) else frame)

    def _is_it(self, frame: bytes) -> bool:
        return int.from_bytes(frame[:4]) == self._number


def refused(code: int) -> Alter:
    """Makes the answer to a produce request of one partition say an error."""

    def altered(frame: bytes) -> bytes:
        topic_bytes = int.from_bytes(frame[8:10])
        place = 10 + topic_bytes + 4 + 4
        return frame[:place] + code.to_bytes(2) + frame[place + 2 :]

    return altered


@pytest_asyncio.fixture
async def places(broker: TestBroker, topic_prefix: str) -> Sequence[TopicPartition]:
    """Two partitions that take messages."""
    topic = topic_prefix + "t"
    await broker.create_topics({topic: 2})
    made = [TopicPartition(topic, number) for number in range(2)]
    producer = await ready(broker.bootstrap, made)
    try:
        for place in made:
            assert await in_turn(producer, place, *[b"there"] * THERE) == -THERE
    finally:
        await stopped(producer)
    return made


@pytest_asyncio.fixture
async def producer(broker: TestBroker, places: Sequence[TopicPartition]) -> AsyncIterator[Producer]:
    """Connected; knows the partitions.  At the end nothing may be left of what it sent."""
    made = await ready(broker.bootstrap, places)
    yield made
    await stopped(made)


async def ready(bootstrap: str, places: Sequence[TopicPartition], **settings: Any) -> Producer:
    """A producer that has its connection and knows the partitions."""
    connection = Connection(bootstrap)
    made = await connection.started(lambda: connection.producer(**settings), "test")
    for place in places:
        await made.partitions_for(place.topic)
        assert await made.client.ready(made.client.cluster.leader_for_partition(place))
    return made


async def stopped(producer: Producer) -> None:
    """Stop it, soon; it holds nothing any more."""
    async with asyncio.timeout(SOON_S):
        await producer.stop()
    nothing_left(producer)


def nothing_left(producer: Producer) -> None:
    """Nothing of what was sent keeps anything from being sent."""
    sender, accumulator = producer._sender, producer._message_accumulator
    assert not producer._under_way
    assert not sender._in_flight
    assert not sender._muted_partitions
    assert not accumulator._batches
    assert not accumulator._pending_batches


def batch_of(producer: Producer, *values: bytes) -> ProducedBatch:
    batch = producer.create_batch()
    batch.extend([Message(None, value) for value in values], 1)
    batch.close()
    return batch


def now(producer: Producer, place: TopicPartition, *values: bytes) -> Delivery | None:
    """Send them in one batch, at once."""
    (delivery,) = producer.send_now([(*place, batch_of(producer, *values))])
    return delivery


def sent_now(producer: Producer, place: TopicPartition, *values: bytes) -> Delivery:
    """Send them in one batch, at once, which can be."""
    delivery = now(producer, place, *values)
    assert delivery is not None
    return delivery


async def offset_of(delivery: Delivery) -> int:
    """The offset of its first message, soon, counted from the first that a test sends."""
    async with asyncio.timeout(SOON_S):
        return int((await delivery).offset) - THERE


async def in_turn(producer: Producer, place: TopicPartition, *values: bytes) -> int:
    """Send them in one batch when it is its turn; the first one's offset, soon."""
    async with asyncio.timeout(SOON_S):
        delivery = await producer.send_batch(batch_of(producer, *values), place.topic, partition=place.partition)
        return await offset_of(delivery)


async def log_of(bootstrap: str, place: TopicPartition, begin: int = THERE) -> list[bytes]:
    """All that a partition holds from an offset on."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer, asyncio.timeout(SOON_S):
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        consumer.seek(place, begin)
        values: list[bytes] = []
        while await consumer.position(place) < end:
            for messages in (await consumer.getmany(timeout_ms=1_000)).values():
                values += [message.value for message in messages]
        return values


async def test_batches_leave_in_the_step_that_sends_them(
    broker: TestBroker, producer: Producer, places: Sequence[TopicPartition]
) -> None:
    """One request for all partitions of a broker, before anybody else has a turn."""
    wire = Wire(producer, places[0])
    before = wire.connection._correlation_id

    deliveries = producer.send_now([(*place, batch_of(producer, b"a", b"b")) for place in places])

    assert wire.connection._correlation_id == before + 1
    await wire.open()
    for place, delivery in zip(places, deliveries, strict=True):
        assert delivery is not None
        assert await offset_of(delivery) == 0
        assert await log_of(broker.bootstrap, place) == [b"a", b"b"]
    nothing_left(producer)


async def test_of_two_batches_for_a_partition_the_second_waits(
    producer: Producer, places: Sequence[TopicPartition]
) -> None:
    """Also when they are sent together."""
    deliveries = producer.send_now([(*places[0], batch_of(producer, value)) for value in (b"a", b"b")])

    assert [delivery is None for delivery in deliveries] == [False, True]
    assert deliveries[0]
    await offset_of(deliveries[0])


@pytest.mark.parametrize("error", [None, NotLeaderForPartitionError], ids=["accepted", "refused"])
async def test_batches_that_are_sent_while_one_is_under_way_come_after_it(
    broker: TestBroker, producer: Producer, places: Sequence[TopicPartition], error: type[Any] | None
) -> None:
    """Also when it has to go again, because its broker is said to lead the partition no more."""
    wire = Wire(producer, places[0])
    first = sent_now(producer, places[0], b"1")
    assert now(producer, places[0], b"no") is None
    assert now(producer, places[1], b"no") is None
    later = [asyncio.create_task(in_turn(producer, places[0], value)) for value in (b"2", b"3", b"4")]
    await wait_until(lambda: producer._message_accumulator._batches, SOON_S, "the second to wait")

    await wire.open(refused(error.errno) if error else lambda frame: frame)

    again = 1 if error else 0  # in truth the broker had taken it
    assert await offset_of(first) == again
    assert await asyncio.gather(*later) == [again + 1, again + 2, again + 3]
    assert await log_of(broker.bootstrap, places[0]) == [b"1"] * again + [b"1", b"2", b"3", b"4"]
    nothing_left(producer)


async def test_a_partition_that_moves_while_its_batch_is_under_way(
    broker: TestBroker, producer: Producer, places: Sequence[TopicPartition]
) -> None:
    """A batch for its new leader waits until the one before it has got there too."""
    cluster = producer.client.cluster
    wire = Wire(producer, places[0])
    first = sent_now(producer, places[0], b"1")
    former = cluster.leader_for_partition(places[0])
    another = former + 1
    cluster._brokers[another] = cluster._brokers[former]._replace(nodeId=another)
    for place in places:
        moved = cluster._partitions[place.topic][place.partition]
        cluster._partitions[place.topic][place.partition] = moved._replace(leader=another)
    assert await producer.client.ready(another)

    assert now(producer, places[0], b"no") is None
    later = asyncio.create_task(in_turn(producer, places[0], b"2"))
    await wait_until(lambda: producer._message_accumulator._batches, SOON_S, "the second to wait")
    assert await in_turn(producer, places[1], b"elsewhere") == 0
    assert not later.done()
    await wire.open(refused(NotLeaderForPartitionError.errno))

    assert await offset_of(first) == 1
    assert await later == 2
    assert await log_of(broker.bootstrap, places[0]) == [b"1", b"1", b"2"]
    nothing_left(producer)


async def test_what_waits_goes_before_what_comes(producer: Producer, places: Sequence[TopicPartition]) -> None:
    """Whoever sends as soon as the broker is free leaves it to those who wait for it, wherever their batches go."""
    wire = Wire(producer, places[0])
    first = sent_now(producer, places[0], b"1")
    waiting = asyncio.create_task(in_turn(producer, places[1], b"2"))
    await wait_until(lambda: producer._message_accumulator._batches, SOON_S, "the second to wait")
    tried: list[Delivery | None] = []
    first.add_done_callback(lambda _: tried.append(now(producer, places[0], b"3")))

    await wire.open()

    await offset_of(first)
    assert tried == [None]
    assert await waiting == 0


async def test_who_waits_for_a_turn_at_a_partition_is_not_overtaken(
    producer: Producer, places: Sequence[TopicPartition]
) -> None:
    """Its batch is nowhere yet: it waits for its leader to be told, or for the one before it to be taken."""
    async with producer._turns[places[0]]:
        assert now(producer, places[0], b"1") is None

    await offset_of(sent_now(producer, places[0], b"1"))


async def test_a_connection_that_breaks_under_a_request(
    broker: TestBroker, producer: Producer, places: Sequence[TopicPartition]
) -> None:
    """The batch goes again over another one; the broker may have it twice then."""
    wire = Wire(producer, places[0])
    first = sent_now(producer, places[0], b"1")
    await wire.answered()

    wire.connection._writer.transport.abort()

    assert await offset_of(first) == 1
    assert await offset_of(sent_now(producer, places[0], b"2")) == 2
    assert await log_of(broker.bootstrap, places[0]) == [b"1", b"1", b"2"]
    nothing_left(producer)


async def test_a_request_that_cannot_be_written(
    producer: Producer, places: Sequence[TopicPartition], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes again, as one that was lost under way does."""
    connection = Wire(producer, places[0]).connection

    def send(*_: Any, **__: Any) -> Any:
        connection.close()
        raise KafkaConnectionError("broken")

    monkeypatch.setattr(connection, "send", send)

    assert await offset_of(sent_now(producer, places[0], b"1")) == 0
    nothing_left(producer)


@pytest.mark.parametrize("where", ["send", "answer"])
async def test_a_request_that_goes_wrong_in_no_known_way(
    producer: Producer, places: Sequence[TopicPartition], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Who waits for its batches is told, and others are sent as before."""
    connection = producer.client._conns[producer.client.cluster.leader_for_partition(places[0]), 0]
    error = ValueError("no such thing")

    def send(*_: Any, **__: Any) -> Any:
        if where == "send":
            raise error
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_exception(error)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(connection, "send", send)
        first = sent_now(producer, places[0], b"1")
        with pytest.raises(ValueError, match="no such thing"):
            await offset_of(first)

    nothing_left(producer)
    assert await offset_of(sent_now(producer, places[0], b"1")) == 0


async def test_a_broker_that_does_not_answer(broker: TestBroker, places: Sequence[TopicPartition]) -> None:
    """The request is given up with its connection; who sends the batch again uses another one."""
    producer = await ready(broker.bootstrap, places, request_timeout_ms=400)
    try:
        wire = Wire(producer, places[0])
        with pytest.raises(RequestTimedOutError):
            await offset_of(sent_now(producer, places[0], b"1"))

        assert not wire.connection.connected()
        await in_turn(producer, places[0], b"2")
    finally:
        await stopped(producer)


async def test_a_stop_waits_for_what_is_under_way(broker: TestBroker, places: Sequence[TopicPartition]) -> None:
    """Another stop beside it takes nothing away from it; from then on nothing leaves."""
    producer = await ready(broker.bootstrap, places)
    wire = Wire(producer, places[0])
    first = sent_now(producer, places[0], b"1")
    stop = asyncio.create_task(producer.stop())
    await wait_until(lambda: producer._message_accumulator._closed, SOON_S, "the stop to begin")
    await producer.stop()
    assert now(producer, places[1], b"no") is None
    assert not stop.done()

    await wire.open()

    assert await offset_of(first) == 0
    async with asyncio.timeout(SOON_S):
        await stop
    nothing_left(producer)


async def test_nothing_leaves_once_a_stop_has_begun(broker: TestBroker, places: Sequence[TopicPartition]) -> None:
    """It would not be waited for."""
    producer = await ready(broker.bootstrap, places)
    stop = asyncio.create_task(producer.stop())
    while not producer._message_accumulator._closed:  # noqa: ASYNC110  (it is over soon after)
        await asyncio.sleep(0)
    assert Wire(producer, places[0]).connection.connected()

    assert now(producer, places[0], b"no") is None

    await stop


async def test_a_connection_that_was_closed(producer: Producer, places: Sequence[TopicPartition]) -> None:
    """As after minutes without a request: another one is made, without waiting as after an error."""
    Wire(producer, places[0]).connection.close()

    assert now(producer, places[0], b"no") is None
    assert await in_turn(producer, places[0], b"1") == 0


async def test_an_error_that_nobody_waits_for(producer: Producer, places: Sequence[TopicPartition]) -> None:
    """Whoever sent it may be cancelled before it looks: that is no error that asyncio has to tell of."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    wire = Wire(producer, places[0])
    sent_now(producer, places[0], b"1")

    await wire.open(refused(MessageSizeTooLargeError.errno))

    await wait_until(lambda: not producer._under_way, SOON_S, "its end")
    gc.collect()
    assert not told
    nothing_left(producer)


async def test_one_that_gets_no_answers_does_not_wait_for_them(
    broker: TestBroker, places: Sequence[TopicPartition]
) -> None:
    """With acks 0 a broker says nothing; aiokafka knows how to do that."""
    producer = await ready(broker.bootstrap, places, acks=0)
    try:
        assert now(producer, places[0], b"1") is None
        await (await producer.send_batch(batch_of(producer, b"1"), places[0].topic, partition=0))
    finally:
        await stopped(producer)


@pytest.mark.needs_kafka
async def test_a_topic_that_is_deleted_and_made_again(
    broker: TestBroker, producer: Producer, places: Sequence[TopicPartition]
) -> None:
    """The producer learns of it from the broker's answer, and delivers to the new one."""
    topic = places[0].topic
    await offset_of(sent_now(producer, places[0], b"old"))
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return bool((await admin.describe_topics([topic]))[0]["error_code"])

        await wait_until(gone, SOON_S, "the topic to be gone")
    finally:
        await admin.close()
    delivery = sent_now(producer, places[0], b"new")
    await wait_until(
        lambda: producer.client.cluster.leader_for_partition(places[0]) is None, SOON_S, "the topic to be missed"
    )

    await broker.create_topics({topic: 2})

    assert await offset_of(delivery) == -THERE
    assert await log_of(broker.bootstrap, places[0], 0) == [b"new"]
    nothing_left(producer)


@pytest.mark.needs_kafka
async def test_a_broker_that_crashes_and_comes_back(own_kafka: Callable[..., KafkaBroker]) -> None:
    """What was sent before, meanwhile and after is there, in its order."""
    broker = own_kafka()
    place = TopicPartition("t", 0)
    await create_topics(broker.bootstrap, {"t": 1})
    producer = await ready(broker.bootstrap, [place])
    outbox = Outbox(producer)
    try:
        for number in range(3):
            outbox.put(place.topic, place.partition, Message(None, b"%d" % number))
        await outbox.deliver()
        wire = Wire(producer, place)
        outbox.put(place.topic, place.partition, Message(None, b"3"))
        outbox.begin()
        late = asyncio.create_task(outbox.deliver())
        await wire.answered()

        await asyncio.to_thread(broker.kill)
        await wait_until(lambda: not wire.connection.connected(), SOON_S, "the connection to break")
        await asyncio.to_thread(broker.start)

        async with asyncio.timeout(60):
            await late
            outbox.put(place.topic, place.partition, Message(None, b"4"))
            await outbox.deliver()
        assert await log_of(broker.bootstrap, place, 0) == [b"0", b"1", b"2", b"3", b"3", b"4"]
    finally:
        await stopped(producer)
