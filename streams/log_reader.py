"""Partitions read once, from an offset up to the end they had at the start: what commands look at a topic with.

No consumer group, nothing is committed.  For what goes on reading, see the stages.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from models.errors import Unavailable
from streams.connection import Connection

SILENCE_MS = 10_000
"""After so long without a record before the end is reached, the reading is given up."""


async def partition_counts(connection: Connection, topics: Iterable[str]) -> dict[str, int]:
    """Number of partitions by topic; a topic that does not exist is left out."""
    admin = await connection.started(connection.admin, "topics")
    try:
        described = await admin.describe_topics(list(topics))
    finally:
        await admin.close()
    return {each["topic"]: len(each["partitions"]) for each in described if not each["error_code"]}


async def partitions_of(connection: Connection, topic: str) -> list[TopicPartition]:
    """All partitions of a topic.  Raises Unavailable when it does not exist."""
    counts = await partition_counts(connection, [topic])
    if topic not in counts:
        raise Unavailable(f"topic {topic} does not exist: `kindred topics` or a worker creates it")
    return [TopicPartition(topic, number) for number in range(counts[topic])]


async def read_to_end(
    connection: Connection, partitions: Sequence[TopicPartition], since: Mapping[TopicPartition, int] | None = None
) -> AsyncIterator[Sequence[Any]]:
    """The records of the partitions in polls, each of one partition and in its order, up to the end of now.

    `since` gives the first offset of a partition, else it is read from its beginning; one that is gone already means
    the first that is left.  Raises Unavailable when the broker stops answering in the middle.
    """
    consumer = await connection.started(connection.consumer, "reading")
    try:
        consumer.assign(list(partitions))
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        for tp in partitions:
            consumer.seek(tp, max(begins[tp], (since or {}).get(tp, 0)))
        async for records in _up_to(consumer, ends):
            yield records
    finally:
        await consumer.stop()


async def _up_to(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> AsyncIterator[Sequence[Any]]:
    # The position, not the last record's offset, says when the end is reached: a compacted tail may hold nothing.
    open_ones = {tp for tp, end in ends.items() if await consumer.position(tp) < end}
    waited_ms = 0
    while open_ones:
        polled = await consumer.getmany(*open_ones, timeout_ms=200)
        for tp, records in polled.items():
            within = [record for record in records if record.offset < ends[tp]]
            if within:
                yield within
        before = len(open_ones)
        open_ones = {tp for tp in open_ones if await consumer.position(tp) < ends[tp]}
        waited_ms = 0 if polled or len(open_ones) < before else waited_ms + 200
        if waited_ms >= SILENCE_MS:
            raise Unavailable(f"the broker sent nothing for {SILENCE_MS / 1000:.0f} s before the end of {open_ones}")
