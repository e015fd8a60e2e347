"""The track stage: catalog changes and stock levels in; records, levels, image requests and alerts out.

A batch consumer, because stock arrives by the ten thousand a second.  For each partition of the item topics that this
worker owns it holds a `models.tracker.Tracker`, recovered from the truths, and goes on reading those truths so that
what a late former owner writes is overwritten again.

An event that is not at its home partition (another partitioner, another number of partitions) goes to `item-changes`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mode
from aiokafka import TopicPartition
from msgspec.structs import replace

from models.change_events import read_catalog_change, read_stock_change
from models.errors import BadEvent
from models.record import AttributeNames, RecordLimits
from models.tracker import Effects, Tracker
from models.truth_messages import LogPlace, write_message
from streams import topics
from streams.connection import Connection
from streams.consume import BatchConsumer, Batches
from streams.dead_letters import DeadLetterLimit, dead_letter
from streams.effect_writer import EffectWriter
from streams.foreign_writes import ForeignWrites
from streams.metrics import Metrics
from streams.origin import Origin, forwarded, origin_of
from streams.outbox import Message, Outbox
from streams.owned_truths import OwnedTruths
from streams.settings import Settings
from streams.truths import TruthReader

log = logging.getLogger(__name__)

RECORDS_MAX = 500
"""Of a poll where requests are answered in the same loop: more keeps them waiting."""
RECORDS_ALONE_MAX = 2_000
"""Of a poll otherwise: larger rounds cost less an event."""
ADVANCE_INTERVAL_S = 0.1
KIND = "kindred_kind"
"""Header of `item-changes` that says which reader understands the event."""


class Track(BatchConsumer):
    """Owns what items are, for the partitions that the group gives it."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        metrics: Metrics,
        writer: str,
        clock_ms: Callable[[], int],
        alone: bool = False,
    ) -> None:
        """`alone`: nothing that has to be quick shares the loop."""
        prefix = settings.topic_prefix
        read = (topics.CATALOG_CHANGES, topics.STOCK_LEVELS, topics.ITEM_CHANGES)
        self.names = {name: prefix + name for name in read}
        super().__init__(
            connection, prefix + "kindred-track", self.names.values(), RECORDS_ALONE_MAX if alone else RECORDS_MAX
        )
        self.settings = settings
        self.metrics = metrics
        self.writer = writer
        self.clock_ms = clock_ms
        self.trackers: Mapping[int, Tracker] = {}
        self.limit = DeadLetterLimit(settings.dead_letter_share_max)
        self._attribute_names = AttributeNames.parse(settings.attributes)
        self._limits = RecordLimits(
            record_bytes_max=settings.record_bytes_max,
            images_max=settings.images_max,
            attributes_max=settings.attributes_max,
        )
        self.truths: OwnedTruths | None = None
        self.foreign: ForeignWrites | None = None
        self._late = 0

    async def on_start(self) -> None:
        self.producer = await self.connection.started(self.connection.producer, "track")
        self.async_exit_stack.push_async_callback(self.producer.stop)
        self.outbox = Outbox(self.producer, self._delivered)
        alert_partitions = len(await self.producer.partitions_for(self._topic(topics.ITEM_ALERTS)))
        self.effects = EffectWriter(
            self.outbox, self.metrics, self.settings.topic_prefix, self.writer, alert_partitions
        )
        await super().on_start()

    def _topic(self, name: str) -> str:
        return self.settings.topic_prefix + name

    # Events.

    async def process(self, batches: Batches) -> Mapping[TopicPartition, int]:
        done: dict[TopicPartition, int] = {}
        dead = events = 0
        for tp, messages in batches.items():
            if self.bug:
                break
            handle = self._handler(tp)
            for message in messages:
                try:
                    handle(message)
                except BadEvent as error:
                    dead += 1
                    self._set_aside(message, error)
                except Exception as error:
                    log.exception("an event at %s[%d]@%d could not be handled", *tp, message.offset)
                    self._set_aside(message, error)
                    self.bug = error
                done[tp] = message.offset + 1
                if self.bug:
                    break
            events += len(messages)
            self.metrics.events.labels("track", tp.topic).inc(len(messages))
        await self._deliver()
        self.limit.count(events, dead)
        self.metrics.events_late.inc(self._late)
        self._late = 0
        return done

    def _handler(self, tp: TopicPartition) -> Callable[[Any], None]:
        """How the events of a partition are handled: all forwarded where its topic is partitioned unlike ours."""
        at_home = len(self.consumer.partitions_for_topic(tp.topic) or ()) == self.settings.shards
        tracker = self.trackers.get(tp.partition) if at_home else None
        if tp.topic == self.names[topics.STOCK_LEVELS]:
            return self._stock_handler(tracker, tp.partition)
        if tp.topic == self.names[topics.CATALOG_CHANGES]:
            return lambda message: self._catalog(message, tracker, tp.partition)
        return lambda message: self._forwarded(message, self.trackers[tp.partition])

    def _stock_handler(self, tracker: Tracker | None, partition: int) -> Callable[[Any], None]:
        """A closure, since levels come by the hundred thousand: every name in it is a local one."""
        if tracker is None:
            return lambda message: self._forward_level(message)
        items, keep_level, home = tracker.items, tracker.stock, self._home

        def handle(message: Any) -> None:
            change = read_stock_change(message.key, message.value, message.timestamp)
            item_id = change.item_id
            if item_id in items or home(item_id) == partition:
                if not keep_level(item_id, change.level):
                    self._late += 1
            else:
                self._forward(message, item_id, topics.STOCK_LEVELS)

        return handle

    def _forward_level(self, message: Any) -> None:
        change = read_stock_change(message.key, message.value, message.timestamp)
        self._forward(message, change.item_id, topics.STOCK_LEVELS)

    def _catalog(self, message: Any, tracker: Tracker | None, partition: int) -> None:
        change = read_catalog_change(message.key, message.value)
        if tracker and (change.item_id in tracker.items or self._home(change.item_id) == partition):
            tracker.catalog(change, message.timestamp, self.clock_ms())
        else:
            self._forward(message, change.item_id, topics.CATALOG_CHANGES)

    def _forwarded(self, message: Any, tracker: Tracker) -> None:
        kind = next((value for name, value in message.headers if name == KIND), None)
        origin = origin_of(message)
        if kind == topics.STOCK_LEVELS.encode():
            change = read_stock_change(origin.key, origin.value, origin.timestamp_ms)
            if not tracker.stock(change.item_id, change.level):
                self._late += 1
        elif kind == topics.CATALOG_CHANGES.encode():
            place = LogPlace(origin.topic, origin.partition, origin.offset)
            catalog_change = read_catalog_change(origin.key, origin.value)
            tracker.catalog(catalog_change, origin.timestamp_ms, self.clock_ms(), place)
        else:
            raise BadEvent(f"expected a header {KIND} that names a topic of events, got {kind!r}")

    def _forward(self, message: Any, item_id: str, kind: str) -> None:
        key = item_id.encode()
        event = forwarded(origin_of(message), key)
        event = replace(event, headers=[*event.headers, (KIND, kind.encode())])
        self.outbox.put(self.names[topics.ITEM_CHANGES], topics.partition_of(key, self.settings.shards), event)
        self.metrics.events_forwarded.labels(message.topic).inc()

    def _home(self, item_id: str) -> int:
        return topics.partition_of(item_id.encode(), self.settings.shards)

    def _set_aside(self, message: Any, error: BaseException) -> None:
        origin: Origin = origin_of(message)
        self.outbox.put(self._topic(topics.DEAD_LETTERS), 0, dead_letter(origin, "track", error))
        self.metrics.dead_letters.labels("track").inc()

    # Effects.

    async def _deliver(self) -> None:
        """Deliver what the trackers ask for: requests and alerts first, and only then the truths."""
        now_ms = self.clock_ms()
        truths: list[tuple[int, Effects]] = []
        for partition, tracker in self.trackers.items():
            effects = tracker.take(now_ms)
            if effects:
                truths.append((partition, effects))
                self.effects.put_requests(partition, effects)
        if self.outbox:
            await self.outbox.deliver()
        for partition, effects in truths:
            self.effects.put_truths(partition, effects)
        if self.outbox:
            await self.outbox.deliver()

    def status(self) -> dict[str, Any]:
        return super().status() | {"items": sum(len(tracker.items) for tracker in self.trackers.values())}

    def measure(self) -> None:
        for topic, lag in self.lags().items():
            self.metrics.lag.labels("track", topic).set(lag)

    @mode.Service.task
    async def advance(self) -> None:
        """Let time pass: sale windows and due retries of images."""
        while not self.should_stop:
            await self.sleep(ADVANCE_INTERVAL_S)
            now_ms = self.clock_ms()
            due = [t for t in self.trackers.values() if (t.next_due_ms() or now_ms + 1) <= now_ms]
            if due:
                async with self.batch_lock:
                    for tracker in due:
                        tracker.advance(now_ms)
                    await self._deliver()
            await self._publish_mean()

    # Ownership.

    def forget(self, partitions: frozenset[TopicPartition]) -> None:
        self.trackers, self.truths, self.foreign = {}, None, None

    async def take_over(self, partitions: frozenset[TopicPartition], generation: int) -> None:
        """Recover the trackers of the item partitions that came, then read on what others write to them."""
        owned = sorted(tp.partition for tp in partitions if tp.topic == self.names[topics.ITEM_CHANGES])
        if not owned:
            return
        places = [TopicPartition(self._topic(name), partition) for name in topics.TRUTHS for partition in owned]
        if 0 in owned:
            places.append(TopicPartition(self._topic(topics.CATALOG_STATISTICS), 0))
        reader = TruthReader(self.connection, "track recovery", places, records_max=5_000)
        await reader.connect()
        reader.start()
        ready = asyncio.Event()
        self.add_future(self._recover_and_follow(reader, owned, generation, ready))
        await ready.wait()

    async def _recover_and_follow(
        self, reader: TruthReader, owned: Sequence[int], generation: int, ready: asyncio.Event
    ) -> None:
        try:
            truths = OwnedTruths(owned, self._tracker, self.settings.topic_prefix, self.writer)
            while not reader.caught_up:
                truths.recover(await reader.poll())
                if generation != self.generation or self.should_stop:
                    return
            async with self.batch_lock:
                if generation != self.generation:
                    return
                truths.finish(self._group_generation(), self.clock_ms())
                self.truths, self.trackers = truths, truths.trackers
                self.foreign = ForeignWrites(reader, (tp for tp in reader.partitions if self._is_ours(tp)))
                await self._deliver_reasserted()
            ready.set()
            looking = asyncio.ensure_future(self.foreign.look_now_and_then(self.batch_lock))
            try:
                while generation == self.generation and not self.should_stop:
                    await self._follow(reader, truths, generation)
            finally:
                looking.cancel()
        finally:
            ready.set()
            await reader.stop()

    async def _follow(self, reader: TruthReader, truths: OwnedTruths, generation: int) -> None:
        batches = await reader.poll()
        async with self.batch_lock:
            if batches and generation == self.generation:
                truths.follow(batches, self.clock_ms())
                await self._deliver_reasserted()
        if self.foreign:
            self.foreign.steer()

    def _is_ours(self, tp: TopicPartition) -> bool:
        """Whether nobody but the owner should write there; embeddings come from the embed stage."""
        return tp.topic in (self._topic(topics.ITEM_RECORDS), self._topic(topics.ITEM_STOCKS))

    def _delivered(self, topic: str, partition: int, base_offset: int, count: int) -> None:
        if self.foreign:
            self.foreign.wrote(topic, partition, base_offset, count)

    def _tracker(self) -> Tracker:
        return Tracker(self.writer, self._attribute_names, self._limits, self.settings.low_stock)

    def _group_generation(self) -> int:
        """The group's generation: it counts up with every owner, so a late one is told by its lower number."""
        return int(getattr(self.consumer._coordinator, "generation", 0))

    async def _deliver_reasserted(self) -> None:
        for tracker in self.trackers.values():
            self.metrics.reasserted.labels(topics.ITEM_RECORDS).inc(len(tracker.records_due) + len(tracker.deletes_due))
            self.metrics.reasserted.labels(topics.ITEM_STOCKS).inc(len(tracker.stocks_due))
        await self._deliver()

    async def _publish_mean(self) -> None:
        message = self.truths.mean.due(self.clock_ms()) if self.truths and self.truths.mean else None
        if message:
            outbox = Outbox(self.producer)
            outbox.put(self._topic(topics.CATALOG_STATISTICS), 0, Message(b"mean", write_message(message)))
            await outbox.deliver()
