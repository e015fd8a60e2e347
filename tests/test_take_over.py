"""Partitions that come and go again while what they need is still being read or adopted.  No broker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import TopicPartition

from streams import topics
from streams.kafka.batch_consumer import BatchConsumer
from streams.kafka.take_over import Batches, TakeOver
from streams.metrics import Metrics
from streams.settings import Settings
from tests.waiting import wait_until

HELD = TopicPartition(topics.STOCK_LEVELS, 0)
T = 1_700_000_000_000


class Consumer:
    """Has one partition; keeps whether it is read."""

    def __init__(self) -> None:
        self.reading = False
        self.placed = asyncio.Event()
        self.placed.set()

    def assignment(self) -> set[TopicPartition]:
        return {HELD}

    def pause(self, *_: TopicPartition) -> None:
        self.reading = False

    def resume(self, *_: TopicPartition) -> None:
        self.reading = True

    async def position(self, tp: TopicPartition) -> int:
        await self.placed.wait()
        return 0

    def position_now(self, tp: TopicPartition) -> int:
        return 0

    async def stop(self) -> None: ...


class Reader:
    """Has read all that there was, and waits for more."""

    caught_up = True

    def __init__(self, *_: Any) -> None: ...

    async def connect(self) -> None: ...

    def start(self) -> None: ...

    async def poll(self) -> Batches:
        await asyncio.sleep(0)
        return {}

    async def stop(self) -> None: ...


class Stage(BatchConsumer):
    """Adopts what it took over only when it may."""

    def __init__(self) -> None:
        self.one = Consumer()
        clients = SimpleNamespace(
            started=lambda make, what: asyncio.sleep(0, make()),
            producer=lambda: self.one,
            consumer=lambda *_, **__: self.one,
        )
        super().__init__(clients, Settings(), Metrics(), lambda: T, "track", [topics.STOCK_LEVELS], 1)  # type: ignore[arg-type]
        self.may_adopt = asyncio.Event()
        self.adopting = self.adopted = 0

    async def process(self, batches: Batches) -> None: ...

    def taking_over(self, partitions: frozenset[TopicPartition]) -> TakeOver:
        async def adopt(reader: object) -> None:
            self.adopting += 1
            await self.may_adopt.wait()
            self.adopted += 1

        async def follow(batches: Batches) -> None: ...

        return TakeOver([HELD], lambda batches: None, adopt, follow)


@pytest_asyncio.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage to which a partition has come, in the middle of adopting it."""
    monkeypatch.setattr("streams.kafka.batch_consumer.TruthReader", Reader)
    made = Stage()
    await made.on_start()
    await made.on_assigned(frozenset([HELD]))
    await wait_until(lambda: made.adopting == 1, 10, "the adoption")
    return made


async def test_partitions_that_go_while_they_are_adopted(stage: Stage) -> None:
    """What is being delivered is delivered first; it is no crash, and they can come again."""
    going = asyncio.ensure_future(stage.on_revoked(frozenset([HELD])))
    await wait_until(lambda: stage._taking_over and stage._taking_over.done(), 10, "that nobody waits for it")
    stage.may_adopt.set()
    await asyncio.wait_for(going, 10)
    assert not stage.one.reading

    await stage.on_assigned(frozenset([HELD]))
    await wait_until(lambda: stage.one.reading, 10, "the partition to be read")

    assert stage.adopted == 2
    assert not stage.crashed
    assert stage.bug is None
    await stage.on_revoked(frozenset([HELD]))


async def test_a_partition_without_a_leader_holds_up_no_other(stage: Stage) -> None:
    """It has no position for as long; what else came is taken over and read all the same."""
    stage.may_adopt.set()
    await stage.on_revoked(frozenset([HELD]))
    stage.one.placed.clear()

    await stage.on_assigned(frozenset([HELD]))
    await wait_until(lambda: stage.one.reading, 10, "the partition to be read")

    await stage.on_revoked(frozenset([HELD]))
    stage.one.placed.set()


async def test_a_stop_while_partitions_are_adopted(stage: Stage) -> None:
    """It waits for what is being delivered, and is no crash either."""
    stopping = asyncio.ensure_future(stage.on_stop())
    await wait_until(lambda: stage._taking_over and stage._taking_over.done(), 10, "that nobody waits for it")
    stage.may_adopt.set()
    await asyncio.wait_for(stopping, 10)
    await stage.on_revoked(frozenset([HELD]))  # ends the reading

    assert stage.adopted == 1
    assert not stage.crashed
