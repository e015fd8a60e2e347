"""The stock feed: events a second and CPU an event of the track stage, against a bare loop and a Faust agent.

Every round writes new levels of 10,000 known items while nobody reads; then each contender, in a process of its own,
works off the same events.  Track is timed between two commits that it made on the way, as the broker knows them.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, NamedTuple

from bench.embeddings import many_vectors, real_vectors
from bench.ground import SHARDS, Child, CommittedOffsets, Ground, load_items, make_topics, producing
from bench.meter import Meter, Spent, median, ratio
from bench.report import Cell, Goal, Table
from streams import topics
from streams.kafka.outbox import Message, Outbox
from tests.installation import Installation

ITEMS = 10_000
AGAINST_BARE = Goal(at_least=0.5)
AGAINST_FAUST = Goal(at_least=40)
COLUMNS = ("events/s", "CPU us", "CPU ratio", "events")


class Rate(NamedTuple):
    """Events handled in some time."""

    events: int
    spent: Spent

    @property
    def per_s(self) -> float:
        return self.events / self.spent.wall_s

    @property
    def cpu_us(self) -> float:
        return self.spent.cpu_s / self.events * 1e6


class Levels:
    """A shop's stock: items sell a few at a time and are filled up when they are sold out."""

    def __init__(self, item_ids: list[str], seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._keys = [item_id.encode() for item_id in item_ids]
        self._homes = [topics.partition_of(key, SHARDS) for key in self._keys]
        self._left = [self._random.randrange(20, 200) for _ in item_ids]
        self._at_ms = 1_710_000_000_000

    def next(self) -> tuple[int, Message]:
        """Partition and message of one more event."""
        number = self._random.randrange(len(self._keys))
        left = self._left[number] - self._random.randint(1, 3)
        self._left[number] = left if left > 0 else 0 if self._left[number] > 0 else self._random.randrange(20, 200)
        self._at_ms += 1
        body = b'{"quantity":%d,"at":%d}' % (self._left[number], self._at_ms)
        return self._homes[number], Message(self._keys[number], body)


async def write_levels(broker: str, topic: str, levels: Levels, count: int) -> None:
    """Write `count` events, as fast as it goes."""
    async with producing(broker) as producer:
        outbox = Outbox(producer)
        for number in range(count):
            home, message = levels.next()
            outbox.put(topic, home, message)
            if number % 20_000 == 19_999:
                await outbox.deliver()
        await outbox.deliver()


async def measure(ground: Ground) -> list[Table]:
    """The table."""
    table = Table("stock", "stock levels through the track stage, one process", COLUMNS)
    rounds, count, few = ground.pick(2, 3), ground.pick(500_000, 1_500_000), ground.pick(3_000, 8_000)
    ours: list[Rate] = []
    bare: list[Rate] = []
    agents: dict[float, list[Rate]] = {0.0: [], 0.02: []}
    async with ground.installation("stock") as installed:
        item_ids = await load_items(
            ground.broker, installed.prefix, many_vectors(ITEMS, real_vectors()), progress=ground.say
        )
        levels, topic = Levels(item_ids), installed.prefix + topics.STOCK_LEVELS
        async with CommittedOffsets(ground.broker, installed.prefix + "kindred-track", topic) as offsets:
            for number in range(rounds):
                begin = await offsets.begin()
                await write_levels(ground.broker, topic, levels, count)
                ranges = await offsets.ranges(begin)
                bare.append(await _child(ground, "bench.bare", what="consume", topic=topic, ranges=ranges))
                ours.append(await _track(installed, offsets, count))
                for linger_s, rates in agents.items():
                    if number < ground.pick(1, 2):
                        rates.append(await _faust(ground, topic, few, linger_s))
                told = [f"{rates[-1].per_s:,.0f}" for rates in (bare, ours, *agents.values())]
                ground.say(f"round {number + 1} of {rounds}: bare {told[0]}, track {told[1]}, Faust {told[2]} events/s")
    _add(table, "bare aiokafka loop", bare)
    _add(table, "track", ours, bare, AGAINST_BARE)
    _add(table, "Faust agent with a table", agents[0.0])
    _add(table, "the same, linger 20 ms", agents[0.02])
    few_ours = ours[: len(agents[0.0])]
    _add(table, "track against Faust", few_ours, agents[0.0], AGAINST_FAUST)
    _add(table, "track against Faust, linger 20 ms", few_ours, agents[0.02])
    table.notes.append(
        f"{ITEMS:,} items with records; {rounds} rounds of {count:,} events (Faust {few:,}), medians; "
        "CPU ratio is the other's CPU an event over ours."
    )
    return [table]


def _add(
    table: Table, what: str, rates: list[Rate], baseline: list[Rate] | None = None, goal: Goal | None = None
) -> None:
    figures: dict[str, Cell] = {
        "events/s": median(each.per_s for each in rates),
        "CPU us": median(each.cpu_us for each in rates),
        "events": rates[-1].events,
    }
    of_rates = None
    if baseline is not None:
        figures["CPU ratio"] = ratio([each.cpu_us for each in baseline], [each.cpu_us for each in rates])
        of_rates = ratio([each.per_s for each in rates], [each.per_s for each in baseline])
    table.add(what, figures, ratio=of_rates, goal=goal)


async def _child(ground: Ground, module: str, **arguments: Any) -> Rate:
    with Child(module, ground.folder, broker=ground.broker, **arguments) as child:
        found = await child.line()
    return Rate(found["events"], Spent(found["wall_s"], found["cpu_s"]))


async def _faust(ground: Ground, topic: str, count: int, linger_s: float) -> Rate:
    app_id = f"{topic}-agent-{random.randrange(10**9)}"
    await make_topics(ground.broker, [f"{app_id}-levels-changelog"], SHARDS)
    return await _child(
        ground,
        "bench.faust_agent",
        app_id=app_id,
        topic=topic,
        partitions=SHARDS,
        events=count,
        linger_s=linger_s,
        folder=str(ground.folder / app_id),
    )


async def _track(installed: Installation, offsets: CommittedOffsets, count: int) -> Rate:
    """From the first commit that takes in a tenth of the events to the last one before the end."""
    start, end = await offsets.done(), await offsets.ends()
    worker = installed.worker("--stage", "track")
    first: tuple[int, Meter] | None = None
    last: tuple[int, Spent] | None = None
    while (done := await offsets.done()) < end:
        if first is None and done - start >= count // 10:
            first = (done, Meter(worker.process.pid))
        if first and done > (last or first)[0]:
            last = (done, first[1].spent())
        if worker.process.poll() is not None:
            raise RuntimeError(f"the worker ended:\n{worker.tail()}")
        await asyncio.sleep(0.005)
    await asyncio.to_thread(worker.stop)
    if first is None or last is None:
        raise RuntimeError(f"{count:,} events are too few to be timed between two commits")
    return Rate(last[0] - first[0], last[1])
