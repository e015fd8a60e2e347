"""The watch stage: lists of look-alikes onto `similar-changes` when they change, for the items on `watch`.

A member of a group on `watch`: who holds a partition pushes the lists of its items, from the shards and rules of its
worker.  Which lists a change touches is `indexes/watches.py`'s; here is when it is asked, and that nothing is lost:

1. Who takes a partition over reads both topics from their beginnings: what is watched, and what was pushed last.  Every
   list is asked once, and only what differs is pushed.  So nothing has to be remembered but these topics.
2. A list that somebody else writes, a former owner that wakes up late, is compared with ours and written over.
3. It shares the loop: steps of some milliseconds, and no more than `KINDRED_WATCH_SHARE` of the time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import mode
from aiokafka import TopicPartition

from indexes.watches import Asked, Watches
from models.change_events import read_item_id
from models.errors import BadEvent
from models.watch import list_message
from streams import topics
from streams.connection import Connection
from streams.kafka.batch_consumer import BatchConsumer
from streams.kafka.dead_letters import dead_letter
from streams.kafka.origin import forwarded, origin_of
from streams.kafka.outbox import Message
from streams.kafka.take_over import Batches, TakeOver
from streams.kafka.truths import TruthReader
from streams.metrics import Metrics
from streams.serve.rule_reader import RuleReader
from streams.settings import Settings
from streams.watch.list_asker import ListAsker, WatchedShards
from streams.watch.list_writer import ListWriter, digest_of
from streams.watch.standing import Standing, WatchReader

log = logging.getLogger(__name__)

WATCHES_POLLED_MAX = 500
TICK_S = 0.05
IDLE_S = 0.2
DELIVERY_S = 0.05
"""So long lists are asked before they are delivered together: the broker takes its time for each delivery."""
ROUNDS_S_MAX = 0.1
"""After so long of asking, changes are looked at again."""


class Watch(BatchConsumer):
    """Pushes the lists of the items that are watched."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        metrics: Metrics,
        writer: str,
        clock_ms: Callable[[], int],
        index: WatchedShards,
        rules: RuleReader,
    ) -> None:
        super().__init__(connection, settings, metrics, clock_ms, "watch", [topics.WATCH], WATCHES_POLLED_MAX)
        self.index = index
        self.rules = rules
        self.reader = WatchReader(settings)
        self.watches = Watches(index.dimension)
        self.asker = ListAsker(settings, clock_ms, index, rules, self.watches)
        self.pushing = False
        """Whether partitions are held and recovered."""
        self.writer = writer

    async def on_start(self) -> None:
        await super().on_start()
        self.lists = ListWriter(
            self.producer,
            self._topic(topics.SIMILAR_CHANGES),
            self.settings.shards,
            self.writer,
            lambda *told: self.watches.pushed(*told),
        )

    async def prepare(self) -> None:
        """What lists are made from must be loaded first."""
        while not (self.index.loaded and self.rules.loaded) and not self.should_stop:
            await self.sleep(0.05)
        self.index.listeners.append(self.asker.note)

    # What is watched.

    async def process(self, batches: Batches) -> None:
        done: dict[TopicPartition, int] = {}
        for tp, messages in batches.items():
            for message in messages:
                try:
                    self._take(message)
                except BadEvent as error:
                    self._set_aside(message, error)
                done[tp] = message.offset + 1
            self.metrics.events.labels("watch", tp.topic).inc(len(messages))
        await self.lists.deliver()
        self.done.update(done)

    def _take(self, message: Any) -> None:
        item_id = read_item_id(message.key)
        if not self.reader.is_home(message, item_id):
            key = item_id.encode()
            home = topics.partition_of(key, self.settings.shards)
            self.lists.outbox.put(message.topic, home, forwarded(origin_of(message), key))
            return
        try:
            watch = self.reader.watch(item_id, message.value)
            if watch is not None and item_id not in self.watches and len(self.watches) >= self.settings.watches_max:
                self.lists.outbox.put(message.topic, message.partition, Message(message.key, None))
                raise BadEvent(f"expected at most {len(self.watches):,} watches (KINDRED_WATCHES_MAX), got one more")
        except BadEvent:
            self._end(item_id)
            raise
        if watch is None:
            self._end(item_id)
        else:
            self.watches.put(watch, {"event": "watch"})

    def _end(self, item_id: str) -> None:
        if self.watches.remove(item_id) is not None:
            self.lists.put(item_id, None, None)

    def _set_aside(self, message: Any, error: BadEvent) -> None:
        letter = dead_letter(origin_of(message), "watch", error)
        self.lists.outbox.put(self._topic(topics.DEAD_LETTERS), 0, letter)
        self.metrics.dead_letters.labels("watch").inc()

    # Pushing.

    @mode.Service.task
    async def push(self) -> None:
        """See what has changed and push the lists that it changes, until the service stops."""
        while not self.should_stop:
            await self.sleep(TICK_S if self.watches else IDLE_S)
            if self.watches and self.pushing:
                await self.asker.see()
                until_s = time.monotonic() + ROUNDS_S_MAX
                while time.monotonic() < until_s and await self._round():
                    await self.asker.turn()
            elif not self.watches:
                self.asker.rest()

    async def _round(self) -> bool:
        """Ask some lists again and push those that have changed; whether there may be more to ask."""
        async with self.batch_lock:
            if not self.pushing:
                return False
            changed: list[Asked] = []
            until_s = time.monotonic() + DELIVERY_S
            while (asked := self.asker.ask_some()) is not None:
                now_ms = self.clock_ms()
                self.metrics.watch_asks.inc(len(asked))
                for one in asked:
                    if one.changed:
                        changed.append(one)
                        message = list_message(one.item_id, one.result, now_ms, one.reasons)
                        self.lists.put(one.item_id, message, one.digest)
                if time.monotonic() >= until_s:
                    break
                await self.asker.turn()
            if changed:
                await self.lists.deliver()
                acknowledged_ms = self.watches.tick_ms()
                for one in changed:
                    self.metrics.watch_pushes.labels(one.reasons[0]["event"]).inc()
                    self.metrics.watch_seconds.observe((acknowledged_ms - one.since_ms) / 1000)
        return asked is not None

    # Ownership.

    def forget(self, partitions: frozenset[TopicPartition]) -> None:
        """Push no more.  What is known stays, and is compared with the logs when partitions come again."""
        self.pushing = False

    def taking_over(self, partitions: frozenset[TopicPartition]) -> TakeOver | None:
        """What is watched and what was pushed; then what others push."""
        lists = [TopicPartition(self._topic(topics.SIMILAR_CHANGES), tp.partition) for tp in partitions]
        standing = Standing(self.reader)

        def recover(batches: Batches) -> None:
            for tp, messages in batches.items():
                (standing.read_watches if tp in partitions else standing.read_lists)(messages)

        return TakeOver([*partitions, *lists], recover, partial(self._adopt, standing, partitions), self._compare)

    async def _adopt(self, standing: Standing, partitions: frozenset[TopicPartition], reader: TruthReader) -> None:
        reader.consumer.pause(*partitions)
        self.lists.start_from(standing.offsets)
        for item_id in self.watches.item_ids:
            if item_id not in standing.watches:
                self.watches.remove(item_id)
        for item_id, watch in standing.watches.items():
            self.watches.put(watch, {"event": "start"})
            self.watches.told(item_id, standing.lists.get(item_id), {"event": "start"})
        for item_id in standing.lists.keys() - standing.watches.keys():
            self.lists.put(item_id, None, None)
        await self.lists.deliver()
        self.pushing = True

    async def _compare(self, batches: Batches) -> None:
        """What others have written to the partitions that are ours."""
        for messages in batches.values():
            for message in messages:
                item_id = (message.key or b"").decode("utf-8", "replace")
                if not self.lists.is_news(item_id, message):
                    continue
                if item_id in self.watches:
                    self.watches.told(item_id, digest_of(message), {"event": "overwritten"})
                elif message.value is not None:
                    self.lists.put(item_id, None, None)
        await self.lists.deliver()

    # What it tells of itself.

    def waiting_for(self) -> str | None:
        """Nothing: answers do not wait for lists."""
        return None

    def status(self) -> dict[str, Any]:
        return super().status() | {"watches": len(self.watches), "waiting": self.watches.waiting}

    def measure(self) -> None:
        super().measure()
        self.metrics.watches.set(len(self.watches))
        self.metrics.watches_waiting.set(self.watches.waiting)
