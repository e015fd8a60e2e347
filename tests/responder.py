"""A stand-in for the stage serve: answers what a test tells it to, over the real topics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import orjson

from streams.connection import Connection
from streams.kafka.dead_letters import header
from streams.kafka.log_reader import partitions_of, read_to_end
from streams.settings import Settings
from streams.topics import SIMILAR_REQUESTS, SIMILAR_RESPONSES
from tests.brokers import TestBroker


class Answer(NamedTuple):
    """One reply.  `correlation` None: the request's, as it should be."""

    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    correlation: bytes | None = None


Respond = Callable[[Any], Sequence[Answer]]


def answer(body: object, *headers: tuple[str, bytes]) -> Answer:
    """A good reply with this body."""
    return Answer(orjson.dumps(body), [("kafka_nest-is-disposed", b"\0"), ("kindred_status", b"200"), *headers])


def failure(status: int, message: str) -> Answer:
    """An error reply as the contract has it."""
    body = orjson.dumps({"message": message, "status": status, "statusCode": status})
    headers = [("kafka_nest-is-disposed", b"\0"), ("kindred_status", b"%d" % status), ("kafka_nest-err", body)]
    return Answer(body, headers)


def echo(request: Any) -> Sequence[Answer]:
    """Every request is its own result."""
    return [answer(orjson.loads(request.value))]


def connection_of(broker: TestBroker) -> Connection:
    return Connection(broker.bootstrap, embedded=broker.embedded is not None)


@contextlib.asynccontextmanager
async def responding(connection: Connection, settings: Settings, respond: Respond = echo) -> AsyncIterator[list[Any]]:
    """Answer all requests from now on; the list fills with the requests as they came."""
    seen: list[Any] = []
    consumer = await connection.started(connection.consumer, "responder")
    producer = await connection.started(connection.producer, "responder")
    partitions = await partitions_of(connection, settings.topic_prefix + SIMILAR_REQUESTS)
    consumer.assign(partitions)
    for tp, end in (await consumer.end_offsets(partitions)).items():
        consumer.seek(tp, end)

    async def run() -> None:
        async for request in consumer:
            seen.append(request)
            topic = header(request.headers, "kafka_replyTopic")
            partition = header(request.headers, "kafka_replyPartition")
            for each in respond(request):
                correlation = header(request.headers, "kafka_correlationId")
                headers = [("kafka_correlationId", each.correlation or correlation or b""), *each.headers]
                await producer.send(
                    topic.decode() if topic else settings.topic_prefix + SIMILAR_RESPONSES,
                    each.value,
                    key=request.key,
                    partition=int(partition) if partition else None,
                    headers=headers,
                )

    task = asyncio.create_task(run())
    try:
        yield seen
    finally:
        task.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        finally:
            await asyncio.gather(consumer.stop(), producer.stop())


async def sent_to(connection: Connection, topic: str, *values: bytes, partition: int = 0) -> None:
    """Write values onto a partition, without headers."""
    producer = await connection.started(connection.producer, "test")
    try:
        for value in values:
            await producer.send_and_wait(topic, value, partition=partition)
    finally:
        await producer.stop()


async def arrived(connection: Connection, topic: str) -> list[Any]:
    """All that is on a topic now."""
    partitions = await partitions_of(connection, topic)
    return [each async for polled in read_to_end(connection, partitions) for each in polled]
