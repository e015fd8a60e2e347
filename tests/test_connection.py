"""Clients of the broker as all stages use them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streams.connection import Connection
from streams.kafka.outbox import Message, Outbox
from streams.producer import ProducedBatch
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


small = st.binary(max_size=20)
messages = st.builds(
    Message,
    st.none() | small,
    st.none() | small | st.just(b"x" * 300),
    st.lists(st.tuples(st.text(max_size=3), small), max_size=2),
    st.none() | st.integers(1, 2**40),
)


@given(st.lists(messages, max_size=12), st.sampled_from([1, 100, 400, 10_000]))
def test_messages_at_once_are_the_batches_of_messages_one_by_one(sent: Sequence[Message], bytes_max: int) -> None:
    """The same bytes, cut at the same places; a message that is larger than a batch goes alone."""
    expected = [BatchBuilder(bytes_max, 0)]
    for each in sent:
        fields = {"key": each.key, "value": each.value, "headers": list(each.headers)}
        if expected[-1].append(timestamp=each.timestamp_ms or 5, **fields) is None:
            expected.append(BatchBuilder(bytes_max, 0))
            assert expected[-1].append(timestamp=each.timestamp_ms or 5, **fields) is not None

    got, begin = [ProducedBatch(bytes_max, 0)], 0
    while (begin := begin + got[-1].extend(sent[begin:], 5)) < len(sent):
        got.append(ProducedBatch(bytes_max, 0))

    assert [batch.record_count() for batch in expected] == [batch.record_count() for batch in got]
    assert [bytes(batch._build()) for batch in expected] == [bytes(batch._build()) for batch in got]
