"""Changes onto a topic, fast and in order: what `kindred publish` and the demo send with."""

from __future__ import annotations

import asyncio
import io
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import IO

from models.errors import BadEvent
from streams.connection import Connection
from streams.kafka.log_reader import partitions_of
from streams.kafka.outbox import Message, Outbox
from streams.publishing.change_files import Change
from streams.topics import partition_of

ROUND_CHANGES_MAX = 4_000
ROUND_BYTES_MAX = 4_000_000
READ_BYTES = 1 << 18
LINE_BYTES_MAX = 16_000_000
"""Of a pipe: more than any topic takes, and what is kept in memory while its end is waited for."""

Read = Callable[[Iterable[bytes], str, int], Iterator[Change]]
"""Lines, the name of their file and the number of the first, into changes."""


async def publish(
    connection: Connection,
    topic: str,
    rounds: AsyncIterable[Sequence[Change]],
    told: Callable[[int], None] = lambda count: None,
) -> int:
    """Publish all changes, each at its key's home partition; their number, once the broker has acknowledged all.

    `told` hears the size of every round that was acknowledged.  Raises Unavailable when the topic does not exist; an
    error of `rounds` passes, after what came before it has been published.
    """
    partitions = len(await partitions_of(connection, topic))
    producer = await connection.started(connection.producer, "publish")
    outbox, count = Outbox(producer), 0
    try:
        async for changes in rounds:
            for change in changes:
                message = Message(change.key, change.value, change.headers)
                outbox.put(topic, partition_of(change.key, partitions), message)
            await outbox.deliver()
            count += len(changes)
            told(len(changes))
    finally:
        await producer.stop()
    return count


async def rounds_of(changes: Iterable[Change]) -> AsyncIterator[Sequence[Change]]:
    """The changes in rounds of a good size.  What comes before an error of `changes` is a round of its own."""
    taken: list[Change] = []
    size = 0
    try:
        for change in changes:
            taken.append(change)
            size += len(change.key) + len(change.value or b"")
            if len(taken) >= ROUND_CHANGES_MAX or size >= ROUND_BYTES_MAX:
                yield taken
                taken, size = [], 0
    except Exception:
        if taken:
            yield taken
        raise
    if taken:
        yield taken


async def rounds_of_stream(stream: IO[bytes], name: str, read: Read) -> AsyncIterator[Sequence[Change]]:
    """The changes of an open file as they come: a line of a pipe is not kept waiting for those after it.

    Raises BadEvent for a pipe's line without an end.
    """
    if not _is_pipe(stream):
        async for changes in rounds_of(read(stream, name, 1)):
            yield changes
        return
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
    try:
        rest, number = b"", 1
        while data := await reader.read(READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            async for changes in rounds_of(read(lines, name, number)):
                yield changes
            number += len(lines)
            if len(rest) > LINE_BYTES_MAX:
                raise BadEvent(f"{name}:{number}: expected the line's end within {LINE_BYTES_MAX:,} bytes")
        async for changes in rounds_of(read([rest], name, number)):
            yield changes
    finally:
        transport.close()


def _is_pipe(stream: IO[bytes]) -> bool:
    """Whether to read without blocking.  Not a terminal: that would be made non-blocking for what is written, too."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (io.UnsupportedOperation, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
