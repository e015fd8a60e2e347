"""The embedded broker's front: a fetch that finds nothing waits for what comes, everything else passes through."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiokafka.protocol import fetch, produce

from streams.brokers.relay import Relay, listen
from tests.waiting import wait_until

LONG_MS = 60_000
"""Longer than any test waits."""
FETCH_VERSIONS = range(12)
HEADER = struct.Struct(">hhih")
PRODUCE, FETCH, METADATA = 0, 1, 3


def request(kind: int, version: int, number: int, body: bytes, client: bytes = b"me") -> bytes:
    frame = HEADER.pack(kind, version, number, len(client)) + client + body
    return struct.pack(">i", len(frame)) + frame


def fetch_request(number: int, wait_ms: int, *topics: str, version: int = 11) -> bytes:
    """A fetch of partition 0 of each topic."""
    per_partition = {"partition": 0, "current_leader_epoch": -1, "offset": 0, "fetch_offset": 0}
    per_partition |= {"log_start_offset": -1, "max_bytes": 1000}
    schema = getattr(fetch, f"FetchRequest_v{version}").SCHEMA
    values: dict[str, Any] = {
        "replica_id": -1,
        "max_wait_time": wait_ms,
        "min_bytes": 1,
        "max_bytes": 1000,
        "isolation_level": 0,
    }
    values |= {"session_id": 0, "session_epoch": -1, "forgotten_topics_data": [], "rack_id": ""}
    partitions = schema.fields[schema.names.index("topics")].array_of.fields[1].array_of.names
    one = tuple(per_partition[name] for name in partitions)
    body = schema.encode([values.get(name, [(topic, [one]) for topic in topics]) for name in schema.names])
    return request(FETCH, version, number, body)


def fetched(number: int, *topics: str, version: int = 11, error: int = 0, held: bytes | None = None) -> bytes:
    """The answer to such a fetch: nothing, or what is given, in its last partition."""
    schema = getattr(fetch, f"FetchResponse_v{version}").SCHEMA
    names = schema.fields[schema.names.index("topics")].array_of.fields[1].array_of.names
    nothing = {"error_code": 0, "aborted_transactions": None, "message_set": b""}
    something = nothing | {"error_code": error, "message_set": held}
    rows = [tuple((something if topic == topics[-1] else nothing).get(name, 0) for name in names) for topic in topics]
    found = [(topic, [row]) for topic, row in zip(topics, rows, strict=True)]
    body = schema.encode([found if name == "topics" else 0 for name in schema.names])
    return answer(number, body)


def answer(number: int, body: bytes = b"") -> bytes:
    return struct.pack(">ii", 4 + len(body), number) + body


def produce_request(number: int, *topics: str) -> bytes:
    body = produce.ProduceRequest_v8.SCHEMA.encode([None, -1, 1000, [(topic, [(0, b"batch")]) for topic in topics]])
    return request(PRODUCE, 8, number, body)


async def frame(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(20):
        head = await reader.readexactly(4)
        return head + await reader.readexactly(int.from_bytes(head))


class Wire:
    """One side of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, sent: bytes) -> None:
        self.writer.write(sent)

    async def read(self) -> bytes:
        return await frame(self.reader)


