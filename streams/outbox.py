"""Messages on their way out: collected while a batch is handled, delivered together, acknowledged before the offset is.

One produced batch a partition (`create_batch`, linger 0) costs half of a `send` a message.  `deliver` does not give
up: while the broker is away it tries again, until it succeeds or its caller is cancelled.  Order within a partition is
kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError

log = logging.getLogger(__name__)

BATCH_BYTES = 800_000
"""Of the messages of one produced batch, below `connection.BATCH_BYTES_MAX`."""

Headers = Sequence[tuple[str, bytes]]
Delivered = Callable[[str, int, int, int], None]


class Message(NamedTuple):
    """A message with its place.  `value` None is a tombstone."""

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
        for message in messages:
            batch.append(
                key=message.key,
                value=message.value,
                timestamp=message.timestamp_ms,
                headers=list(message.headers),
            )
        batch.close()
        metadata = await (await self.producer.send_batch(batch, topic, partition=partition))
        return int(metadata.offset)

    def _batch(self, messages: Sequence[Message]) -> tuple[Sequence[Message], int]:
        """The messages that go into one produced batch; a very large one goes alone."""
        size = count = 0
        for message in messages:
            size += 80 + len(message.key or b"") + len(message.value or b"")
            size += sum(len(name) + len(value or b"") + 8 for name, value in message.headers)
            if count and size > BATCH_BYTES:
                break
            count += 1
        return messages[:count], count
