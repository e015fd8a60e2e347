"""The truths of the partitions that a track stage owns: read from the beginning, then on for as long as it owns them.

What the owner itself wrote is told by its last bytes and skipped, which costs next to nothing.  What cannot be read is
none of ours: it is written over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import TopicPartition

from models.tracker import Tracker
from models.tracker_recovery import Recovery, read_embedding, read_record, read_stock
from models.truth_messages import read_item_embedding, read_item_record, read_item_stock
from streams import topics
from streams.track.catalog_statistics import CatalogMean

log = logging.getLogger(__name__)

WRITER = "kindred_writer"
"""Header of our tombstones, which have no body that could say it."""

READERS: Mapping[str, Callable[[bytes], Any]] = {
    topics.ITEM_RECORDS: read_item_record,
    topics.ITEM_STOCKS: read_item_stock,
    topics.ITEM_EMBEDDINGS: read_item_embedding,
}
UNREADABLE = object()

Batches = Mapping[TopicPartition, Sequence[Any]]


class OwnedTruths:
    """Trackers of some partitions, kept in agreement with the truths."""

    def __init__(self, partitions: Iterable[int], make: Callable[[], Tracker], prefix: str, writer: str) -> None:
        self.trackers = {number: make() for number in partitions}
        self.mean = CatalogMean(writer) if 0 in self.trackers else None
        """Fitted by the owner of partition 0."""
        self._recoveries = {number: Recovery(tracker) for number, tracker in self.trackers.items()}
        self._prefix = prefix
        self._writer = writer.encode()
        self._own_end = b'"writer":"' + self._writer + b'"}'

    def recover(self, batches: Batches) -> None:
        """Fold what the truths hold, before the first event."""
        for tp, messages in batches.items():
            name = tp.topic.removeprefix(self._prefix)
            if name == topics.CATALOG_STATISTICS:
                self._read_statistics(messages)
                continue
            recovery = self._recoveries[tp.partition]
            folds: dict[str, Callable[[str, Any, int], None]] = {
                topics.ITEM_RECORDS: recovery.record,
                topics.ITEM_STOCKS: recovery.stock,
                topics.ITEM_EMBEDDINGS: recovery.embedding,
            }
            for message in messages:
                item_id, value = self._decoded(name, message)
                if value is UNREADABLE and name != topics.ITEM_EMBEDDINGS:
                    recovery.unreadable(item_id)
                    continue
                value = None if value is UNREADABLE else value
                folds[name](item_id, value, message.timestamp)
                if name == topics.ITEM_EMBEDDINGS:
                    self._observe(tp.partition, item_id, value)

    def finish(self, generation: int, now_ms: int) -> None:
        """All that was there is read; marks what is to be written or asked again."""
        for recovery in self._recoveries.values():
            recovery.finish(generation, now_ms)
        self._recoveries.clear()

    def follow(self, batches: Batches, now_ms: int) -> None:
        """Read what came since, and mark what is to be written or asked again."""
        for tp, messages in batches.items():
            name = tp.topic.removeprefix(self._prefix)
            if name == topics.CATALOG_STATISTICS:
                self._read_statistics(messages)
                continue
            tracker = self.trackers[tp.partition]
            for message in messages:
                if name != topics.ITEM_EMBEDDINGS and self._is_own(message):
                    continue
                item_id, value = self._decoded(name, message)
                value = None if value is UNREADABLE else value
                if name == topics.ITEM_RECORDS:
                    read_record(tracker, item_id, value)
                elif name == topics.ITEM_STOCKS:
                    read_stock(tracker, item_id, value)
                else:
                    read_embedding(tracker, item_id, value, now_ms)
                    self._observe(tp.partition, item_id, value)

    def _is_own(self, message: Any) -> bool:
        if message.value is not None:
            return bool(message.value.endswith(self._own_end))
        return any(name == WRITER and value == self._writer for name, value in message.headers)

    def _decoded(self, name: str, message: Any) -> tuple[str, Any]:
        """Item id and message of a truth; `UNREADABLE` for what is none of ours."""
        item_id = (message.key or b"").decode("utf-8", "replace")
        if message.value is None:
            return item_id, None
        try:
            return item_id, READERS[name](message.value)
        except msgspec.DecodeError as error:
            log.warning("%s[%d]@%d is none of our messages: %s", name, message.partition, message.offset, error)
            return item_id, UNREADABLE

    def _observe(self, partition: int, item_id: str, value: Any) -> None:
        if partition == 0 and self.mean:
            self.mean.observe(item_id, value)

    def _read_statistics(self, messages: Sequence[Any]) -> None:
        if self.mean:
            self.mean.read(messages)
