"""The front of the embedded broker: passes requests and responses on, and lets a fetch wait for what comes.

librdkafka's mock cluster answers a fetch that finds nothing when the time is over that it may wait, and no sooner:
either events are late, or consumers ask again and again.  Here such a fetch waits as it does at Kafka:

1. Each request goes on as soon as it comes; a fetch with no time to wait, so that it is answered at once.
2. An answer that has something goes back.  An empty one is kept, and the fetch asked again when something was written
   to one of its topics, as long as its time is not over.
3. What was written is told by the answers to produce requests; those come when it is there to be read.

Answers of a connection come in the order of its requests, so a fetch is not kept once another request has followed.
Requests of versions that aiokafka does not know are passed on as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import struct
import threading
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka.protocol import fetch, produce

from models.errors import Unavailable

_STREAM_BYTES = 1 << 20
_EMPTY_BYTES_MAX = 1 << 16
"""An answer to a fetch that is larger has something in it, whatever its partitions are."""
_HEADER = struct.Struct(">hhih")
"""Of a request: what is asked, in which version, its number, and how long the client's name is that follows."""
_PRODUCE, _FETCH = 0, 1
_WAIT = struct.Struct(">i")
_REPLICA_BYTES = 4
"""Of a fetch, before the time that it may wait."""


def _versions(module: Any, kind: str) -> Mapping[int, Any]:
    return {
        getattr(module, name).API_VERSION: getattr(module, name).SCHEMA
        for name in dir(module)
        if name.startswith(kind + "_v")
    }


_FETCHES, _FETCHED = _versions(fetch, "FetchRequest"), _versions(fetch, "FetchResponse")
_PRODUCES = _versions(produce, "ProduceRequest")


class Relay:
    """Stands between the clients of a socket and `target` (`host:port`), in a thread of its own.

    That lets the signals through that its maker does.
    """

    def __init__(self, listening: socket.socket, target: str) -> None:
        self._host, _, port = target.partition(":")
        self._target_port = int(port)
        self._listening = listening
        self._writes = _Writes()
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="embedded-broker-relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close all connections and the socket."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listening, limit=_STREAM_BYTES)
        await self._stopping.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            far = await asyncio.open_connection(self._host, self._target_port, limit=_STREAM_BYTES)
            try:
                await _Connection(reader, writer, *far, self._writes).pass_on()
            finally:
                far[1].close()
        except OSError:
            pass  # the broker is away: the client sees its connection closed, as it would from the broker itself
        finally:
            writer.close()
            self._connections.discard(task)


class _Fetch:
    """A fetch that was asked of the broker."""

    def __init__(self, frame: bytearray, version: int, body: int, until: float) -> None:
        self.frame = frame
        self.version = version
        self.until = until
        """Of the loop's clock, when its time is over."""
        self.seen = 0
        """How much had been written when it was last asked."""
        self._body = body

    def topics(self) -> Collection[str]:
        """Where it wants something from."""
        return [topic for topic, *_ in _part(_FETCHES[self.version], self.frame, self._body, "topics")]

    def is_empty(self, answer: bytearray) -> bool:
        """Whether an answer has neither a message nor an error."""
        if len(answer) > _EMPTY_BYTES_MAX:
            return False
        decoded = _decoded(_FETCHED[self.version], answer, 8)
        partitions = [each for _, partitions in decoded["topics"] for each in partitions]
        return not decoded.get("error_code") and not any(error or held for _, error, *_, held in partitions)


