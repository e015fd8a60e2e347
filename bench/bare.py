"""Baselines of the stages: the barest loops over aiokafka that move the same messages.  `python -m bench.bare JSON`.

They use aiokafka's own consumer and producer with the product's settings: what `streams/long_poll.py` and
`streams/producer.py` make of them is Kindred's.

consume: read a range of stock events, decode each, keep the newest level in a dictionary.
echo: answer every request with the same body, as a batch consumer that does nothing else would.
chain: pass messages on from the first topic to the second and from there to the third.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.connection import Connection

RECORDS_MAX = 5_000


class StockEvent(msgspec.Struct, gc=False):
    """A plain message of `stock-levels`."""

    quantity: float
    at: int


async def consume(broker: str, topic: str, ranges: dict[str, tuple[int, int]]) -> None:
    """Decode and keep; tells events, wall and CPU seconds from the first batch to the last."""
    consumer = _consumer(broker, None, RECORDS_MAX)
    await consumer.start()
    ends = {TopicPartition(topic, int(number)): end for number, (_, end) in ranges.items()}
    consumer.assign(list(ends))
    for number, (begin, _) in ranges.items():
        consumer.seek(TopicPartition(topic, int(number)), begin)
    decode = msgspec.json.Decoder(StockEvent).decode
    levels: dict[bytes, StockEvent] = {}
    left = sum(end - begin for begin, end in ranges.values())
    left -= sum(map(len, (await consumer.getmany(timeout_ms=10_000)).values()))
    events, wall_s, cpu_s = left, time.perf_counter(), time.process_time()
    while left > 0:
        for messages in (await consumer.getmany(timeout_ms=1_000)).values():
            for message in messages:
                levels[message.key] = decode(message.value)
            left -= len(messages)
    tell(events=events, wall_s=time.perf_counter() - wall_s, cpu_s=time.process_time() - cpu_s)
    await consumer.stop()


async def echo(broker: str, requests: str, replies: str, body: str) -> None:
    """Answer with the content of the file `body`, to the partition and correlation id that a request names."""
    consumer, producer = _consumer(broker, f"{requests}-echo", 500), _producer(broker)
    await asyncio.gather(consumer.start(), producer.start())
    content = Path(body).read_bytes()
    consumer.subscribe([requests])
    while not consumer.assignment():
        await consumer.getmany(timeout_ms=20)
    tell(ready=True)
    sent: set[asyncio.Task[Any]] = set()
    while True:
        for messages in (await consumer.getmany(timeout_ms=200)).values():
            batches: dict[int, Any] = {}
            for message in messages:
                headers = dict(message.headers)
                number = int(headers["kafka_replyPartition"])
                answer = [
                    ("kafka_correlationId", headers["kafka_correlationId"]),
                    ("kafka_nest-is-disposed", b"\0"),
                    ("kindred_status", b"200"),
                ]
                if number not in batches:
                    batches[number] = producer.create_batch()
                if batches[number].append(key=message.key, value=content, timestamp=None, headers=answer) is None:
                    await producer.send_batch(batches[number], replies, partition=number)
                    batches[number] = producer.create_batch()
                    batches[number].append(key=message.key, value=content, timestamp=None, headers=answer)
            for number, batch in batches.items():
                task = asyncio.ensure_future(producer.send_batch(batch, replies, partition=number))
                sent.add(task)
                task.add_done_callback(sent.discard)


async def chain(broker: str, hops: list[str]) -> None:
    """Pass on from each topic to the next; the last one is the caller's to read."""
    consumer, producer = _consumer(broker, None, None), _producer(broker)
    await asyncio.gather(consumer.start(), producer.start())
    following = dict(itertools.pairwise(hops))
    places = [TopicPartition(topic, 0) for topic in following]
    consumer.assign(places)
    for place, end in (await consumer.end_offsets(places)).items():
        consumer.seek(place, end)
    tell(ready=True)
    while True:
        for place, messages in (await consumer.getmany(timeout_ms=200)).items():
            for message in messages:
                await producer.send(following[place.topic], message.value, key=message.key, partition=0)


def _consumer(broker: str, group: str | None, records_max: int | None) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(**Connection(broker).consumer_settings(group), max_poll_records=records_max)


def _producer(broker: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(**Connection(broker).producer_settings())


def tell(**found: Any) -> None:
    """One line of JSON for the process that waits."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


async def main(what: str, **arguments: Any) -> None:
    loops: dict[str, Callable[..., Awaitable[None]]] = {"consume": consume, "echo": echo, "chain": chain}
    await loops[what](**arguments)


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
