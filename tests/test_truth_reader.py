"""For how long a broker has been silent, by a clock that nobody sets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest_asyncio
from aiokafka import TopicPartition

from streams.kafka.truths import TruthReader

PLACES = [TopicPartition("item-records", number) for number in range(2)]


class Consumer:
    """Of a broker whose answers a test gives: by partition, Unix ms of the last one."""

    def __init__(self) -> None:
        self.answered_ms: dict[TopicPartition, int | None] = dict.fromkeys(PLACES)

    def assign(self, partitions: Any) -> None:
        """All there are."""

    def pause(self, *partitions: Any) -> None:
        """Nothing comes anyway."""

    async def beginning_offsets(self, partitions: Any) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    end_offsets = beginning_offsets

    async def getmany(self, timeout_ms: int) -> Mapping[TopicPartition, Any]:
        return {}

    def last_poll_timestamp(self, place: TopicPartition) -> int | None:
        return self.answered_ms[place]


class Reader(TruthReader):
    """With a clock that a test moves."""

    consumer: Any

    def __init__(self) -> None:
        self.now_s = 100.0
        connection: Any = SimpleNamespace(started=lambda make, what: asyncio.sleep(0, Consumer()))
        super().__init__(connection, "test", PLACES, clock_s=lambda: self.now_s)

    async def silence_after_s(self, seconds: float, **answered_ms: int) -> float:
        """Silence after a poll `seconds` later; `answered_ms`: what aiokafka has noted meanwhile, by partition."""
        self.now_s += seconds
        for name, moment in answered_ms.items():
            self.consumer.answered_ms[PLACES[int(name[1:])]] = moment
        await self.poll()
        return self.silence_s()


@pytest_asyncio.fixture
async def reader() -> Reader:
    """Connected at 100 s."""
    made = Reader()
    await made.connect()
    return made


async def test_silence_begins_with_the_last_answer_of_any_partition(reader: Reader) -> None:
    """At first with the connection; an answer that brings nothing counts too."""
    assert 3 == await reader.silence_after_s(3)
    assert 0 == await reader.silence_after_s(1, p0=1_700_000_000_000)
    assert 0 == await reader.silence_after_s(1, p1=1_700_000_001_000)
    assert 6 == await reader.silence_after_s(6)


async def test_a_clock_that_was_set_hides_no_silence_and_makes_none(reader: Reader) -> None:
    """aiokafka notes answers by the system's clock: here set back by an hour, then ahead by two."""
    await reader.silence_after_s(1, p0=1_700_000_000_000, p1=1_700_000_000_000)

    assert 0 == await reader.silence_after_s(1, p0=1_699_996_401_000)
    assert 7 == await reader.silence_after_s(7)
    assert 0 == await reader.silence_after_s(1, p1=1_700_003_609_000)
    assert 2 == await reader.silence_after_s(2)


def test_one_that_is_not_connected_is_not_silent() -> None:
    """Pages are asked before the broker is reached; that it is not is said elsewhere."""
    assert 0 == Reader().silence_s()
