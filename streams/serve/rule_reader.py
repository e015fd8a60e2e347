"""Rules as they stand on `rule-changes`, in force from the next request on.

Every worker reads the whole topic.  A rule that cannot be understood leaves its earlier version in force and becomes a
dead letter; one that already was there at the start is only logged, because whoever read it then has set it aside.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import mode
from aiokafka import AIOKafkaProducer, TopicPartition

from models.errors import BadEvent
from models.rules import Rule, RuleBook, parse_rule
from streams import topics
from streams.connection import Connection
from streams.kafka.dead_letters import dead_letter
from streams.kafka.origin import origin_of
from streams.kafka.outbox import Outbox
from streams.kafka.truths import TruthReader
from streams.metrics import Metrics
from streams.settings import Settings

log = logging.getLogger(__name__)


class StoredRule(NamedTuple):
    """A rule as it stands on the topic, enabled or not."""

    rule: Rule
    updated_ms: int


class RuleReader(mode.Service):
    """Keeps a `RuleBook` up with `rule-changes`."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        metrics: Metrics,
        sets_aside: Callable[[], bool],
    ) -> None:
        """`sets_aside`: whether this worker is the one that writes dead letters of rules."""
        super().__init__()
        self.connection = connection
        self.settings = settings
        self.metrics = metrics
        self.sets_aside = sets_aside
        self.book = RuleBook()
        self.loaded = False
        """Whether the rules that were there at the start are in force."""
        self.newest_ms: int | None = None
        """Unix ms of the newest rule change that is in force."""
        self.stored: dict[str, StoredRule] = {}
        """By id, the rules of the topic that could be understood."""
        self.unusable: set[str] = set()
        """Ids of which only what could not be understood stands there."""
        self.next_offset = 0
        """All of the topic before it is in force."""
        self._moved = asyncio.Event()

    producer: AIOKafkaProducer

    async def reached(self, offset: int, wait_s: float) -> bool:
        """Whether all before `offset` is in force, at once or within `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                while self.next_offset < offset:
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def end(self) -> int:
        """Where the topic ends now."""
        return int((await self.reader.consumer.end_offsets([self._place]))[self._place])

    async def on_start(self) -> None:
        self._place = TopicPartition(self.settings.topic_prefix + topics.RULE_CHANGES, 0)
        self.producer = await self.connection.started(self.connection.producer, "rules")
        self.async_exit_stack.push_async_callback(self.producer.stop)
        self.reader = TruthReader(self.connection, "rules", [self._place])
        await self.reader.connect()
        self.async_exit_stack.push_async_callback(self.reader.stop)
        self.reader.start()
        self.metrics.rules.set(len(self.book.in_force()))

    def lag(self) -> int:
        """Rule changes that are not in force yet."""
        return self.reader.lag(self._place)

    @mode.Service.task
    async def follow(self) -> None:
        """Read rules until the service stops."""
        while not self.should_stop:
            await self.read()

    async def read(self) -> None:
        """Read the rules that have come since, or wait a while for some."""
        for messages in (await self.reader.poll()).values():
            self._look_whether_anew(messages[0].offset)
            outbox = Outbox(self.producer)
            for message in messages:
                self._take(message, outbox)
            self.metrics.rules.set(len(self.book.in_force()))
            await outbox.deliver()
        self.loaded = self.loaded or self.reader.caught_up
        self._move_to(self.reader.position(self._place))

    def _look_whether_anew(self, offset: int) -> None:
        """Forget all rules if the topic is read from further back: it was deleted and made again, without them."""
        if offset >= self.next_offset:
            return
        log.warning("rule-changes was made anew: the %d rules of the former one are forgotten", len(self.stored))
        for rule_id in self.stored:
            self.book.remove(rule_id)
        self.stored.clear()
        self.unusable.clear()
        self.metrics.rules.set(len(self.book.in_force()))
        self.next_offset = self.reader.ends[self._place] = 0

    def _move_to(self, offset: int | None) -> None:
        """Tell who waits for it that all before `offset` is in force."""
        if offset is None:
            return
        self._look_whether_anew(offset)
        if offset > self.next_offset:
            self.next_offset = offset
            self._moved.set()
            self._moved = asyncio.Event()

    def _take(self, message: Any, outbox: Outbox) -> None:
        try:
            if message.key is None:
                raise BadEvent("expected the rule's id as key, got null")
            rule_id = message.key.decode()
            if message.value is None:
                self.book.remove(rule_id)
                self.stored.pop(rule_id, None)
            else:
                if rule_id not in self.stored:
                    self.unusable.add(rule_id)
                rule = parse_rule(rule_id, message.value)
                self.book.put(rule)
                self.stored[rule_id] = StoredRule(rule, message.timestamp)
            self.unusable.discard(rule_id)
            self.newest_ms = message.timestamp
        except (BadEvent, UnicodeDecodeError) as error:
            log.warning("rule-changes@%d is not understood, an earlier version stays: %s", message.offset, error)
            if message.offset >= self.reader.ends[self._place] and self.sets_aside():
                bad = error if isinstance(error, BadEvent) else BadEvent(f"expected a key in UTF-8: {error}")
                outbox.put(
                    self.settings.topic_prefix + topics.DEAD_LETTERS, 0, dead_letter(origin_of(message), "serve", bad)
                )
                self.metrics.dead_letters.labels("serve").inc()
