"""Which broker the tests run on, and what a test is given of it.

`KINDRED_TEST_BROKER=host:port` names one, `KINDRED_TEST_BROKER=embedded` asks for the embedded one; else Apache Kafka
where Java and Maven are, else the embedded one.  The choice is made at once, for the report's header; the broker starts
when the first test wants it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from streams.brokers.apache_kafka import KafkaBroker
from streams.brokers.embedded import EmbeddedBroker
from streams.brokers.jars import kafka_version, why_not
from tests.waiting import wait_until


@dataclass(frozen=True)
class Choice:
    """A kind of broker: `named`, `kafka` or `embedded`."""

    kind: str
    name: str
    """For people: `Apache Kafka 4.3.1`."""
    skipped: str = ""
    """Why tests that need a real broker are skipped; empty when they are not."""


def choose() -> Choice:
    """The broker that this run of the tests will use."""
    named = os.environ.get("KINDRED_TEST_BROKER", "").strip()
    if named and named != "embedded":
        return Choice("named", f"{named} (KINDRED_TEST_BROKER)")
    reason = "KINDRED_TEST_BROKER=embedded asks for it" if named else why_not()
    if reason is None:
        return Choice("kafka", f"Apache Kafka {kafka_version()}")
    return Choice("embedded", "the embedded one", f"needs Apache Kafka, and the broker is the embedded one: {reason}")


@dataclass(frozen=True)
class TestBroker:
    """The broker that tests share.  Keep to topics and groups that begin with `topic_prefix`; never stop it."""

    __test__ = False  # not a test class, whatever its name

    bootstrap: str
    embedded: EmbeddedBroker | None = None

    async def create_topics(
        self, topics: Mapping[str, int], config: Mapping[str, str] | None = None, deadline_s: float = 30.0
    ) -> None:
        """Make topics (name → partitions), and wait until they can be written to; `config` is for all of them."""
        if self.embedded is not None:
            self.embedded.create_topics(topics)
            return
        await create_topics(self.bootstrap, topics, config, deadline_s)


async def create_topics(
    bootstrap: str, topics: Mapping[str, int], config: Mapping[str, str] | None = None, deadline_s: float = 30.0
) -> None:
    """Make topics on a real broker and wait until every partition has a leader."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        wanted = [NewTopic(name, count, 1, topic_configs=dict(config or {})) for name, count in topics.items()]
        answer = await admin.create_topics(wanted)
        for name, code, *_ in answer.topic_errors:
            assert code == 0, f"topic {name}: {for_code(code).__name__}"

        async def led() -> bool:
            with contextlib.suppress(KafkaError):
                described = await admin.describe_topics(list(topics))
                partitions = [each for topic in described for each in topic["partitions"]]
                return len(partitions) == sum(topics.values()) and all(each["leader"] >= 0 for each in partitions)
            return False

        await wait_until(led, deadline_s, f"leaders of {', '.join(topics)}")
    finally:
        await admin.close()


@contextlib.contextmanager
def running(choice: Choice, folder: Path) -> Iterator[TestBroker]:
    """The chosen broker, running; stopped at the end unless it was there before."""
    if choice.kind == "named":
        yield TestBroker(os.environ["KINDRED_TEST_BROKER"].strip())
    elif choice.kind == "kafka":
        with KafkaBroker(folder / "kafka") as kafka:
            yield TestBroker(kafka.bootstrap)
    else:
        with EmbeddedBroker() as embedded:
            yield TestBroker(embedded.start({}), embedded)


@contextlib.contextmanager
def own_brokers(folder: Path) -> Iterator[Callable[..., KafkaBroker]]:
    """A maker of started Kafka brokers that a test may stop, kill and restart; all are ended with it."""
    made: list[KafkaBroker] = []

    def make(**properties: str) -> KafkaBroker:
        named = {name.replace("_", "."): value for name, value in properties.items()}
        broker = KafkaBroker(folder / f"kafka-{len(made)}", properties=named)
        made.append(broker)
        broker.start()
        return broker

    try:
        yield make
    finally:
        for broker in made:
            broker.kill()
