"""Freshness: from an event on its topic to an answer that knows of it, against the least that this can cost.

One event at a time, at most ten a second of each kind, in turn: a new item with a new picture; three hops through
Kafka; decoding and embedding that picture; a level of stock.  All of it under the same load, because an asker asks
one request after the other without a pause for whatever is new.

When did an item become recommendable?  Every reply carries the time at which the worker made it.  It lies between the
last reply without the item and the first one with it, so the middle of the two is taken: the asker's period is in it
neither as a whole nor hidden, and how wide the gaps were is told.  What a client sees is that plus the way back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.asker import Answer, Asker, asking
from bench.embeddings import many_vectors, real_vectors
from bench.ground import Child, Ground, consuming, load_items, make_topics, producing
from bench.meter import p50, p99
from bench.pictures import pictures
from bench.report import Cell, Goal, Table
from models.embedder import Embedder
from models.image import decode
from streams import topics

ITEMS = 10_000
FRESH = Goal(at_most=1.3)
PERIOD_S = 0.1
WARM_UP = 5
IN_FLIGHT = 1
PROBE = "probe"
COLUMNS = ("p50 ms", "p99 ms", "samples")


class Seen(NamedTuple):
    """When something became visible, in ms after it was sent."""

    earliest: float
    latest: float
    client: float
    """When the reply was there."""

    @property
    def middle(self) -> float:
        return (max(self.earliest, 0.0) + self.latest) / 2


async def measure(ground: Ground) -> list[Table]:
    """The table."""
    table = Table("freshness", f"events until answers of {ITEMS:,} items know of them, one worker", COLUMNS)
    count = ground.pick(40, 300)
    root = ground.folder / "pictures"
    root.mkdir(exist_ok=True)
    source, files = await asyncio.to_thread(pictures, count + 20)
    async with ground.installation("freshness", image_root=str(root)) as installed:
        vectors = many_vectors(ITEMS, real_vectors())
        item_ids = await load_items(ground.broker, installed.prefix, vectors, more={"serial": 0}, progress=ground.say)
        await installed.worker().ready()
        async with (
            producing(ground.broker) as producer,
            _hops(ground, installed.prefix) as hop,
            asking(ground.broker, installed.prefix) as asker,
        ):
            watch = Watch(asker, item_ids[0])
            shop = _Shop(producer, installed.prefix, root, watch, hop)
            watching = [asyncio.create_task(watch.run()) for _ in range(IN_FLIGHT)]
            await shop.item(PROBE, files[-1], serial=0)
            for number in range(-WARM_UP, min(count, len(files) - 1)):
                await shop.round(number, files[number % len(files)])
                if number > 0 and number % 50 == 49:
                    ground.say(f"{number + 1} of {count}: catalog {p50([each.middle for each in shop.catalog]):.1f} ms")
                for task in watching:
                    if task.done():
                        task.result()
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
    _tell(table, shop, watch, source)
    return [table]


def _tell(table: Table, shop: _Shop, watch: Watch, source: str) -> None:
    least = [sum(parts) for parts in zip(shop.decoding, shop.embedding, shop.hops, strict=True)]
    fresh = [each.middle for each in shop.catalog]
    parts = {
        "decode": shop.decoding,
        "embed": shop.embedding,
        "three hops through Kafka": shop.hops,
        "the sum of these": least,
    }
    for what, values in parts.items():
        table.add(what, _figures(values))
    table.add("catalog event → recommendable", _figures(fresh), ratio=p50(fresh) / p50(least), goal=FRESH)
    client = [each.client for each in shop.catalog]
    table.add("  … and the reply is there", _figures(client))
    stock = [each.middle for each in shop.stock]
    table.add("stock event → in an answer", _figures(stock))
    client = [each.client for each in shop.stock]
    table.add("  … and the reply is there", _figures(client))
    gaps = [each.latest - each.earliest for each in shop.catalog + shop.stock]
    table.notes += [
        f"Pictures: {source}.  {watch.asked:,} requests asked meanwhile, round trip p50 {p50(watch.took):.1f} ms.",
        f"An event became visible between two replies {p50(gaps):.1f} ms apart (p50; p99 {p99(gaps):.1f}): "
        "the middle is taken.",
    ]


def _figures(values: list[float]) -> dict[str, Cell]:
    return {"p50 ms": p50(values), "p99 ms": p99(values), "samples": len(values)}


class Watch:
    """Asks without a pause for what is expected, and tells when it was first there."""

    def __init__(self, asker: Asker, seed: str) -> None:
        self.asker = asker
        self.seed = seed
        self.asked = 0
        self.took: list[float] = []
        self._filter = "serial > 1000000"
        self._found: asyncio.Future[Answer] | None = None
        self._without_ms = 0
        self._since = 0.0

    async def run(self) -> None:
        """One request after the other, until cancelled."""
        while True:
            asked_for, future = self._filter, self._found
            answer = await self.asker.ask(
                {
                    "objectID": self.seed,
                    "maxRecommendations": 5,
                    "queryParameters": {"filters": asked_for, "attributesToRetrieve": ["objectID"]},
                }
            )
            self.asked += 1
            self.took.append(answer.took_ms)
            if future is None or future is not self._found or future.done():
                continue
            if answer.hits:
                future.set_result(answer)
            else:
                self._without_ms = max(self._without_ms, answer.made_ms)

    @contextlib.asynccontextmanager
    async def until(self, wanted: str) -> AsyncIterator[Callable[[], Any]]:
        """Watch for hits of a filter; within, send what makes them, then await what is given: `Seen`."""
        self._filter, self._without_ms = wanted, 0
        self._found = asyncio.get_running_loop().create_future()
        found = self._found
        sent_ms, sent = time.time() * 1000, time.perf_counter()

        async def seen() -> Seen:
            async with asyncio.timeout(60):
                answer = await found
            # Kafka's timestamps are whole ms, rounded down: half of one is added.
            latest = answer.made_ms + 0.5 - sent_ms
            earliest = self._without_ms + 0.5 - sent_ms if self._without_ms else 0.0
            return Seen(min(earliest, latest), latest, (answer.came - sent) * 1000)

        yield seen
        self._filter, self._found = "serial > 1000000", None


class _Shop:
    """Sends events and keeps what was measured."""

    def __init__(
        self, producer: AIOKafkaProducer, prefix: str, root: Path, watch: Watch, hop: Callable[[], Any]
    ) -> None:
        self.producer = producer
        self.prefix = prefix
        self.root = root
        self.watch = watch
        self.hop = hop
        self.embedder = Embedder()
        self.catalog: list[Seen] = []
        self.stock: list[Seen] = []
        self.hops: list[float] = []
        self.decoding: list[float] = []
        self.embedding: list[float] = []

    async def send(self, name: str, key: str, value: dict[str, Any]) -> None:
        await self.producer.send(self.prefix + name, orjson.dumps(value), key=key.encode())

    async def item(self, item_id: str, picture: bytes, serial: int) -> None:
        """A new item, and wait until it is recommendable."""
        (self.root / f"{item_id}.jpg").write_bytes(picture)
        wanted = f"serial = {serial}" if serial else f"kind:{PROBE}"
        async with self.watch.until(wanted) as seen:
            kind = PROBE if item_id == PROBE else "new"
            await self.send(
                topics.CATALOG_CHANGES,
                item_id,
                {"title": item_id, "price": 10, "image": f"{item_id}.jpg", "serial": serial, "kind": kind},
            )
            self.catalog.append(await seen())

    async def level(self, quantity: int) -> None:
        """A level of stock of the probe, and wait until an answer knows it."""
        async with self.watch.until(f"kind:{PROBE} AND stock = {quantity}") as seen:
            await self.send(topics.STOCK_LEVELS, PROBE, {"quantity": quantity})
            self.stock.append(await seen())

    async def round(self, number: int, picture: bytes) -> None:
        """Everything once; rounds below 0 only warm up."""
        started = time.monotonic()
        await self.item(f"new-{number}", picture, serial=1_000 + number)
        self.hops.append(await self.hop())
        decoding, embedding = await asyncio.to_thread(self._bare, picture)
        self.decoding.append(decoding)
        self.embedding.append(embedding)
        await self.level(1_000 + number)
        if number < 0:
            for found in (self.catalog, self.stock, self.hops, self.decoding, self.embedding):
                found.clear()
        await asyncio.sleep(max(0.0, PERIOD_S - (time.monotonic() - started)))

    def _bare(self, picture: bytes) -> tuple[float, float]:
        """Milliseconds of decoding and of embedding a picture, without anything around them."""
        begin = time.perf_counter()
        pixels = decode(picture, self.embedder.size)
        decoded = time.perf_counter()
        self.embedder.embed(pixels[None])
        return (decoded - begin) * 1000, (time.perf_counter() - decoded) * 1000


@contextlib.asynccontextmanager
async def _hops(ground: Ground, prefix: str) -> AsyncIterator[Callable[[], Any]]:
    """A function that sends a message over three topics; the milliseconds until it is here again."""
    names = [f"{prefix}hop-{number}" for number in range(3)]
    await make_topics(ground.broker, names, 1)
    with Child("bench.bare", ground.folder, what="chain", broker=ground.broker, hops=names) as child:
        await child.line()
        place = TopicPartition(names[-1], 0)
        async with producing(ground.broker) as producer, consuming(ground.broker, [place]) as consumer:

            async def hop() -> float:
                return await _there_and_back(producer, consumer, names[0])

            for _ in range(10):
                await hop()
            yield hop


async def _there_and_back(producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, first: str) -> float:
    begin = time.perf_counter()
    await producer.send(first, b"x" * 400, key=b"item", partition=0)
    while not await consumer.getmany(timeout_ms=1_000):
        pass
    return (time.perf_counter() - begin) * 1000
