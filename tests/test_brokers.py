"""What every test is given of a broker, whichever it is."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streams.brokers.embedded import CONSUMER_SETTINGS
from tests import brokers
from tests.brokers import TestBroker
from tests.waiting import wait_until, wait_until_sync


async def test_topics_can_be_written_at_once(broker: TestBroker, topic_prefix: str) -> None:
    """A topic that was made has its partitions, all with leaders: what is sent to each is read from each."""
    topic = f"{topic_prefix}t"
    await broker.create_topics({topic: 3}, {"cleanup.policy": "compact"})
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        await asyncio.gather(*[producer.send_and_wait(topic, b"%d" % n, key=b"k", partition=n) for n in range(3)])

    settings = CONSUMER_SETTINGS if broker.embedded else {}
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", **settings
    ) as consumer:
        records = [await consumer.getone() for _ in range(3)]
    assert [(0, b"0"), (1, b"1"), (2, b"2")] == sorted((each.partition, each.value) for each in records)


def test_the_broker_is_chosen_by_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A named one, else Kafka if it can be run, else the embedded one, with a line on what is skipped and why."""
    monkeypatch.setenv("KINDRED_TEST_BROKER", "kafka.example:9092")
    assert ("named", "") == (brokers.choose().kind, brokers.choose().skipped)

    monkeypatch.setenv("KINDRED_TEST_BROKER", "")
    monkeypatch.setattr(brokers, "why_not", lambda: None)
    assert brokers.choose().name.startswith("Apache Kafka 4.")

    monkeypatch.setattr(brokers, "why_not", lambda: "there is no JVM")
    assert "embedded" == brokers.choose().kind
    assert "there is no JVM" in brokers.choose().skipped

    monkeypatch.setenv("KINDRED_TEST_BROKER", "embedded")
    monkeypatch.setattr(brokers, "why_not", lambda: None)
    assert "embedded" == brokers.choose().kind


async def test_waiting_ends_with_the_thing_or_says_what_was_missing() -> None:
    """The first true value is given back; in vain, the error names what was waited for and how far it had come."""
    values = iter([0, 0, 7])
    assert 7 == await wait_until(lambda: next(values))
    assert 7 == wait_until_sync(lambda: 7)

    async def never() -> bool:
        return False

    with pytest.raises(AssertionError, match="in vain for: the moon"):
        await wait_until(never, 0.0, "the moon")
    with pytest.raises(AssertionError, match="in vain for: 3 of 4"):
        wait_until_sync(lambda: None, 0.0, lambda: "3 of 4")
