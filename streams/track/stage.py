"""The track stage: catalog changes and stock levels in; records, levels, image requests and alerts out.

A batch consumer, because stock arrives by the ten thousand a second.  For each partition of the item topics that this
worker owns it holds a `models.tracker.Tracker`, recovered from the truths, and goes on reading those truths so that
what a late former owner writes is overwritten again.

While polls wait, several are handled as one round, of which the effects are delivered together: an item whose level
came ten times is written once.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import mode
from aiokafka import TopicPartition

from models.effects import Effects
from models.record import AttributeNames, RecordLimits
from models.stock import CLOCK_STEP_MS
from models.tracker import Tracker
from models.truth_messages import ImageRequest
from streams import topics
from streams.connection import Connection
from streams.kafka.batch_consumer import BatchConsumer
from streams.kafka.dead_letters import DeadLetterLimit
from streams.kafka.outbox import Outbox
from streams.kafka.take_over import Batches, TakeOver
from streams.kafka.truths import TruthReader
from streams.kafka.turns import Turns
from streams.metrics import Metrics
from streams.settings import Settings
from streams.track.effect_writer import EffectWriter
from streams.track.event_intake import EventIntake
from streams.track.foreign_writes import LOOK_INTERVAL_S, ForeignWrites
from streams.track.owned_truths import OwnedTruths

log = logging.getLogger(__name__)

RECORDS_MAX = 500
"""Of a poll: more would keep the requests waiting that are answered in the same loop."""
ROUND_CPU_S = 0.25
"""How long polls are handled, while more wait, before their effects are delivered: a level that changes again in that
time is written once.  Longer rounds let images and alerts wait.  In CPU time of the loop's thread, as
on a busy machine shorter rounds would cost more an event when there is least to spend."""
LEVELS_MAX = 1_000
"""Of stock that are made messages before the loop has a turn."""
ADVANCE_INTERVAL_S = 0.1
RECOVERED_MAX = 5_000
"""Of a poll while a take-over is under way."""
READ = (topics.CATALOG_CHANGES, topics.STOCK_LEVELS, topics.ITEM_CHANGES)


class Track(BatchConsumer):
    """Owns what items are, for the partitions that the group gives it."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        metrics: Metrics,
        writer: str,
        clock_ms: Callable[[], int],
        turns: Turns,
        ahead: Callable[[int, str, ImageRequest], None] | None = None,
    ) -> None:
        """`ahead` is told of an image request while it is on its way to the embed stage: partition, item, request."""
        super().__init__(connection, settings, metrics, clock_ms, "track", READ, RECORDS_MAX)
        self.writer = writer
        self.turns = turns
        self.ahead = ahead
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
        self._round: dict[TopicPartition, int] = {}
        """Next offset to read by partition, of polls that were handled and not delivered yet."""
        self._round_since_s = 0.0
        self._broken = False
        """A delivery failed: the trackers have forgotten what nobody was told, so nothing may be done any more."""

    async def on_start(self) -> None:
        await super().on_start()
        self.outbox = Outbox(self.producer, self._delivered)
        alert_partitions = len(await self.producer.partitions_for(self._topic(topics.ITEM_ALERTS)))
        self.intake = EventIntake(self.settings, self.metrics, self.clock_ms, self.outbox)
        self.effects = EffectWriter(
            self.outbox, self.metrics, self.settings.topic_prefix, self.writer, alert_partitions
        )

    # Events.

    @property
    def unfinished(self) -> bool:
        return bool(self._round)

    async def process(self, batches: Batches) -> None:
        """Handle a poll; deliver when none waits behind it, or the round has gone on for long enough."""
        if self._broken:
            return
        if not self._round:
            self._round_since_s = time.thread_time()
        for tp, messages in batches.items():
            if not self.bug:
                self._round[tp] = self.intake.handle(tp, messages, self._keeper(tp))
                self.bug = self.intake.bug
        count = sum(map(len, batches.values()))
        self.turns.changed(count)
        more = count >= RECORDS_MAX and not self.bug and not self.should_stop
        if not more or time.thread_time() - self._round_since_s >= ROUND_CPU_S:
            await self.finish()
            self.limit.count(*self.intake.counts())

    async def finish(self) -> None:
        if self._broken:
            return
        await self._deliver()

    def _keeper(self, tp: TopicPartition) -> Tracker | None:
        """What keeps the events of a partition; None where its topic is partitioned unlike ours: all are forwarded."""
        at_home = len(self.consumer.partitions_for_topic(tp.topic) or ()) == self.settings.shards
        return self.trackers.get(tp.partition) if at_home else None

    # Effects.

    async def _deliver(self) -> None:
        """Deliver what the trackers ask for: requests and alerts first, and only then the truths.

        With them the polls that were handled so far are done.
        """
        try:
            done, self._round = self._round, {}
            await self._deliver_effects(self.clock_ms())
            self.done.update(done)
        except BaseException:
            self._broken = True
            raise

    async def _deliver_effects(self, now_ms: int) -> None:
        truths: list[tuple[int, Effects]] = []
        for partition, tracker in self.trackers.items():
            while effects := tracker.take(now_ms, LEVELS_MAX):
                truths.append((partition, effects))
                self.effects.put_requests(partition, effects)
                await self._turn_after(effects)
        if self.outbox:
            self.outbox.begin()
            self._tell_ahead(truths)
            await self.outbox.deliver()
        for partition, effects in truths:
            self.effects.put_truths(partition, effects)
            await self._turn_after(effects)
        if self.outbox:
            await self.outbox.deliver()

    def _tell_ahead(self, effects: Iterable[tuple[int, Effects]]) -> None:
        """Tell of the first image request of a round: of more, only one could be begun."""
        requests = ((partition, *asked) for partition, each in effects for asked in each.image_requests)
        if self.ahead and (first := next(requests, None)):
            self.ahead(*first)

    async def _turn_after(self, effects: Effects) -> None:
        """Give the loop a turn after a piece of many levels."""
        if len(effects.stocks) == LEVELS_MAX:
            await self.turns.give(LEVELS_MAX)

    async def breathe(self) -> None:
        await self.turns.give(RECORDS_MAX)

    def status(self) -> dict[str, Any]:
        return super().status() | {"items": sum(len(tracker.items) for tracker in self.trackers.values())}

    @mode.Service.task
    async def advance(self) -> None:
        """Let time pass: sale windows and due retries of images."""
        now_ms = self.clock_ms()
        while not self.should_stop:
            await self.sleep(ADVANCE_INTERVAL_S)
            before_ms, now_ms = now_ms, self.clock_ms()
            if before_ms - now_ms > CLOCK_STEP_MS:
                async with self.batch_lock:
                    for tracker in self.trackers.values():
                        tracker.set_back(before_ms - now_ms, now_ms)
                    await self._deliver()
            due = [t for t in self.trackers.values() if (t.next_due_ms() or now_ms + 1) <= now_ms]
            if due:
                async with self.batch_lock:
                    for tracker in due:
                        tracker.advance(now_ms)
                    await self._deliver()
            await self._publish_mean()

    @mode.Service.task
    async def look(self) -> None:
        """See what others have written to the truths that are ours."""
        while not self.should_stop:
            await self.sleep(LOOK_INTERVAL_S)
            async with self.batch_lock:
                if self.foreign and not self.should_stop:
                    await self.foreign.look()

    # Ownership.

    def forget(self, partitions: frozenset[TopicPartition]) -> None:
        self.trackers, self.truths, self.foreign = {}, None, None
        self._round.clear()

    def taking_over(self, partitions: frozenset[TopicPartition]) -> TakeOver | None:
        """The trackers of the item partitions that came; then what others write to their truths."""
        owned = sorted(tp.partition for tp in partitions if tp.topic == self._topic(topics.ITEM_CHANGES))
        if not owned:
            return None
        places = [TopicPartition(self._topic(name), partition) for name in topics.TRUTHS for partition in owned]
        if 0 in owned:
            places.append(TopicPartition(self._topic(topics.CATALOG_STATISTICS), 0))
        truths = OwnedTruths(owned, self._tracker, self.settings.topic_prefix, self.writer)
        adopt, follow = partial(self._adopt, truths), partial(self._follow, truths)
        return TakeOver(places, truths.recover, adopt, follow, RECOVERED_MAX)

    async def _adopt(self, truths: OwnedTruths, reader: TruthReader) -> None:
        truths.finish(self._group_generation(), self.clock_ms())
        self.truths, self.trackers = truths, truths.trackers
        self.foreign = ForeignWrites(reader, (tp for tp in reader.partitions if self._is_ours(tp)))
        await self._deliver_reasserted(Counter())

    async def _follow(self, truths: OwnedTruths, batches: Batches) -> None:
        if batches:
            before = self._due()
            truths.follow(batches, self.clock_ms())
            await self._deliver_reasserted(before)
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

    def _due(self) -> Counter[str]:
        """How many messages of the truths are to be written, by topic."""
        due: Counter[str] = Counter()
        for tracker in self.trackers.values():
            due[topics.ITEM_RECORDS] += len(tracker.records_due) + len(tracker.deletes_due)
            due[topics.ITEM_STOCKS] += len(tracker.stocks_due)
        return due

    async def _deliver_reasserted(self, before: Counter[str]) -> None:
        """Deliver what is due; what was not so `before` was overwritten by others."""
        for name, count in self._due().items():
            self.metrics.reasserted.labels(name).inc(count - before[name])
        await self._deliver()

    async def _publish_mean(self) -> None:
        truths = self.truths
        messages = await truths.mean.messages(self.clock_ms()) if truths and truths.mean else []
        if messages and truths is self.truths:  # else the partition was lost meanwhile
            outbox = Outbox(self.producer)
            for message in messages:
                outbox.put(self._topic(topics.CATALOG_STATISTICS), 0, message)
            await outbox.deliver()
