"""Watched lists: 10,000 of them and 1,000 stock events a second, against asking all of them again every second.

1. In process, with a clock of its own: CPU for a second of events, changes seen, lists asked and written.  The baseline
   asks every list once, as many together.
2. A worker: its CPU under the same feed with nothing watched and with all watched, and how long after an event its list
   is there.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson

from bench.embeddings import Vectors, many_vectors, real_vectors
from bench.filled_shards import FilledShards
from bench.ground import SHARDS, Ground, consuming, load_items, places_of, producing
from bench.meter import Meter, p50, p99
from bench.report import Goal, Table
from bench.stock import Levels
from indexes.item_changes import ItemChanges
from indexes.shard import STOCKS
from indexes.watches import Watches
from models.request import RequestLimits
from models.rules import RuleBook
from models.truth_messages import ItemStock, Written
from models.watch import list_message, parse_watch
from streams import topics
from streams.kafka.outbox import Message, Outbox
from tests.waiting import wait_until

ITEMS = 10_000
EVENTS_PER_S = 1_000
PICTURES = 1_000
SHARE = 0.9
"""Of the worker's time: on a busy machine 10,000 first lists take some minutes at the default."""
FIRST_LISTS_S_MAX = 120
TICKS_PER_S = 20
TOGETHER = 64
BODY = b'{"maxRecommendations":8}'
OF_ALL = Goal(at_most=0.1)
COLUMNS = ("CPU ms/s", "asks/s", "pushes/s", "p50 ms", "p99 ms")


async def measure(ground: Ground) -> list[Table]:
    """The table."""
    table = Table("watch", f"{ITEMS:,} watched lists of 8, {EVENTS_PER_S:,} stock events a second", COLUMNS)
    vectors = many_vectors(ITEMS, real_vectors(PICTURES))
    _in_process(ground, table, vectors)
    await _worker(ground, table, vectors)
    table.notes.append(
        "Items sell one to three at a time and are filled up from 20 to 200: one event in twenty turns a flag.  "
        f"KINDRED_WATCH_SHARE is {SHARE}."
    )
    return [table]


class _Selling(Levels):
    """A shop in the middle of its life: some items are sold out, some run low, and one event in twenty turns a flag."""

    def __init__(self, item_ids: list[str]) -> None:
        super().__init__(item_ids)
        self._left = [self._random.randrange(200) for _ in item_ids]

    def all(self) -> list[tuple[int, Message]]:
        """Partition and message of every item's level as it is now."""
        bodies = [b'{"quantity":%d,"at":%d}' % (left, self._at_ms) for left in self._left]
        return [(home, Message(key, body)) for home, key, body in zip(self._homes, self._keys, bodies, strict=True)]


# In process


class _Shop(FilledShards):
    """Shards with their items, all watched, and a clock."""

    def __init__(self, folder: Path, vectors: Vectors) -> None:
        super().__init__(folder, vectors)
        self.rules = RuleBook()
        self.watches = Watches(vectors.shape[1], lambda: self.now_ms)
        self.changes = ItemChanges(self.shards)
        for item_id in self.item_ids:
            watch = parse_watch(item_id, BODY, RequestLimits(), "items")
            self.watches.put(watch, {"event": "watch"})

    def level(self, message: Message) -> None:
        """An event of the feed."""
        assert message.key is not None
        assert message.value is not None
        item_id, quantity = message.key.decode(), orjson.loads(message.value)["quantity"]
        number = self.apply(STOCKS, item_id, ItemStock(quantity, self.now_ms, Written(1, 1)))
        self.changes.note(number, STOCKS, [item_id])

    def see(self) -> None:
        """What has changed, in steps as the stage takes them."""
        for shard in self.shards:
            shard.advance(self.now_ms)
        changes = self.changes.take()
        for start in range(0, len(changes), self.watches.changes_max):
            self.watches.see(changes[start : start + self.watches.changes_max], self.shards, self.now_ms)

    def ask(self) -> tuple[int, int]:
        """All lists that are due: how many were asked, how many have changed."""
        asked = pushed = 0
        while due := self.watches.due(TOGETHER):
            for one in self.watches.ask(due, self.shards, self.rules, self.now_ms, mean=self.mean):
                asked += 1
                if one.changed:
                    pushed += 1
                    list_message(one.item_id, one.result, self.now_ms, one.reasons)
                    self.watches.pushed(one.item_id, one.digest)
        return asked, pushed


