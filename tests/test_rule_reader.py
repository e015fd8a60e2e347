"""Rules as a worker reads them while `rule-changes` lives its life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams import topics
from streams.connection import Connection
from streams.metrics import Metrics
from streams.serve.rule_reader import RuleReader
from streams.settings import Settings

PLACE = TopicPartition(topics.RULE_CHANGES, 0)


class Log:
    """The topic, as a reader sees it."""

    caught_up = True

    def __init__(self) -> None:
        self.ends = {PLACE: 0}
        self.next_offset: int | None = 0
        self.coming: list[Any] = []

    def comes(self, **rules: bytes | None) -> None:
        """Rules by id, written one after the other."""
        assert self.next_offset is not None
        for offset, (key, value) in enumerate(rules.items(), self.next_offset):
            place = {"topic": PLACE.topic, "partition": 0, "offset": offset, "timestamp": 1, "headers": ()}
            self.coming.append(SimpleNamespace(key=key.encode(), value=value, **place))

    async def poll(self) -> Mapping[TopicPartition, Sequence[Any]]:
        came, self.coming = self.coming, []
        if came:
            self.next_offset = came[-1].offset + 1
        return {PLACE: came} if came else {}

    def position(self, place: TopicPartition) -> int | None:
        return self.next_offset


@pytest.fixture
def reader() -> RuleReader:
    made = RuleReader(Connection("nowhere:1"), Settings.read({}), Metrics(), lambda: False)
    nobody: Any = None
    log: Any = Log()
    made.producer, made.reader, made._place = nobody, log, PLACE
    return made


def in_force(reader: RuleReader) -> set[str]:
    return {rule.rule_id for rule in reader.book.in_force()}


@pytest.mark.parametrize("rules", [{}, {"fresh": b"{}"}, {"b": b"{}", "fresh": b"{}"}])
async def test_a_topic_that_is_made_anew_takes_its_rules_with_it(rules: dict[str, bytes], reader: RuleReader) -> None:
    """Those of the new one alone are in force, and who waits for one is told by its own offset."""
    log: Any = reader.reader
    log.comes(a=b"{}", b=b"{}", c=b"no rule", default=b"{}")
    await reader.read()
    log.next_offset = None  # a partition is looked for
    await reader.read()
    assert {"a", "b", "default"} == in_force(reader)
    assert await reader.reached(4, 0)

    log.next_offset = 0
    log.comes(**rules)
    await reader.read()

    assert {"default", *rules} == in_force(reader)
    assert rules.keys() == reader.stored.keys()
    assert not reader.unusable
    assert len(rules) == reader.next_offset
    assert not await reader.reached(4, 0)


async def test_a_log_that_goes_on_keeps_its_rules(reader: RuleReader) -> None:
    """Also behind offsets that compaction has taken."""
    log: Any = reader.reader
    log.comes(a=b"{}")
    await reader.read()
    await reader.read()
    log.next_offset = 70
    log.comes(b=b"{}", c=None)
    await reader.read()

    assert {"a", "b", "default"} == in_force(reader)
    assert 72 == reader.next_offset
