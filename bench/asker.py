"""Asks on the request topic and takes the replies, with their times: the same for Kindred and for a bare echo.

Each asker reads one partition of a reply topic.  A reply's Kafka timestamp says when its sender made it, so that the
way back need not be counted where it does not belong.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.ground import SHARDS, consuming, producing
from streams import topics
from streams.kafka.outbox import Message, Outbox


class Answer(NamedTuple):
    """One reply.  Times in seconds; `sent` and `came` of the monotonic clock, `made_ms` Unix ms."""

    body: bytes
    sent: float
    came: float
    made_ms: int

    @property
    def took_ms(self) -> float:
        return (self.came - self.sent) * 1000

    @property
    def hits(self) -> list[dict[str, Any]]:
        """Its hits; RuntimeError with the body when there are none to be."""
        found = orjson.loads(self.body)
        if "hits" not in found:
            raise RuntimeError(f"the request failed: {self.body[:300]!r}")
        return list(found["hits"])


class Asker:
    """Use `asking`."""

    def __init__(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, requests: str, replies: str) -> None:
        self.producer = producer
        self.consumer = consumer
        self.requests = requests
        self._headers = [("kafka_replyTopic", replies.encode()), ("kafka_replyPartition", b"0")]
        self._waiting: dict[bytes, tuple[float, asyncio.Future[Answer]]] = {}
        self._count = itertools.count()

    def _message(self, request: Mapping[str, Any], correlation: bytes) -> Message:
        return Message(None, orjson.dumps(request), [("kafka_correlationId", correlation), *self._headers])

    async def ask(self, request: Mapping[str, Any], timeout_s: float = 60.0) -> Answer:
        """The answer to one request."""
        correlation = b"%d" % next(self._count)
        message = self._message(request, correlation)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = (time.perf_counter(), future)
        await self.producer.send(self.requests, message.value, headers=list(message.headers))
        # wait_for of Python 3.11 loses a cancellation that comes with the answer
        async with asyncio.timeout(timeout_s):
            return await future

    async def queue(self, requests: Sequence[Mapping[str, Any]]) -> list[asyncio.Future[Answer]]:
        """Put many requests onto the topic at once, over all of its partitions; their answers to come."""
        outbox, futures = Outbox(self.producer), []
        for number, request in enumerate(requests):
            correlation = b"%d" % next(self._count)
            futures.append(asyncio.get_running_loop().create_future())
            self._waiting[correlation] = (time.perf_counter(), futures[-1])
            outbox.put(self.requests, number % SHARDS, self._message(request, correlation))
        await outbox.deliver()
        return futures

    async def read(self) -> None:
        """Hand out replies until cancelled."""
        while True:
            for records in (await self.consumer.getmany(timeout_ms=200)).values():
                came = time.perf_counter()
                for record in records:
                    sent, future = self._waiting.pop(dict(record.headers)["kafka_correlationId"], (0.0, None))
                    if future is not None and not future.done():
                        future.set_result(Answer(record.value, sent, came, record.timestamp))


@contextlib.asynccontextmanager
async def asking(broker: str, prefix: str) -> AsyncIterator[Asker]:
    """An asker on the request and reply topics with this prefix."""
    replies = prefix + topics.SIMILAR_RESPONSES
    async with producing(broker) as producer, consuming(broker, [TopicPartition(replies, 0)]) as consumer:
        asker = Asker(producer, consumer, prefix + topics.SIMILAR_REQUESTS, replies)
        reader = asyncio.create_task(asker.read())
        try:
            yield asker
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
