"""The producer of all stages: aiokafka's, but batches that nothing stands in the way of leave in the same step.

aiokafka hands a batch from task to task before it writes it: some four turns of the loop, 0.2 ms of an idle worker,
and other tasks may come in between.  `send_now` writes the request to the socket itself.  All else stays aiokafka's:
what is retried goes back to its queue, a partition has one batch under way, and a broker one request.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.errors import RequestTimedOutError
from aiokafka.producer.message_accumulator import BatchBuilder, MessageBatch
from aiokafka.producer.sender import SendProduceReqHandler

from streams.quick_requests import quick_produce

log = logging.getLogger(__name__)

BATCH_BYTES_MAX = 900_000
"""Of one produced batch: below the broker's default limit of a message, 1 MB."""

Delivery = asyncio.Future[Any]
"""The metadata of a batch that was delivered: its topic, partition and first offset."""


class Outgoing(Protocol):
    """A message to be produced."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None:
        """None: a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...
    @property
    def timestamp_ms(self) -> int | None:
        """None: now."""


class ProducedBatch(BatchBuilder):
    """A batch that takes many messages at once: a third of what `append` costs for each."""

    def extend(self, messages: Iterable[Outgoing], now_ms: int) -> int:
        """Append messages, in their order, until one does not fit any more; how many went in, at least one.

        A message larger than a whole batch goes in alone; whether the topic accepts it is for the broker to say.
        """
        append = self._builder.append
        begin = count = self.record_count()
        none: list[tuple[str, bytes]] = []
        for each in messages:
            headers = list(each.headers) if each.headers else none
            if append(count, each.timestamp_ms or now_ms, each.key, each.value, headers) is None:
                break
            count += 1
        self._relative_offset = count
        return count - begin


class Producer(AIOKafkaProducer):
    """A producer whose batches take many messages at once, leave at once, or wait for their turn at a partition.

    aiokafka counts a wait for a free place again and again: of some fifty batches that wait at once most were given up
    as too late after a few seconds, though one after the other had been sent.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._turns: dict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._under_way: set[asyncio.Task[None]] = set()

    def create_batch(self) -> ProducedBatch:
        """An empty batch."""
        return ProducedBatch(BATCH_BYTES_MAX, compression_type=0)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        """Send a batch; the future of its metadata."""
        async with self._turns[topic, partition]:
            return await super().send_batch(batch, topic, partition=partition)

    def send_now(self, batches: Sequence[tuple[str, int, ProducedBatch]]) -> list[Delivery | None]:
        """Write batches, of one partition each, to their brokers before this returns; what `send_batch` would return.

        None for a batch that has to wait, be it for others, for a broker's answer or for its leader: such a one is for
        `send_batch`.
        """
        written: list[Delivery | None] = []
        requests: dict[int, dict[TopicPartition, MessageBatch]] = defaultdict(dict)
        accumulator = self._message_accumulator
        for topic, partition, batch in batches:
            tp = TopicPartition(topic, partition)
            node = self._free_node(tp)
            if node is None or tp in requests[node]:
                written.append(None)
                continue
            accumulator._batches[tp].append(MessageBatch(tp, batch, accumulator._batch_ttl, 0))
            requests[node][tp] = accumulator._pop_batch(tp)
            delivery = asyncio.shield(requests[node][tp].future)
            delivery.add_done_callback(_look_at)  # who would wait for it may be cancelled before
            written.append(delivery)
        for node, of_node in requests.items():
            if of_node:
                self._write(node, of_node)
        return written

    def _free_node(self, tp: TopicPartition) -> int | None:
        """The broker that a batch for a partition can be written to; None when something stands in the way."""
        accumulator, sender = self._message_accumulator, self._sender
        if accumulator._closed or accumulator._exception or self._txn_manager is not None:
            return None
        if sender._acks == 0:  # the broker would not answer
            return None
        if accumulator._batches or tp in sender._muted_partitions:  # what waits comes first, wherever it goes
            return None
        turn = self._turns.get((tp.topic, tp.partition))
        if turn is not None and turn.locked():
            return None
        node: int | None = self.client.cluster.leader_for_partition(tp)
        if node is None or node in sender._in_flight:
            return None
        connection = self.client._conns.get((node, ConnectionGroup.DEFAULT))
        return node if connection is not None and connection.connected() else None

    async def stop(self) -> None:
        """Deliver what is under way and disconnect."""
        if self._closed:  # by another, who may still wait for what is under way
            return
        await super().stop()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _write(self, node: int, batches: dict[TopicPartition, MessageBatch]) -> None:
        sender = self._sender
        sender._in_flight.add(node)
        sender._muted_partitions.update(batches)
        written = _Written(sender, batches, node)
        task = asyncio.ensure_future(self._take_answer(node, batches, written))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _take_answer(self, node: int, batches: dict[TopicPartition, MessageBatch], written: _Written) -> None:
        """Wait for the broker's answer to a request, and let others have the broker and the partitions again."""
        sender, accumulator = self._sender, self._message_accumulator
        try:
            await written.do(node)
        except Exception as error:  # nothing that aiokafka expects; it would give up all that it has
            log.exception("a produce request of %d batches could not be handled", len(batches))
            for batch in accumulator._pending_batches.intersection(batches.values()):
                batch.failure(error)
        finally:
            sender._in_flight.discard(node)
            sender._muted_partitions.difference_update(batches)
            if accumulator._batches and not accumulator._waiter_future.done():
                accumulator._waiter_future.set_result(None)  # aiokafka's own task shall look what waits


class _Written(SendProduceReqHandler):
    """aiokafka's handler of a produce request, which is on its way as soon as this is made."""

    def __init__(self, sender: Any, batches: dict[TopicPartition, MessageBatch], node: int) -> None:
        super().__init__(sender, batches)
        self._made: Any = None
        self._client = _Sent(sender.client, node, self.create_request)

    def create_request(self) -> Any:
        """The request, which aiokafka asks for once more when it is on its way."""
        if self._made is None:
            self._made = super().create_request()
        return self._made


class _Sent:
    """The client as the handler of a request sees it that was sent already."""

    def __init__(self, client: AIOKafkaClient, node: int, request: Callable[[], Any]) -> None:
        self._client = client
        self._connection = client._conns[node, ConnectionGroup.DEFAULT]
        self._answer: Awaitable[Any] | Exception
        try:
            self._answer = self._connection.send(quick_produce(request()))
        except Exception as error:  # told to who takes the answer
            self._answer = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node: int, request: Any) -> Any:
        """The answer to the request; raises what the client's `send` does."""
        if isinstance(self._answer, Exception):
            raise self._answer
        try:
            return await self._answer
        except TimeoutError as error:
            self._connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            raise RequestTimedOutError from error


def _look_at(delivery: Delivery) -> None:
    """So that asyncio does not tell of its error as of one that nobody has seen."""
    if not delivery.cancelled():
        delivery.exception()
