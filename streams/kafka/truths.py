"""Reading compacted topics without a consumer group: from an offset to the end, and then on.

Used by every stage that holds state: track for the partitions it owns, index for its shards, serve for the rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition

from streams.connection import Connection
from streams.long_poll import LongPollConsumer

POLL_TIMEOUT_MS = 500
LOOK_INTERVAL_S = 0.1
"""How often it is looked at most whether the broker answers: that costs as much as an event."""


class TruthReader:
    """Reads partitions from given offsets on; `caught_up` once it has read what was there at its start."""

    def __init__(
        self,
        connection: Connection,
        what: str,
        partitions: Iterable[TopicPartition],
        records_max: int = 500,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.connection = connection
        self.what = what
        self.partitions = tuple(partitions)
        self.records_max = records_max
        self.beginnings: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}
        self._clock_s = clock_s
        self._answers: list[int | None] = [None] * len(self.partitions)
        """By partition, when the last fetch was answered, as aiokafka has it: Unix ms, of a clock that may be set.

        Good for telling one from another only."""
        self._answered_s: float | None = None
        self._looked_s = 0.0
        self._behind: set[TopicPartition] = set()
        self._lags: tuple[int, dict[TopicPartition, int]] | None = None
        """As they were after so many moves of the consumer."""

    consumer: LongPollConsumer

    async def connect(self) -> None:
        """Connect, waiting for the broker, and see from where to where the logs reach now."""
        self.consumer = await self.connection.started(self._make, self.what)
        self._lags = None  # a consumer counts its own moves
        self.consumer.assign(self.partitions)
        self.consumer.pause(*self.partitions)  # else it fetches from the beginning until it is told where to start
        self.beginnings = await self.consumer.beginning_offsets(self.partitions)
        self.ends = await self.consumer.end_offsets(self.partitions)
        self._answered_s = self._clock_s()

    def start(self, offsets: Mapping[TopicPartition, int] | None = None) -> None:
        """Read from these offsets on; a partition that they do not name, from the beginning of its log."""
        for tp in self.partitions:
            self.seek(tp, (offsets or {}).get(tp, self.beginnings[tp]))
        self.consumer.resume(*self.partitions)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Read a partition from `offset` on; it is behind until its former end is reached."""
        self.consumer.seek(tp, offset)
        if offset < self.ends[tp]:
            self._behind.add(tp)

    def _make(self) -> LongPollConsumer:
        return self.connection.consumer(None, max_poll_records=self.records_max)

    @property
    def caught_up(self) -> bool:
        """Whether all that was there at the start has been read."""
        return not self._behind

    async def poll(self) -> Mapping[TopicPartition, Sequence[Any]]:
        """Messages that came, by partition; empty when nothing came for a while."""
        batches: Mapping[TopicPartition, Sequence[Any]] = await self.consumer.getmany(timeout_ms=POLL_TIMEOUT_MS)
        for tp in list(self._behind):
            if await self.consumer.position(tp) >= self.ends[tp]:
                self._behind.discard(tp)
        now_s = self._clock_s()
        if not batches or now_s - self._looked_s >= LOOK_INTERVAL_S:
            self._looked_s = now_s
            answers = [self.consumer.last_poll_timestamp(tp) for tp in self.partitions]
            if answers != self._answers:
                self._answers, self._answered_s = answers, now_s
        return batches

    def lags(self) -> Mapping[TopicPartition, int]:
        """Messages that are on the broker and not read yet, as far as is known, of those partitions that have any."""
        if self._answered_s is None:
            return {}
        if self._lags is None or self._lags[0] != self.consumer.moves:
            self._lags = (self.consumer.moves, {tp: lag for tp in self.partitions if (lag := self._lag(tp)) > 0})
        return self._lags[1]

    def lag(self, tp: TopicPartition) -> int:
        """Those of one partition."""
        return self.lags().get(tp, 0)

    def _lag(self, tp: TopicPartition) -> int:
        high, position = self.consumer.highwater(tp), self.position(tp)
        return high - position if high is not None and position is not None else 0

    def silence_s(self) -> float:
        """Seconds since the broker last answered a fetch, also one that brought nothing; 0 before it is connected."""
        return 0.0 if self._answered_s is None else self._clock_s() - self._answered_s

    def position(self, tp: TopicPartition) -> int | None:
        """Offset of the next message to read; None when it is not placed yet."""
        return self.consumer.position_now(tp)

    async def stop(self) -> None:
        """Disconnect, if it is connected."""
        if hasattr(self, "consumer"):
            await self.consumer.stop()
