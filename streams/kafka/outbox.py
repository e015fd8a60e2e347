"""Messages on their way out: collected while a batch is handled, delivered together, acknowledged before the offset is.

One produced batch a partition (`create_batch`, linger 0) costs a fifth of a `send` a message.  `deliver` does not give
up: while the broker is away it tries again, until it succeeds or its caller is cancelled.  Order within a partition is
kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from streams.producer import Delivery, ProducedBatch, Producer

log = logging.getLogger(__name__)

SLICE = 250
"""Messages put into a batch in one turn of the loop: some 0.3 ms."""

Headers = Sequence[tuple[str, bytes]]
Delivered = Callable[[str, int, int, int], None]


class Message(msgspec.Struct, frozen=True, gc=False):
    """What is written to a topic.  `value` None is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None
    instead: Message | None = None
    """What is written where the topic does not accept this one for its size."""


class _Batch(NamedTuple):
    """A batch of the first of some messages that go to one partition."""

    content: ProducedBatch
    messages: int
    delivery: Delivery | None
    """None: it is not sent yet."""


class Outbox:
    """Collects messages by topic and partition and delivers them in rounds."""

    def __init__(self, producer: Producer, delivered: Delivered | None = None) -> None:
        """`delivered` is told of every batch: topic, partition, offset of its first message, number of messages."""
        self.producer = producer
        self.delivered = delivered
        self._waiting: dict[tuple[str, int], list[Message]] = defaultdict(list)
        self._begun: dict[tuple[str, int], _Batch] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, topic: str, partition: int, message: Message) -> None:
        """Add one message to the next round."""
        self._waiting[topic, partition].append(message)

    def extend(self, topic: str, partition: int, messages: Iterable[Message]) -> None:
        """Add many messages of one partition to the next round."""
        self._waiting[topic, partition].extend(messages)

    def begin(self) -> None:
        """Send what was put so far and need not wait; `deliver` does so as well, but its task may have a later turn.

        Of each partition what is begun first goes first; what is put there after it is for `deliver`.
        """
        begin_together([self])

    def _make_batches(self, now_ms: int) -> dict[tuple[str, int], _Batch]:
        """Batches, made now or before, that are not sent yet: the first of each partition."""
        count = 0
        for place, messages in self._waiting.items():
            if not messages or place in self._begun:
                continue
            count += len(messages)
            if count > SLICE:
                break
            batch = self.producer.create_batch()
            went = batch.extend(messages, now_ms)
            batch.close()
            self._begun[place] = _Batch(batch, went, None)
        return {place: begun for place, begun in self._begun.items() if begun.delivery is None}

    async def deliver(self) -> None:
        """Deliver all that was put so far; returns when the broker has acknowledged every message."""
        self.begin()
        rounds, self._waiting = self._waiting, defaultdict(list)
        begun, self._begun = self._begun, {}
        work = [self._deliver(*place, messages, begun.get(place)) for place, messages in rounds.items()]
        if len(work) == 1:
            await work[0]  # without a task, which would begin in the loop's next turn
        else:
            await asyncio.gather(*work)

    async def _deliver(self, topic: str, partition: int, messages: Sequence[Message], first: _Batch | None) -> None:
        begin = 0
        while begin < len(messages):
            begin += await self._insist(topic, partition, messages, begin, first)
            first = None

    async def _batch(self, messages: Sequence[Message], begin: int) -> _Batch:
        """A batch of as many as fit, from `begin` on; made in slices, since a request may wait."""
        batch, count, now_ms = self.producer.create_batch(), 0, time.time_ns() // 1_000_000
        while True:
            start = begin + count
            went = batch.extend(islice(messages, start, start + SLICE), now_ms)
            count += went
            if went < SLICE or start + went == len(messages):
                batch.close()
                return _Batch(batch, count, None)
            await asyncio.sleep(0)

    async def _insist(
        self, topic: str, partition: int, messages: Sequence[Message], begin: int, first: _Batch | None
    ) -> int:
        """Send until acknowledged, `first` if it is there already; the number of messages that went.

        Raises what no retry can mend, such as a message that the topic does not accept.
        """
        delay_s = 0.1
        while True:
            batch, count, delivery = first or await self._batch(messages, begin)
            first = None
            try:
                metadata = await (delivery or await self.producer.send_batch(batch, topic, partition=partition))
            except MessageSizeTooLargeError:
                smaller = messages[begin].instead
                if count > 1 or smaller is None:
                    raise
                messages, begin = [smaller], 0
                continue
            except KafkaError as error:
                if not (error.retriable or isinstance(error, (KafkaTimeoutError, KafkaConnectionError))):
                    raise
                log.warning("%s[%d]: %d messages are not delivered yet: %r", topic, partition, count, error)
            else:
                if self.delivered:
                    self.delivered(topic, partition, int(metadata.offset), count)
                return count
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 2.0)


def begin_together(outboxes: Sequence[Outbox]) -> None:
    """`begin` of several with the same producer: what goes to the same broker goes in one request."""
    now_ms = time.time_ns() // 1_000_000
    unsent = [(outbox, *each) for outbox in outboxes for each in outbox._make_batches(now_ms).items()]
    if not unsent:
        return
    deliveries = outboxes[0].producer.send_now([(*place, batch.content) for _, place, batch in unsent])
    for (outbox, place, batch), delivery in zip(unsent, deliveries, strict=True):
        outbox._begun[place] = batch._replace(delivery=delivery)