def _in_process(ground: Ground, table: Table, vectors: Vectors) -> None:
    shop = _Shop(ground.folder / "watch-shards", vectors)
    levels, seconds = _Selling(shop.item_ids), ground.pick(5, 10)
    for _, message in levels.all():
        shop.level(message)
    shop.see()
    shop.ask()  # the first lists
    ours, asked, pushed = 0.0, 0, 0
    for _ in range(seconds):
        for _ in range(TICKS_PER_S):
            shop.now_ms += 1000 // TICKS_PER_S
            for _ in range(EVENTS_PER_S // TICKS_PER_S):
                shop.level(levels.next()[1])
            meter = Meter()
            shop.see()
            more, changed = shop.ask()
            ours += meter.spent().cpu_s
            asked, pushed = asked + more, pushed + changed
    shop.now_ms += 1_000
    shop.watches.touch_all({"event": "all"})
    meter = Meter()
    all_asked, all_pushed = shop.ask()
    every = meter.spent().cpu_s
    figures = {"CPU ms/s": every * 1e3, "asks/s": all_asked, "pushes/s": all_pushed}
    table.add("in process: all lists asked every second", figures)
    figures = {"CPU ms/s": ours / seconds * 1e3, "asks/s": asked / seconds, "pushes/s": pushed / seconds}
    table.add("in process: what a change touches", figures, ratio=ours / seconds / every, goal=OF_ALL)


# A worker


async def _worker(ground: Ground, table: Table, vectors: Vectors) -> None:
    seconds = ground.pick(8, 12)
    async with ground.installation("watch", watch_share=str(SHARE)) as installed, producing(ground.broker) as producer:
        item_ids = await load_items(ground.broker, installed.prefix, vectors, progress=ground.say)
        worker = await installed.worker().ready(120)
        levels, outbox = _Selling(item_ids), Outbox(producer)
        for home, message in levels.all():
            outbox.put(installed.prefix + topics.STOCK_LEVELS, home, message)
        await outbox.deliver()
        alone, _ = await _fed(worker.process.pid, outbox, installed.prefix, levels, seconds)
        table.add("a worker under the feed, nothing watched", {"CPU ms/s": alone * 1e3})
        for item_id in item_ids:
            key = item_id.encode()
            outbox.put(installed.prefix + topics.WATCH, topics.partition_of(key, SHARDS), Message(key, BODY))
        await outbox.deliver()

        def settled() -> bool:
            found = worker.status()["stages"]["watch"]
            return bool(found["watches"] == len(item_ids) and not found["waiting"])

        began_s = time.monotonic()
        await wait_until(lambda: asyncio.to_thread(settled), FIRST_LISTS_S_MAX, "the first lists")
        ground.say(f"all lists are there, after {time.monotonic() - began_s:.1f} s")
        names = ("kindred_watch_asks_total", "kindred_watch_pushes_total")
        before = [worker.metric(name) for name in names]
        delays: list[float] = []
        places = places_of(installed.prefix + topics.SIMILAR_CHANGES)
        async with consuming(ground.broker, places) as consumer:
            sent: dict[str, float] = defaultdict(float)
            reading = asyncio.create_task(_delays(consumer, sent, delays))
            watched, _ = await _fed(worker.process.pid, outbox, installed.prefix, levels, seconds, sent)
            reading.cancel()
        asks, pushes = [(worker.metric(name) - first) / seconds for name, first in zip(names, before, strict=True)]
        figures = {
            "CPU ms/s": watched * 1e3,
            "asks/s": asks,
            "pushes/s": pushes,
            "p50 ms": p50(delays) * 1e3,
            "p99 ms": p99(delays) * 1e3,
        }
        table.add("a worker under the feed, all watched", figures, ratio=watched / alone)


async def _fed(
    pid: int, outbox: Outbox, prefix: str, levels: Levels, seconds: int, sent: dict[str, float] | None = None
) -> tuple[float, float]:
    """CPU seconds of a worker a second, and the seconds, while levels come at `EVENTS_PER_S`."""
    meter, began_s = Meter(pid), time.monotonic()
    for tick in range(seconds * TICKS_PER_S):
        for _ in range(EVENTS_PER_S // TICKS_PER_S):
            home, message = levels.next()
            outbox.put(prefix + topics.STOCK_LEVELS, home, message)
            if sent is not None and message.key is not None:
                sent[message.key.decode()] = time.monotonic()
        await outbox.deliver()
        await asyncio.sleep(max(0.0, began_s + (tick + 1) / TICKS_PER_S - time.monotonic()))
    spent = meter.spent()
    return spent.cpu_s / spent.wall_s, spent.wall_s


async def _delays(consumer: Any, sent: dict[str, float], delays: list[float]) -> None:
    """From the last event of the item that a list says it was asked for until the list is read."""
    async for message in consumer:
        reasons = orjson.loads(message.value)["reasons"]
        since = [sent[reason["objectID"]] for reason in reasons if reason.get("objectID") in sent]
        if since:
            delays.append(time.monotonic() - max(since))
