"""Messages on their way out: collected while a batch is handled, delivered together, acknowledged before the offset is.

One produced batch a partition (`create_batch`, linger 0) costs half of a `send` a message.  `deliver` does not give
up: while the broker is away it tries again, until it succeeds or its caller is cancelled.  Order within a partition is
kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError

log = logging.getLogger(__name__)

BATCH_BYTES = 800_000
"""Of the messages of one produced batch, below `connection.BATCH_BYTES_MAX`."""

MESSAGE_OVERHEAD_BYTES = 80
"""Lengths, offset and time of a message in a batch, generously."""

Headers = Sequence[tuple[str, bytes]]
Delivered = Callable[[str, int, int, int], None]


class Message(msgspec.Struct, frozen=True, gc=False):
    """What is written to a topic.  `value` None is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


class Outbox:
    """Collects messages by topic and partition and delivers them in rounds."""

    def __init__(self, producer: AIOKafkaProducer, delivered: Delivered | None = None) -> None:
        """`delivered` is told of every batch: topic, partition, offset of its first message, number of messages."""
        self.producer = producer
        self.delivered = delivered
        self._waiting: dict[tuple[str, int], list[Message]] = defaultdict(list)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, topic: str, partition: int, message: Message) -> None:
        """Add one message to the next round."""
        self._waiting[topic, partition].append(message)

    def extend(self, topic: str, partition: int, messages: Iterable[Message]) -> None:
        """Add many messages of one partition to the next round."""
        self._waiting[topic, partition].extend(messages)

    async def deliver(self) -> None:
        """Deliver all that was put so far; returns when the broker has acknowledged every message."""
        rounds, self._waiting = self._waiting, defaultdict(list)
        await asyncio.gather(*(self._deliver(topic, part, messages) for (topic, part), messages in rounds.items()))

    async def _deliver(self, topic: str, partition: int, messages: Sequence[Message]) -> None:
        while messages:
            batch, taken = self._batch(messages)
            await self._insist(topic, partition, batch)
            messages = messages[taken:]

    async def _insist(self, topic: str, partition: int, messages: Sequence[Message]) -> None:
        """Send until acknowledged.  Raises what no retry can mend, such as a message that the topic does not accept."""
        delay_s = 0.1
        while True:
            try:
                base_offset = await self._send(topic, partition, messages)
                if self.delivered:
                    self.delivered(topic, partition, base_offset, len(messages))
                return
            except KafkaError as error:
                if not (error.retriable or isinstance(error, (KafkaTimeoutError, KafkaConnectionError))):
                    raise
                log.warning("%s[%d]: %d messages are not delivered yet: %r", topic, partition, len(messages), error)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 2.0)

    async def _send(self, topic: str, partition: int, messages: Sequence[Message]) -> int:
        """Offset of the first message."""
        batch = self.producer.create_batch()
        append, now_ms = batch.append, time.time_ns() // 1_000_000
        no_headers: list[tuple[str, bytes]] = []
        for each in messages:
            headers = list(each.headers) if each.headers else no_headers
            append(key=each.key, value=each.value, timestamp=each.timestamp_ms or now_ms, headers=headers)
        batch.close()
        metadata = await (await self.producer.send_batch(batch, topic, partition=partition))
        return int(metadata.offset)

    def _batch(self, messages: Sequence[Message]) -> tuple[Sequence[Message], int]:
        """The messages that go into one produced batch; a very large one goes alone."""
        size = count = 0
        for each in messages:
            size += MESSAGE_OVERHEAD_BYTES + len(each.key or b"") + len(each.value or b"")
            if each.headers:
                size += sum(len(name) + len(value or b"") + 8 for name, value in each.headers)
            if count and size > BATCH_BYTES:
                break
            count += 1
        if count == len(messages):
            return messages, count
        return messages[:count], count
