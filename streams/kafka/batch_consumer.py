"""The batch consumer: poll, handle, commit, hand over.  A hundred times the rate of an agent, for cheap events.

What is easy to get wrong, and how it is done here:

1. Offsets are committed only when a subclass has put them into `done`, that is after their effects were acknowledged.
2. aiokafka sends no heartbeat while a rebalance callback runs, so recovery never happens in one: `assigned` pauses the
   new partitions and has them taken over beside it; they are resumed when what they need is there.
3. `revoked` waits for the poll in work, finishes what was handled, commits it and forgets the partitions.
4. Everything that a former generation still has in work asks `self.generation` before it goes on; a poll that a
   rebalance overtook is dropped, because its events come again from the committed offset.
5. A commit that is refused because the partitions are somebody else's is no error: they handle the events again.
6. Several polls may be handled before their effects are delivered together.  The loop has a turn after each, so polls
   are small where others wait for it; and nothing waits under the lock but for the delivery: `getmany` would wait
   there for a rebalance that itself waits for the lock.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import mode
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, RebalanceInProgressError

from streams.connection import Connection
from streams.kafka.group_offsets import GroupOffsets
from streams.kafka.take_over import Batches, TakeOver
from streams.kafka.truths import TruthReader
from streams.long_poll import LongPollConsumer
from streams.metrics import Metrics
from streams.producer import Producer
from streams.settings import Settings

log = logging.getLogger(__name__)

COMMIT_INTERVAL_S = 0.25
POLL_TIMEOUT_MS = 200
"""While something is still to be committed."""
IDLE_POLL_TIMEOUT_MS = 500


class BatchConsumer(mode.Service, abc.ABC):
    """A member of a consumer group.  Subclasses say what to do with a batch and what to hold for a partition."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        metrics: Metrics,
        clock_ms: Callable[[], int],
        stage: str,
        reads: Iterable[str],
        records_max: int,
    ) -> None:
        """`stage` names the group, `reads` the topics, both without the prefix."""
        super().__init__()
        self.connection = connection
        self.settings = settings
        self.metrics = metrics
        self.clock_ms = clock_ms
        self.stage = stage
        self.group = self._topic("kindred-" + stage)
        self.topics = tuple(map(self._topic, reads))
        self.records_max = records_max
        self.generation = 0
        self.batch_lock = asyncio.Lock()
        self.bug: BaseException | None = None
        """Set by `process` when an event could not be handled by fault of ours: stop once the offsets are committed."""
        self.done: dict[TopicPartition, int] = {}
        """Next offset to read by partition, of events whose effects are acknowledged, to be committed."""
        self._offsets = GroupOffsets()
        self._committed_at = 0.0
        self._taking_over: asyncio.Future[None] | None = None

    consumer: LongPollConsumer
    producer: Producer

    def _topic(self, name: str) -> str:
        return self.settings.topic_prefix + name

    # What a subclass says.

    async def prepare(self) -> None:
        """Wait for what must be there before the group is joined; must return when the service stops."""

    @abc.abstractmethod
    async def process(self, batches: Batches) -> None:
        """Handle a poll, and put into `done` what is finished; while `unfinished`, also an empty one: nothing waits."""

    @property
    def unfinished(self) -> bool:
        """Whether polls were handled whose effects are still to be delivered: the next poll then waits for nothing."""
        return False

    async def finish(self) -> None:
        """Deliver what is unfinished, and put it into `done`, before partitions are given up."""

    async def breathe(self) -> None:
        """Give the loop a turn, between two polls of a feed that does not pause."""
        await asyncio.sleep(0)

    def taking_over(self, partitions: frozenset[TopicPartition]) -> TakeOver | None:
        """What is to be read of partitions that came; None: nothing."""
        return None

    def forget(self, partitions: frozenset[TopicPartition]) -> None:
        """Drop what was held for partitions that are somebody else's from now on."""

    # The life of the consumer.

    async def on_start(self) -> None:
        self.producer = await self.connection.started(self.connection.producer, self.stage)
        self.async_exit_stack.push_async_callback(self.producer.stop)
        self.consumer = await self.connection.started(self._make, self.group)
        self.async_exit_stack.push_async_callback(self.consumer.stop)

    def _make(self) -> LongPollConsumer:
        return self.connection.consumer(self.group, max_poll_records=self.records_max)

    async def on_stop(self) -> None:
        if self._taking_over:
            self._taking_over.cancel()
        async with self.batch_lock:
            if self.unfinished:  # else it may not even have started: a worker that cannot start stops all its stages
                await self.finish()
            await self.commit(force=True)

    @mode.Service.task
    async def poll(self) -> None:
        """Join the group, then poll and handle until the service stops."""
        await self.prepare()
        if self.should_stop:  # joining now would take partitions from the others for a moment
            return
        self.consumer.subscribe(self.topics, listener=_Listener(self))
        while not self.should_stop:
            timeout_ms = 0 if self.unfinished else POLL_TIMEOUT_MS if self.done else IDLE_POLL_TIMEOUT_MS
            try:
                batches = await self.consumer.getmany(timeout_ms=timeout_ms)
            except BaseException:  # aiokafka may have gone past messages of other partitions without handing them out
                self._offsets.drop()
                raise
            self._offsets.handed(batches)
            generation = self.generation  # a rebalance may come in while the lock is waited for, and drop these
            async with self.batch_lock:
                if (batches or self.unfinished) and generation == self.generation:
                    await self.process(batches)
                await self.commit(force=self.bug is not None)
            if self.bug:
                raise self.bug
            if self.unfinished:
                await self.breathe()  # nothing here need have waited

    async def commit(self, force: bool = False) -> None:
        """Commit what is done, at most every quarter of a second."""
        if not (self.done or self._offsets):  # it may not even have started
            return
        if not force and time.monotonic() - self._committed_at < COMMIT_INTERVAL_S:
            return
        held = self.consumer.assignment()
        due = self._offsets.to_commit(self.done, self.consumer.position_now)
        offsets = {tp: offset for tp, offset in due.items() if tp in held}
        self.done.clear()
        self._committed_at = time.monotonic()
        if not offsets:
            return
        try:
            await self.consumer.commit(offsets)
            self._offsets.committed(offsets)
        except (CommitFailedError, IllegalStateError, RebalanceInProgressError) as error:
            log.info("%s: the commit is left to the partitions' new owner: %r", self.group, error)
        except KafkaError as error:
            log.warning("%s: the commit failed and is tried again: %r", self.group, error)
            for tp, offset in offsets.items():
                self.done.setdefault(tp, offset)

    # What it tells of itself.

    def lag(self, tp: TopicPartition) -> int:
        """Messages that are on the broker and not handled yet, as far as is known."""
        return self._offsets.lag(tp, self.consumer.highwater(tp))

    def waiting_for(self) -> str | None:
        """Why the stage is not ready, in words; None when it is."""
        if not self.generation:
            return "the consumer group has not met yet"
        if self._taking_over and not self._taking_over.done():
            return "partitions are being taken over"
        return None

    def status(self) -> dict[str, Any]:
        """Partitions held, by topic."""
        held: dict[str, list[int]] = {}
        for tp in sorted(self._assignment()):
            held.setdefault(tp.topic, []).append(tp.partition)
        return {"group": self.group, "partitions": held}

    def measure(self) -> None:
        """Bring the gauges up to date: how many messages wait, by topic."""
        for topic, lag in self.lags().items():
            self.metrics.lag.labels(self.stage, topic).set(lag)

    def lags(self) -> dict[str, int]:
        """Messages that wait, by topic."""
        lags = dict.fromkeys(self.topics, 0)
        for tp in self._assignment():
            lags[tp.topic] += self.lag(tp)
        return lags

    def _assignment(self) -> frozenset[TopicPartition]:
        """Partitions held; none while the broker has not been reached yet, when pages are asked already."""
        return self.consumer.assignment() if hasattr(self, "consumer") else frozenset()

    # Rebalances.

    async def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Called inside the rebalance: only pause, and start to take over beside it."""
        self.generation += 1
        if not partitions:
            return
        self.consumer.pause(*partitions)
        self._taking_over = self.add_future(self._take_over_and_resume(partitions, self.generation))

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Called inside the rebalance: finish, commit, forget."""
        if self._taking_over:
            self._taking_over.cancel()
        async with self.batch_lock:
            try:
                await self.finish()
                await self.commit(force=True)
            except Exception as error:  # aiokafka would only log it
                self.bug = self.bug or error
            finally:
                self.generation += 1
                self._offsets.drop()
                self.forget(partitions)

    async def _take_over_and_resume(self, partitions: frozenset[TopicPartition], generation: int) -> None:
        started = time.monotonic()
        for tp in partitions:
            self.add_future(self._begin(tp, generation))
        if take_over := self.taking_over(partitions):
            adopted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self.add_future(self._recover_and_follow(take_over, generation, adopted))
            # A rebalance that cancels this must leave the future to the one that adopts, maybe just now.
            if not await asyncio.shield(adopted):
                return
        if generation == self.generation:
            self.consumer.resume(*(partitions & self.consumer.assignment()))
            log.info("%s: took over %d partitions in %.1f s", self.group, len(partitions), time.monotonic() - started)

    async def _begin(self, tp: TopicPartition, generation: int) -> None:
        """Note where a partition is read from; nobody waits for that, as one without a leader has no position."""
        with contextlib.suppress(IllegalStateError):  # it is somebody else's by now: the generation has moved on
            position = await self.consumer.position(tp)
            if generation == self.generation:
                self._offsets.begin(tp, position)

    async def _recover_and_follow(self, take_over: TakeOver, generation: int, adopted: asyncio.Future[bool]) -> None:
        """Read what a take-over needs, and on until the generation moves on; tells when, and whether, it is adopted."""
        reader = TruthReader(self.connection, f"{self.stage} recovery", take_over.places, take_over.records_max)
        try:
            await reader.connect()
            reader.start()
            while not reader.caught_up:
                take_over.recover(await reader.poll())
                if generation != self.generation or self.should_stop:
                    return
            async with self.batch_lock:
                if generation != self.generation:
                    return
                await take_over.adopt(reader)
            adopted.set_result(True)
            while generation == self.generation and not self.should_stop:
                batches = await reader.poll()
                async with self.batch_lock:
                    if generation == self.generation:
                        await take_over.follow(batches)
        finally:
            if not adopted.done():
                adopted.set_result(False)
            await reader.stop()


class _Listener(ConsumerRebalanceListener):
    """Hands aiokafka's callbacks to the consumer."""

    def __init__(self, owner: BatchConsumer) -> None:
        self.owner = owner

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self.owner.on_revoked(frozenset(revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self.owner.on_assigned(frozenset(assigned))
