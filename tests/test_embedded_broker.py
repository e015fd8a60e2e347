"""The embedded broker: what works on it, and the limits that it says it has."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from models.errors import Unavailable
from streams.brokers.embedded import CONSUMER_SETTINGS, LIMITS, PARTITION_BYTES_MAX, EmbeddedBroker
from tests.waiting import wait_until


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def produce(bootstrap: str, topic: str, values: list[tuple[bytes, bytes | None]], partition: int = 0) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for key, value in values:
            await producer.send_and_wait(topic, value, key=key, partition=partition, headers=[("h", b"\x00\xff")])


def consumer(bootstrap: str, *topics: str, group: str | None = None) -> AIOKafkaConsumer:
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "retry_backoff_ms": 50}
    return AIOKafkaConsumer(*topics, bootstrap_servers=bootstrap, group_id=group, **settings, **CONSUMER_SETTINGS)


async def test_partitions_are_as_asked(embedded: EmbeddedBroker) -> None:
    """A topic has exactly the partitions it was made with, at start or later."""
    bootstrap = embedded.start({"three": 3})
    embedded.create_topics({"seven": 7})

    async with consumer(bootstrap, "three", "seven") as reader:
        assert {0, 1, 2} == reader.partitions_for_topic("three")
        assert set(range(7)) == reader.partitions_for_topic("seven")


async def test_what_is_written_is_read(embedded: EmbeddedBroker) -> None:
    """Key, value, header and tombstone come back as the bytes that were sent, from the partition they were sent to."""
    bootstrap = embedded.start({"t": 2})
    await produce(bootstrap, "t", [(b"a", b"1"), (b"b", None)], partition=1)

    async with consumer(bootstrap, "t") as reader:
        records = [await reader.getone() for _ in range(2)]
    assert [(b"a", b"1", 1), (b"b", None, 1)] == [(each.key, each.value, each.partition) for each in records]
    assert (("h", b"\x00\xff"),) == records[0].headers


async def test_a_fetch_that_waits_is_answered_when_something_is_written(embedded: EmbeddedBroker) -> None:
    """However long it may wait; a consumer need not ask again and again."""
    bootstrap = embedded.start({"t": 2, "other": 1})
    settings = {"fetch_max_wait_ms": 600_000, "request_timeout_ms": 700_000, "auto_offset_reset": "earliest"}

    async with AIOKafkaConsumer("t", "other", bootstrap_servers=bootstrap, **settings) as reader:
        for value in (b"1", b"2", b"3"):
            following = asyncio.ensure_future(reader.getone())
            await produce(bootstrap, "t", [(b"k", value)], partition=1)
            async with asyncio.timeout(30):
                assert value == (await following).value


async def test_a_group_goes_on_where_it_committed(embedded: EmbeddedBroker) -> None:
    """A member that comes after another one has left reads on from the committed offset."""
    bootstrap = embedded.start({"t": 1})
    await produce(bootstrap, "t", [(b"k", str(n).encode()) for n in range(4)])

    async with consumer(bootstrap, "t", group="g") as first:
        assert b"0" == (await first.getone()).value
        await first.commit({TopicPartition("t", 0): 2})
    async with consumer(bootstrap, "t", group="g") as second:
        assert b"2" == (await second.getone()).value


async def test_a_chosen_port_is_the_one_that_clients_use(free_port: int) -> None:
    """With a port of its own, the broker tells clients that port, for its partitions and for its groups."""
    with EmbeddedBroker(free_port) as relayed:
        bootstrap = relayed.start({"t": 1})
        assert f"127.0.0.1:{free_port}" == bootstrap

        await produce(bootstrap, "t", [(b"k", b"v" * 300_000)])
        async with consumer(bootstrap, "t", group="g") as reader:
            assert b"v" * 300_000 == (await reader.getone()).value
            assert {free_port} == {broker.port for broker in reader._client.cluster.brokers()}
            assert free_port == reader._client.cluster.broker_metadata(reader._coordinator.coordinator_id).port

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", free_port))  # stopping has given it back


def test_a_taken_port_is_refused_with_its_number(free_port: int) -> None:
    """A port that somebody listens on is Unavailable, and nothing keeps running."""
    with socket.create_server(("127.0.0.1", free_port)):
        broker = EmbeddedBroker(free_port)

        with pytest.raises(Unavailable, match=f"port {free_port} of 127.0.0.1"):
            broker.start({})
    assert "" == broker.bootstrap


async def test_a_stop_forgets_everything(embedded: EmbeddedBroker) -> None:
    """After a stop it can start anew, empty."""
    bootstrap = embedded.start({"t": 1})
    await produce(bootstrap, "t", [(b"k", b"v")])
    embedded.stop()
    embedded.stop()

    bootstrap = embedded.start({"t": 1})
    async with consumer(bootstrap, "t") as reader:
        assert 0 == (await reader.end_offsets([TopicPartition("t", 0)]))[TopicPartition("t", 0)]


async def test_an_interruption_is_survived(embedded: EmbeddedBroker) -> None:
    """A broker that was away is found again at the same address, with what it had."""
    bootstrap = embedded.start({"t": 1})
    await produce(bootstrap, "t", [(b"k", b"before")])
    host, _, port = bootstrap.partition(":")

    async with consumer(bootstrap, "t") as reader:
        assert b"before" == (await reader.getone()).value
        embedded.interrupt()
        with pytest.raises(OSError):  # refused, or closed at once
            connection = await asyncio.open_connection(host, int(port))
            if not await connection[0].read(1):
                raise ConnectionResetError
        embedded.resume()
        await produce(bootstrap, "t", [(b"k", b"after")])
        assert b"after" == (await wait_until(reader.getone)).value


async def test_a_partition_drops_its_oldest_beyond_the_limit(embedded: EmbeddedBroker) -> None:
    """More than PARTITION_BYTES_MAX in one partition: the begin offset moves, as LIMITS says."""
    bootstrap = embedded.start({"t": 1})
    part = PARTITION_BYTES_MAX // 8
    partition = TopicPartition("t", 0)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=2 * part) as producer:
        for _ in range(10):
            await producer.send_and_wait("t", b"x" * part, partition=0)

    async with consumer(bootstrap, "t") as reader:
        begin, end = await reader.beginning_offsets([partition]), await reader.end_offsets([partition])
    assert 10 == end[partition]
    assert 0 < begin[partition] <= 4


@pytest.mark.parametrize(
    ("topics", "reason"),
    [({"t": 0}, "at least one partition"), ({"": 1}, "1 to 249 bytes"), ({"x" * 250: 1}, "1 to 249 bytes")],
)
def test_what_cannot_be_a_topic_is_refused(embedded: EmbeddedBroker, topics: dict[str, int], reason: str) -> None:
    """A bad name or number is an error that says what was expected, and the broker does not stay half started."""
    with pytest.raises(ValueError, match=reason):
        embedded.start(topics)
    assert "" == embedded.bootstrap


def test_the_number_of_partitions_is_fixed(embedded: EmbeddedBroker) -> None:
    """A topic that is there is left alone with the same number and refused with another."""
    embedded.start({"t": 2})
    embedded.create_topics({"t": 2})

    with pytest.raises(ValueError, match="topic t has 2 partitions, asked for 3"):
        embedded.create_topics({"t": 3})


def test_it_says_what_it_is(embedded: EmbeddedBroker, caplog: pytest.LogCaptureFixture) -> None:
    """Starting one logs its address and its limits."""
    with caplog.at_level(logging.WARNING):
        bootstrap = embedded.start({})

    assert f"{bootstrap}: {LIMITS}" in caplog.messages
    assert "5 MiB" in LIMITS


def test_it_is_reachable_from_this_host_only(embedded: EmbeddedBroker, free_port: int) -> None:
    """Its sockets are bound to loopback, the relay's too."""
    with EmbeddedBroker(free_port) as relayed:
        ports = [int(each.start({}).rpartition(":")[2]) for each in (embedded, relayed)]
        for port in ports:
            with socket.socket() as other:
                other.bind(("127.0.0.2", port))  # would be refused beside a socket bound to every address


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads the masks of threads from Linux' /proc")
def test_signals_do_not_reach_it(embedded: EmbeddedBroker) -> None:
    """Its threads let no signal through: one that interrupts their poll would end the broker for good."""

    def masks() -> dict[str, int]:
        found = {}
        for task in Path("/proc/self/task").iterdir():
            (blocked,) = [line for line in (task / "status").read_text().splitlines() if line.startswith("SigBlk:")]
            found[task.name] = int(blocked.split()[1], 16)
        return found

    before = masks()
    embedded.start({"t": 1})
    started = {name: mask for name, mask in masks().items() if name not in before}

    assert started
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGCHLD):
        assert all(mask >> (number - 1) & 1 for mask in started.values()), signal.Signals(number).name
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