class _Connection:
    """A client's connection and the one to the broker that stands for it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
        writes: _Writes,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._far_reader, self._far_writer = far_reader, far_writer
        self._writes = writes
        self._fetches: dict[int, _Fetch] = {}
        """Not answered yet, by number."""
        self._produces: dict[int, Collection[str] | None] = {}
        """Not answered yet, by number: their topics, None where that cannot be told."""
        self._newest: _Fetch | None = None
        """The last request, if it is a fetch."""
        self._kept: asyncio.Future[bool] | None = None
        """Done when the fetch that is kept need not wait on: True if something was written."""

    async def pass_on(self) -> None:
        """Until one side closes its connection."""
        pumps = [asyncio.create_task(self._ask()), asyncio.create_task(self._answer())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _ask(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(self._reader)
                self._newest = None
                if len(frame) >= 4 + _HEADER.size:
                    self._note(frame)
                if self._kept and not self._kept.done():
                    self._kept.set_result(False)
                self._far_writer.write(frame)
                await self._far_writer.drain()

    def _note(self, frame: bytearray) -> None:
        kind, version, number, name_bytes = _HEADER.unpack_from(frame, 4)
        body = 4 + _HEADER.size + max(0, name_bytes)
        if kind == _FETCH and version in _FETCHES:
            wait_ms = _WAIT.unpack_from(frame, body + _REPLICA_BYTES)[0]
            _WAIT.pack_into(frame, body + _REPLICA_BYTES, 0)
            asked = _Fetch(frame, version, body, asyncio.get_running_loop().time() + wait_ms / 1000)
            asked.seen = self._writes.count
            self._newest = self._fetches[number] = asked
        elif kind == _PRODUCE:
            known = _PRODUCES.get(version)
            self._produces[number] = known and [topic for topic, _ in _part(known, frame, body, "topics")]

    async def _answer(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(self._far_reader)
                number = _WAIT.unpack_from(frame, 4)[0]
                if number in self._produces:
                    self._writes.note(self._produces.pop(number))
                elif (asked := self._fetches.get(number)) and asked.is_empty(frame) and await self._keep(asked):
                    asked.seen = self._writes.count
                    self._far_writer.write(asked.frame)
                    await self._far_writer.drain()
                    continue
                self._fetches.pop(number, None)
                self._writer.write(frame)
                await self._writer.drain()

    async def _keep(self, asked: _Fetch) -> bool:
        """Keep a fetch that found nothing; whether it is to be asked again, else its time is over."""
        left_s = asked.until - asyncio.get_running_loop().time()
        if self._newest is not asked or left_s <= 0:
            return False
        self._kept = self._writes.after(asked.seen, asked.topics())
        try:
            await asyncio.wait([self._kept], timeout=left_s)
            return self._kept.done() and self._kept.result() and self._newest is asked
        finally:
            self._kept.cancel()
            self._kept = None


class _Writes:
    """What has been written, and who waits for it."""

    def __init__(self) -> None:
        self.count = 0
        """How often something was written."""
        self._last: dict[str, int] = {}
        """The number of the last time, by topic."""
        self._somewhere = 0
        """The number of the last time that it could not be told where."""
        self._waiting: dict[asyncio.Future[bool], Collection[str]] = {}

    def note(self, topics: Collection[str] | None) -> None:
        """Something was written to these topics; None: who knows."""
        self.count += 1
        if topics is None:
            self._somewhere = self.count
        else:
            self._last.update(dict.fromkeys(topics, self.count))
        for future, wanted in list(self._waiting.items()):
            if not future.done() and (topics is None or not set(topics).isdisjoint(wanted)):
                future.set_result(True)

    def after(self, seen: int, topics: Collection[str]) -> asyncio.Future[bool]:
        """Done with True when something is written to one of these topics, or already was after `seen` times."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if max([self._somewhere, *(self._last.get(topic, 0) for topic in topics)]) > seen:
            future.set_result(True)
        else:
            self._waiting[future] = topics
            future.add_done_callback(self._waiting.pop)
        return future


async def _frame(reader: asyncio.StreamReader) -> bytearray:
    """A request or an answer with its length before it."""
    head = await reader.readexactly(4)
    frame = bytearray(head)
    frame += await reader.readexactly(_WAIT.unpack(head)[0])
    return frame


def _decoded(schema: Any, frame: bytearray, begin: int) -> dict[str, Any]:
    return dict(zip(schema.names, schema.decode(io.BytesIO(memoryview(frame)[begin:])), strict=True))


def _part(schema: Any, frame: bytearray, begin: int, name: str) -> Any:
    return _decoded(schema, frame, begin)[name]


def listen(port: int) -> socket.socket:
    """A socket on 127.0.0.1, at a free port if it is 0.  Raises Unavailable when the port is taken."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        raise Unavailable(f"port {port} of 127.0.0.1 cannot be listened on: {error.strerror}") from error
