"""Partitions read once, from an offset up to the end they had at the start: what commands look at a topic with.

No consumer group, nothing is committed.  For what goes on reading, see the stages.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition

from models.errors import Unavailable
from streams.connection import Connection
from streams.kafka.truths import TruthReader

POLL_RECORDS_MAX = 5_000
SILENCE_S = 10.0
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
    reader = TruthReader(connection, "reading", partitions, POLL_RECORDS_MAX)
    try:
        await reader.connect()
        reader.start({tp: max(offset, reader.beginnings[tp]) for tp, offset in (since or {}).items()})
        heard_at = time.monotonic()
        while not reader.caught_up:
            for tp, records in (await reader.poll()).items():
                heard_at = time.monotonic()
                within = [record for record in records if record.offset < reader.ends[tp]]
                if within:
                    yield within
            if time.monotonic() - heard_at > SILENCE_S:
                raise Unavailable(f"no message for {SILENCE_S:.0f} s, before the end of {partitions[0].topic}")
    finally:
        await reader.stop()