class Broker:
    """Stands in for the one behind the relay: the test reads requests there, and answers them."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[Wire] = asyncio.Queue()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.waiting.put_nowait(Wire(reader, writer))


Connect = Callable[[], Any]


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes a connection through a relay: the client's side and the broker's."""
    broker = Broker()
    server = await asyncio.start_server(broker.connected, "127.0.0.1", 0)
    listening = listen(0)
    address = listening.getsockname()
    relay = Relay(listening, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    wires: list[Wire] = []

    async def made() -> tuple[Wire, Wire]:
        client = Wire(*await asyncio.open_connection(*address))
        async with asyncio.timeout(20):
            wires.extend((client, await broker.waiting.get()))
        return client, wires[-1]

    yield made
    await asyncio.to_thread(relay.stop)
    for wire in wires:
        wire.writer.close()
    server.close()


async def test_requests_and_answers_pass_as_they_are(connect: Connect) -> None:
    """Byte for byte, several at once, small and large, whatever they are."""
    client, broker = await connect()
    frames = [request(METADATA, 9, number, b"x" * size) for number, size in enumerate((0, 5, 3_000_000))]

    for each in frames:
        client.send(each)
    assert [await broker.read() for _ in frames] == frames
    for number, each in enumerate(frames):
        broker.send(answer(number, each))
    assert [await client.read() for _ in frames] == [answer(number, each) for number, each in enumerate(frames)]

    client.send(short := b"\0\0\0\1x")
    assert await broker.read() == short


@pytest.mark.parametrize("version", FETCH_VERSIONS)
async def test_an_empty_fetch_is_asked_again_when_something_is_written(connect: Connect, version: int) -> None:
    """It goes on with no time to wait, and waits at the front until one of its topics is written to."""
    client, broker = await connect()
    writer, writer_broker = await connect()
    client.send(fetch_request(7, LONG_MS, "a", "b", version=version))
    at_once = fetch_request(7, 0, "a", "b", version=version)
    assert await broker.read() == at_once
    broker.send(fetched(7, "a", "b", version=version))

    writer.send(produce_request(1, "b"))
    assert await writer_broker.read() == produce_request(1, "b")
    writer_broker.send(answer(1))
    assert await writer.read() == answer(1)
    assert await broker.read() == at_once
    found = fetched(7, "a", "b", version=version, held=b"batch")
    broker.send(found)

    assert await client.read() == found


async def test_a_write_before_the_empty_answer_counts(connect: Connect) -> None:
    """What was written while the fetch was on its way may not be in its answer: it is asked again at once."""
    client, broker = await connect()
    writer, writer_broker = await connect()
    client.send(fetch_request(7, LONG_MS, "a"))
    await broker.read()
    writer.send(produce_request(1, "a"))
    await writer_broker.read()
    writer_broker.send(answer(1))
    await writer.read()

    broker.send(fetched(7, "a"))

    assert await broker.read() == fetch_request(7, 0, "a")


async def test_writes_to_other_topics_wake_nobody(connect: Connect) -> None:
    """They pass, and the fetch goes on waiting."""
    client, broker = await connect()
    writer, writer_broker = await connect()
    client.send(fetch_request(7, LONG_MS, "a"))
    await broker.read()
    broker.send(fetched(7, "a"))

    for number in range(5):
        writer.send(produce_request(number, "b", "c"))
        await writer_broker.read()
        writer_broker.send(answer(number))
        await writer.read()

    client.send(behind := request(METADATA, 5, 8, b""))
    assert await broker.read() == behind, "the fetch was not asked again before"


async def test_a_write_that_cannot_be_read_wakes_everybody(connect: Connect) -> None:
    """Of a version that is not known here it is not known where it wrote."""
    client, broker = await connect()
    writer, writer_broker = await connect()
    client.send(fetch_request(7, LONG_MS, "a"))
    await broker.read()
    broker.send(fetched(7, "a"))

    writer.send(unknown := request(PRODUCE, 99, 1, b"whatever"))
    assert await writer_broker.read() == unknown
    writer_broker.send(answer(1))

    assert await broker.read() == fetch_request(7, 0, "a")


async def test_a_fetch_whose_time_is_over_is_answered_with_nothing(connect: Connect) -> None:
    """As soon as that, and not before."""
    client, broker = await connect()
    loop = asyncio.get_running_loop()
    for wait_ms in (0, 150):
        started = loop.time()
        client.send(fetch_request(wait_ms, wait_ms, "a"))
        await broker.read()
        broker.send(fetched(wait_ms, "a"))
        assert await client.read() == fetched(wait_ms, "a")
        assert loop.time() - started >= wait_ms / 1000


@pytest.mark.parametrize(
    "told",
    [
        fetched(7, "a", "b", held=b"batch"),
        fetched(7, "a", "b", error=1),
        answer(7, struct.pack(">ihii", 0, 71, 0, 0)),
        fetched(7, "a", "b", held=b"x" * 100_000),
    ],
    ids=["a message", "an error of a partition", "an error of the whole", "much"],
)
async def test_what_a_fetch_found_is_told_at_once(connect: Connect, told: bytes) -> None:
    """A message, or an error: nothing to wait for."""
    client, broker = await connect()
    client.send(fetch_request(7, LONG_MS, "a", "b"))
    await broker.read()

    broker.send(told)

    assert await client.read() == told


async def test_a_fetch_does_not_keep_what_is_asked_behind_it_waiting(connect: Connect) -> None:
    """Answers come in the order of the requests, so the fetch is answered, too, with nothing."""
    client, broker = await connect()
    client.send(fetch_request(7, LONG_MS, "a"))
    await broker.read()
    broker.send(fetched(7, "a"))

    client.send(behind := request(METADATA, 5, 8, b""))
    assert await broker.read() == behind
    assert await client.read() == fetched(7, "a")
    broker.send(answer(8))
    assert await client.read() == answer(8)

    for each in (fetch_request(9, LONG_MS, "a"), behind):  # both before the first is answered
        client.send(each)
        await broker.read()
    broker.send(fetched(9, "a"))
    assert await client.read() == fetched(9, "a")


async def test_a_fetch_of_an_unknown_version_passes_as_it_is(connect: Connect) -> None:
    """The broker itself lets it wait."""
    client, broker = await connect()
    client.send(unknown := request(FETCH, 99, 7, b"whatever"))

    assert await broker.read() == unknown
    broker.send(answer(7, b"nothing"))
    assert await client.read() == answer(7, b"nothing")


@pytest.mark.parametrize("side", ["client", "broker"])
async def test_both_sides_end_together(connect: Connect, side: str) -> None:
    """Also while a fetch is kept; a client that sends what is no request is parted with."""
    for kept, number in itertools.product((False, True), (1, 2)):
        client, broker = await connect()
        if kept:
            client.send(fetch_request(number, 300, "a"))
            await broker.read()
            broker.send(fetched(number, "a"))
        one, other = (client, broker) if side == "client" else (broker, client)
        if number == 1:
            one.writer.close()
        else:
            one.send(struct.pack(">i", -5))

        async def ended(other: Wire = other) -> bool:
            return await other.reader.read(1 << 20) == b""

        await wait_until(ended)
