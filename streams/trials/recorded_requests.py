"""Requests as they were asked: the newest on `similar-requests`, or those of a file, equal ones counted.

Nothing is committed and no group is joined, so nobody's requests are taken away.  What is easy to get wrong:

* Time is the message's, as its client or the broker dated it.
* At most `limit` messages of each partition are read, from the end back; of those the newest count.  A topic with a
  million requests an hour costs as much as one with a thousand.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from models.errors import BadEvent, BadRequest
from models.outside_json import read_object
from streams.connection import Connection
from streams.kafka.log_reader import partitions_of, read_to_end
from streams.settings import Settings
from streams.topics import SIMILAR_REQUESTS

HELD_BYTES_MAX = 64_000_000
"""Of bodies; pictures may come in them."""
LINE_BYTES_MAX = 8_000_000
"""Of a body, as a worker takes it."""


@dataclass(frozen=True)
class Recorded:
    """Requests to be replayed."""

    bodies: Counter[bytes]
    """Each body, and how often it was asked; the newest first."""
    broken: Counter[str]
    """By reason, how many can be read by nobody."""
    taken: int
    """Messages or lines, the broken ones too."""
    there: int | None
    """How many there were to choose from, about; None: not known."""
    oldest_ms: int | None = None
    """Unix ms of the oldest taken."""


async def recorded_requests(
    connection: Connection,
    settings: Settings,
    since_ms: int,
    limit: int,
    told: Callable[[int], None] = lambda count: None,
) -> Recorded:
    """The newest `limit` requests since a moment in Unix ms.  `told` hears how many messages were read.

    Raises Unavailable when the topic does not exist or the broker stops answering.
    """
    partitions = await partitions_of(connection, settings.topic_prefix + SIMILAR_REQUESTS)
    starts, there = await _starts(connection, partitions, since_ms, limit)
    newest: list[tuple[int, int, int, bytes | None]] = []
    held_bytes = 0
    async for records in read_to_end(connection, partitions, starts):
        told(len(records))
        for record in records:
            if record.timestamp < since_ms:
                continue
            heapq.heappush(newest, (record.timestamp, record.partition, record.offset, record.value))
            held_bytes += len(record.value or b"")
            while len(newest) > limit or held_bytes > HELD_BYTES_MAX:
                held_bytes -= len(heapq.heappop(newest)[3] or b"")
    oldest_ms = newest[0][0] if newest else None
    newest.sort(reverse=True)
    bodies, broken = _counted(each[3] for each in newest)
    return Recorded(bodies, broken, len(newest), max(there, len(newest)) if there is not None else None, oldest_ms)


async def _starts(
    connection: Connection, partitions: list[TopicPartition], since_ms: int, limit: int
) -> tuple[dict[TopicPartition, int], int | None]:
    """Where to begin in each partition, and how many messages there are since the moment."""
    consumer = await connection.started(connection.consumer, "requests")
    try:
        begins: dict[TopicPartition, int] = await consumer.beginning_offsets(partitions)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        if connection.embedded:  # it does not know where a time is
            return {tp: max(begins[tp], ends[tp] - limit) for tp in partitions}, None
        found: dict[TopicPartition, Any] = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
    finally:
        await consumer.stop()
    since = {tp: found[tp].offset if found.get(tp) else ends[tp] for tp in partitions}
    starts = {tp: max(since[tp], begins[tp], ends[tp] - limit) for tp in partitions}
    return starts, sum(max(ends[tp] - max(since[tp], begins[tp]), 0) for tp in partitions)


def file_requests(lines: Iterable[bytes], name: str, limit: int) -> Recorded:
    """The requests of a file, one body a line: a request, or {"requests": [...]}; at most the first `limit`.

    Raises BadEvent, with the line, for what is no JSON object.
    """
    bodies: Counter[bytes] = Counter()
    taken = there = held_bytes = 0
    for number, line in enumerate(lines, start=1):
        line = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if not line:
            continue
        there += 1
        if taken == limit:
            continue
        try:
            read_object(line, LINE_BYTES_MAX)
        except BadRequest as error:
            raise BadEvent(f"{name}:{number}: {error}") from None
        held_bytes += 0 if line in bodies else len(line)
        if held_bytes > HELD_BYTES_MAX:
            raise BadEvent(f"{name}:{number}: expected at most {HELD_BYTES_MAX:,} bytes of requests; use --limit")
        taken += 1
        bodies[line] += 1
    return Recorded(bodies, Counter(), taken, there)


def _counted(values: Iterable[bytes | None]) -> tuple[Counter[bytes], Counter[str]]:
    """Bodies that are JSON objects, and by reason how many are none."""
    bodies: Counter[bytes] = Counter()
    broken: Counter[str] = Counter()
    for value in values:
        if value is not None and value in bodies:
            bodies[value] += 1
            continue
        try:
            read_object(value, LINE_BYTES_MAX)
        except BadRequest as error:
            broken[str(error)] += 1
            continue
        bodies[value or b""] += 1
    return bodies, broken
