"""A poll that fails in one partition takes nothing away from the others.  No broker, but aiokafka's own fetcher."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchResult, MemoryRecords, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams import topics
from streams.kafka.batch_consumer import BatchConsumer
from streams.kafka.take_over import Batches
from streams.metrics import Metrics
from streams.settings import Settings

GOOD, DAMAGED = TopicPartition(topics.STOCK_LEVELS, 0), TopicPartition(topics.STOCK_LEVELS, 1)


class Consumer:
    """Has fetched three messages of each of two partitions; those of the second were damaged on the way."""

    def __init__(self) -> None:
        self.positions = {GOOD: 0, DAMAGED: 0}
        self.committed: dict[TopicPartition, int] = {}
        self._fetched = {tp: self._fetch(tp) for tp in self.positions}

    def _fetch(self, tp: TopicPartition) -> FetchResult:
        batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
        for offset in range(3):
            batch.append(offset, 7, b"key", b"value", [])
        data = bytearray(batch.build())
        data[-1] ^= tp is DAMAGED
        state = SimpleNamespace(paused=False, position=0)
        state.consumed_to = lambda position: self.positions.update({tp: position})
        assignment = SimpleNamespace(active=True, state_value=lambda _: state)
        records = PartitionRecords(tp, MemoryRecords(bytes(data)), None, 0, None, None, True, 0)
        return FetchResult(tp, assignment=assignment, partition_records=records, backoff=0)

    def subscribe(self, *_: Any, **__: Any) -> None: ...

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self.positions)

    async def getmany(self, timeout_ms: int) -> Any:
        state = SimpleNamespace(
            _subscriptions=SimpleNamespace(reassignment_in_progress=False),
            _records=self._fetched,
            _notify=lambda waiting: None,
            _wait_consume_future=None,
        )
        return await Fetcher.fetched_records(state, (), 0, 500)

    def position_now(self, tp: TopicPartition) -> int:
        return self.positions[tp]

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.committed |= offsets


class Stage(BatchConsumer):
    async def process(self, batches: Batches) -> None: ...


async def test_what_was_taken_and_not_handed_out_is_not_committed() -> None:
    """aiokafka goes past the messages of the one partition, and then raises for the other: they are to come again."""
    stage = Stage(SimpleNamespace(), Settings(), Metrics(), lambda: 0, "track", [topics.STOCK_LEVELS], 500)  # type: ignore[arg-type]
    stage.consumer = consumer = Consumer()  # type: ignore[assignment]
    for tp in (GOOD, DAMAGED):
        stage._offsets.begin(tp, 0)
    with pytest.raises(CorruptRecordException):
        await BatchConsumer.poll(stage)
    assert consumer.positions[GOOD] == 3, "else there is nothing to lose"

    await stage.on_stop()

    assert {} == consumer.committed
