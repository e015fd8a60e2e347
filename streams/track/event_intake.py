"""Events of track's topics, one by one: kept by the tracker of their partition, forwarded home, or set aside.

An event that is not at its home partition (another partitioner, another number of partitions) goes to `item-changes`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import TopicPartition
from msgspec.structs import replace

from models.change_events import read_catalog_change, read_stock_change
from models.errors import BadEvent
from models.plain_levels import keep_plain_levels
from models.tracker import Tracker
from models.truth_messages import LogPlace
from streams import topics
from streams.kafka.dead_letters import dead_letter, header
from streams.kafka.origin import forwarded, origin_of
from streams.kafka.outbox import Outbox
from streams.metrics import Metrics
from streams.settings import Settings

log = logging.getLogger(__name__)

KIND = "kindred_kind"
"""Header of `item-changes` that says which reader understands the event."""


class EventIntake:
    """Hands events to trackers; what is to be forwarded or set aside it puts into the outbox."""

    def __init__(self, settings: Settings, metrics: Metrics, clock_ms: Callable[[], int], outbox: Outbox) -> None:
        self.settings = settings
        self.metrics = metrics
        self.clock_ms = clock_ms
        self.outbox = outbox
        self.bug: BaseException | None = None
        """An event could not be handled by fault of ours: it was set aside, and nothing after it was handled."""
        self._events = self._dead = self._late = 0
        prefix = settings.topic_prefix
        self._stock_levels = prefix + topics.STOCK_LEVELS
        self._catalog_changes = prefix + topics.CATALOG_CHANGES
        self._item_changes = prefix + topics.ITEM_CHANGES
        self._dead_letters = prefix + topics.DEAD_LETTERS

    def handle(self, tp: TopicPartition, messages: Sequence[Any], tracker: Tracker | None) -> int:
        """Handle messages of a partition, at least one, in their order; the next offset to read.

        `tracker` keeps those that are at home there; without one all are forwarded.  After a bug none is handled.
        """
        one = self._handler(tp, tracker)
        levels = tracker if tp.topic == self._stock_levels else None
        reached = 0
        while reached < len(messages) and not self.bug:
            if levels:
                reached, late = keep_plain_levels(levels, messages, reached)
                self._late += late
            if reached < len(messages):
                self._handle_one(one, messages[reached])
                reached += 1
        self._events += reached
        self.metrics.events.labels("track", tp.topic).inc(reached)
        self.metrics.events_late.inc(self._late)
        self._late = 0
        return int(messages[reached - 1].offset) + 1 if reached else int(messages[0].offset)

    def counts(self) -> tuple[int, int]:
        """Events and dead letters since the last call."""
        counts = self._events, self._dead
        self._events = self._dead = 0
        return counts

    def _handler(self, tp: TopicPartition, tracker: Tracker | None) -> Callable[[Any], None]:
        if tp.topic == self._stock_levels:
            return lambda message: self._level(message, tracker)
        if tp.topic == self._catalog_changes:
            return lambda message: self._catalog(message, tracker)
        return lambda message: self._forwarded(message, tracker)

    def _handle_one(self, handle: Callable[[Any], None], message: Any) -> None:
        try:
            handle(message)
        except BadEvent as error:
            self._dead += 1
            self._set_aside(message, error)
        except Exception as error:
            log.exception(
                "an event at %s[%d]@%d could not be handled", message.topic, message.partition, message.offset
            )
            self._set_aside(message, error)
            self.bug = error

    def _level(self, message: Any, tracker: Tracker | None) -> None:
        change = read_stock_change(message.key, message.value, message.timestamp)
        if tracker and self._is_home(change.item_id, message.partition, tracker):
            self._late += not tracker.stock(change.item_id, change.level)
        else:
            self._forward(message, change.item_id, topics.STOCK_LEVELS)

    def _catalog(self, message: Any, tracker: Tracker | None) -> None:
        change = read_catalog_change(message.key, message.value)
        if tracker and self._is_home(change.item_id, message.partition, tracker):
            tracker.catalog(change, message.timestamp, self.clock_ms())
        else:
            self._forward(message, change.item_id, topics.CATALOG_CHANGES)

    def _is_home(self, item_id: str, partition: int, tracker: Tracker) -> bool:
        return item_id in tracker.items or self._home(item_id.encode()) == partition

    def _home(self, key: bytes) -> int:
        return topics.partition_of(key, self.settings.shards)

    def _forwarded(self, message: Any, tracker: Tracker | None) -> None:
        assert tracker, "a partition of item-changes is an item partition"
        kind = header(message.headers, KIND)
        origin = origin_of(message)
        if kind == topics.STOCK_LEVELS.encode():
            change = read_stock_change(origin.key, origin.value, origin.timestamp_ms)
            self._late += not tracker.stock(change.item_id, change.level)
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
        self.outbox.put(self._item_changes, self._home(key), event)
        self.metrics.events_forwarded.labels(message.topic).inc()

    def _set_aside(self, message: Any, error: BaseException) -> None:
        self.outbox.put(self._dead_letters, 0, dead_letter(origin_of(message), "track", error))
        self.metrics.dead_letters.labels("track").inc()
