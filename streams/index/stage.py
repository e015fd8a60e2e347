"""The index stage: partition n of the truths becomes shard n, and what is read is in the answers at once.

No consumer group: any number of workers read the same partitions, each from its own checkpoint on.  A worker is loaded
when it has read all that was there at its start.  All shards are centred by the last message of `catalog-statistics`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mode
from aiokafka import TopicPartition

from indexes.shard import Shard
from indexes.shard_settings import ShardSettings
from indexes.ticks import monotonic_ms
from models.colour import NUMBERS
from models.embedder import Embedder
from models.vectors import Vectors
from streams import topics
from streams.connection import Connection
from streams.index.vector_space import VectorSpace
from streams.kafka.truths import TruthReader
from streams.kafka.turns import Turns
from streams.metrics import Metrics
from streams.settings import Settings

log = logging.getLogger(__name__)

RECORDS_MAX = 500
TEND_INTERVAL_S = 0.5
CHECKPOINT_UNCHANGED_S = 3_600.0
"""A shard that nothing changes is written this often, so that its checkpoint stays young enough to be trusted."""
NAMES_SLICE = 100
NAMES_MESSAGES = 3
"""Ordinals whose attributes' names are read in one piece, and how many messages take as long as one of them."""
SILENCE_S_MAX = 5.0

Listener = Callable[[int, str, Sequence[str]], None]
"""Is told a shard's number, a truth, and the items that messages of it were about."""


class Index(mode.Service):
    """Holds the shards of this worker and keeps them up with the truths."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        metrics: Metrics,
        clock_ms: Callable[[], int],
        numbers: Sequence[int],
        embedder: Embedder,
        cluster: str,
        retention_ms: int,
        turns: Turns,
    ) -> None:
        super().__init__()
        self.connection = connection
        self.settings = settings
        self.metrics = metrics
        self.clock_ms = clock_ms
        self.numbers = tuple(numbers)
        self.space = VectorSpace(embedder.model, embedder.dimension)
        self.cluster = cluster
        self.retention_ms = retention_ms
        self.turns = turns
        self.shards: Mapping[int, Shard] = {}
        self.loaded = False
        self.listeners: list[Listener] = []
        """Told of what was applied, once it is in the shards."""
        self._written: dict[int, tuple[float, dict[str, int]]] = {}
        """By shard, when its last checkpoint was written (monotonic seconds) and up to which offsets."""
        self._read_ms: dict[TopicPartition, int] = {}
        self._connected = False
        self._closing = False
        """`on_stop` closes the shards while the tasks still run: nothing else may be done with them."""
        self._started_s = time.monotonic()

    async def on_start(self) -> None:
        places = [self._place(name, number) for number in self.numbers for name in topics.TRUTHS]
        self._statistics = self._place(topics.CATALOG_STATISTICS, 0)
        self.reader = TruthReader(self.connection, "index", [*places, self._statistics], RECORDS_MAX)
        await self.reader.connect()
        self._connected = True
        self.async_exit_stack.push_async_callback(self.reader.stop)
        offsets: dict[TopicPartition, int] = {}
        if self.space.is_wide:
            offsets[self._statistics] = await self._read_statistics()
        self.shards = {number: await asyncio.to_thread(self._open, number) for number in self.numbers}
        for number, shard in self.shards.items():
            shard.use_mean(self.space.mean)
            offsets |= {self._place(name, number): offset for name, offset in shard.next_offsets.items()}
        self.reader.start(offsets)

    async def on_stop(self) -> None:
        self._closing = True
        for number, shard in self.shards.items():
            await self._write(number, shard.close)

    def _place(self, name: str, partition: int) -> TopicPartition:
        return TopicPartition(self._topic(name), partition)

    def _topic(self, name: str) -> str:
        return self.settings.topic_prefix + name

    def _open(self, number: int) -> Shard:
        places = {name: self._place(name, number) for name in topics.TRUTHS}
        return Shard.open(
            self.settings.data / f"shard-{number}",
            number,
            ShardSettings(
                dimension=self.space.dimension,
                colour=NUMBERS,
                colour_weight=self.settings.colour,
                model=self.space.model,
                low_stock_at=self.settings.low_stock,
                delta_rows_max=self.settings.delta_rows_max,
                segment_rows_min=self.settings.segment_rows_min,
            ),
            cluster_id=self.cluster,
            now_ms=self.clock_ms(),
            retention_ms=self.retention_ms,
            projection=self.space.projection,
            offsets={name: (self.reader.beginnings[tp], self.reader.ends[tp]) for name, tp in places.items()},
        )

    async def _read_statistics(self) -> int:
        """What is in force now, because a projection says what shards are to be opened of; the offset to read on from.

        It may be the last of several: from then on another one would be of rows that went through this one.
        """
        reader = TruthReader(self.connection, "index statistics", [self._statistics])
        await reader.connect()
        try:
            reader.start()
            while not reader.caught_up:
                for messages in (await reader.poll()).values():
                    self.space.read(messages, [])
            return reader.position(self._statistics) or 0
        finally:
            await reader.stop()

    @mode.Service.task
    async def follow(self) -> None:
        """Read the truths into the shards until the service stops."""
        while not self.should_stop:
            for tp, messages in (await self.reader.poll()).items():
                if self._closing:
                    return
                if tp == self._statistics:
                    self.space.read(messages, list(self.shards.values()))
                else:
                    self._apply(tp, messages)
                await self.turns.give(len(messages))
            if not self.loaded and self.reader.caught_up:
                self.loaded = True
                items = sum(shard.items for shard in self.shards.values())
                log.info("index: loaded %d items in %.1f s", items, time.monotonic() - self._started_s)

    @mode.Service.task
    async def tend(self) -> None:
        """Seal, merge and write checkpoints, all of it beside the answers."""
        while not self.should_stop:
            await self.sleep(TEND_INTERVAL_S)
            for number, shard in self.shards.items():
                if self._closing:
                    return
                changed = shard.tend(monotonic_ms())
                self._note_caught_up(number, shard)
                if changed or self._checkpoint_due(number, shard):
                    await self._checkpoint(number, shard)
                while not self._closing and self.loaded and shard.columns.read_names(NAMES_SLICE):
                    await self.turns.give(NAMES_SLICE * NAMES_MESSAGES)

    def _note_caught_up(self, number: int, shard: Shard) -> None:
        """When a partition's end was last seen with nothing left to read, the shard held all that was there then."""
        places = [self._place(name, number) for name in topics.TRUTHS]
        answered = [self.reader.consumer.last_poll_timestamp(place) for place in places]
        if self.loaded and all(answered) and not any(self.reader.lag(place) for place in places):
            shard.caught_up(min(answered))

    def _checkpoint_due(self, number: int, shard: Shard) -> bool:
        at_s, offsets = self._written.get(number, (self._started_s, {}))
        age_s = time.monotonic() - at_s
        if not self.loaded or age_s < self.settings.checkpoint_interval_s:
            return False
        return offsets != shard.next_offsets or age_s > CHECKPOINT_UNCHANGED_S

    async def _checkpoint(self, number: int, shard: Shard) -> None:
        checkpoint, offsets = shard.capture(), dict(shard.next_offsets)
        await self._write(number, checkpoint.write)
        self._written[number] = (time.monotonic(), offsets)

    async def _write(self, number: int, write: Callable[[], None]) -> None:
        """Write a checkpoint.  A full disk is no reason to stop answering, nor to leave others unwritten at a stop."""
        try:
            await asyncio.to_thread(write)
        except OSError as error:
            log.error("the checkpoint of shard %d is not written, the one before it stands: %s", number, error)
            self.metrics.checkpoint_failures.labels(number).inc()
        else:
            self.metrics.checkpoints.labels(number).inc()

    def _apply(self, tp: TopicPartition, messages: Sequence[Any]) -> None:
        name = tp.topic.removeprefix(self.settings.topic_prefix)
        changes = [(message.key.decode("utf-8", "replace"), message.value) for message in messages if message.key]
        rejected = self.shards[tp.partition].apply(name, changes, messages[-1].offset + 1, self.clock_ms())
        for key, reason in rejected:
            log.warning("%s[%d]: the message of %r is not ours and hides what it was about: %s", *tp, key[:100], reason)
        for listener in self.listeners:
            listener(tp.partition, name, [key for key, _ in changes])
        self._read_ms[tp] = messages[-1].timestamp
        self.metrics.events.labels("index", tp.topic).inc(len(messages))

    # What answers and watched lists ask.

    @property
    def mean(self) -> Vectors | None:
        """float32[D] that rows are centred by; another object once it changes, and when rows are projected."""
        return self.space.mean

    @property
    def dimension(self) -> int:
        """D, numbers of a row, its colour's included; fewer once there is a projection."""
        return self.space.dimension

    def raw_row(self, look: Vectors, colour: Vectors) -> Vectors:
        """float32[D] of a vector of the model float32[W] and a colour."""
        return self.space.raw_row(look, colour)

    # What it tells of itself.

    def waiting_for(self) -> str | None:
        if not self.shards:
            return "shards are not opened yet"
        if not self._connected:
            return "the broker is not reached yet"
        if not self.loaded:
            return f"{self.lag()} messages of the truths are not read yet"
        silence_s = self.reader.silence_s()
        return f"the broker has not answered for {silence_s:.0f} s" if silence_s > SILENCE_S_MAX else None

    def lag(self, name: str | None = None) -> int:
        """Messages on the broker that are not in the shards yet, of one truth or of all."""
        if not self._connected:
            return 0
        wanted = {self._topic(each) for each in ((name,) if name else topics.TRUTHS)}
        return sum(lag for tp, lag in self.reader.lags().items() if tp.topic in wanted)

    def lags_ms(self, now_ms: int) -> dict[str, int]:
        """By truth, how old the newest message is that was read while others already wait; 0: none waits."""
        lags_ms = dict.fromkeys(topics.TRUTHS, 0)
        waiting = {tp.topic for tp in self.reader.lags()} if self._connected else set()
        for name in topics.TRUTHS if waiting else ():
            if self._topic(name) in waiting:
                read_ms = [self._read_ms.get(self._place(name, number), now_ms) for number in self.numbers]
                lags_ms[name] = max(0, now_ms - min(read_ms))
        return lags_ms

    def status(self) -> dict[str, Any]:
        return {
            "loaded": self.loaded,
            **self.space.status(),
            "lag": {name: self.lag(name) for name in topics.TRUTHS},
            "shards": {str(number): shard.statistics() for number, shard in self.shards.items()},
        }

    def measure(self) -> None:
        for name in topics.TRUTHS:
            self.metrics.lag.labels("index", name).set(self.lag(name))
        for number, shard in self.shards.items():
            statistics = shard.statistics()
            self.metrics.shard_items.labels(number).set(statistics["items_searchable"])
            self.metrics.shard_rows.labels(number, "delta").set(statistics["delta_rows"])
            self.metrics.shard_rows.labels(number, "segments").set(statistics["segment_rows"])
            self.metrics.shard_rows.labels(number, "tombstones").set(statistics["tombstones"])
            for name in ("seals", "merges", "seal_failures"):
                self.metrics.seals.labels(number, name).set(statistics[name])
