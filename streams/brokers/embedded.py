"""A broker with nothing to install: librdkafka's mock cluster, found in the confluent-kafka wheel, in this process.

Any Kafka client on this host can use it, from any process.  What it is not (`LIMITS` says it to whoever starts one):

* It keeps everything in memory, 5 MiB and 100,000 batches a partition, and drops the oldest beyond, live keys too.
* It does not compact, and forgets all when it stops.
* A group has one member; one that leaves or joins is waited for until its session is over, hence `CONSUMER_SETTINGS`.
* A fetch that waits is not woken by new data, so consumers must not wait for long: `CONSUMER_SETTINGS` again.
* CreateTopics is not understood: topics are made here, by `start` and `create_topics`.

For a real one see `apache_kafka.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import signal
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import confluent_kafka

from models.errors import Unavailable

log = logging.getLogger(__name__)

PARTITION_BYTES_MAX = 5 * 1024 * 1024
LIMITS = (
    "embedded broker, for trying out: in memory and on this host only, 5 MiB a partition, no compaction, "
    "one member a group; it forgets everything when it stops"
)
CONSUMER_SETTINGS: Mapping[str, int] = {
    "fetch_max_wait_ms": 10,
    "session_timeout_ms": 4_000,
    "heartbeat_interval_ms": 1_000,
}
"""What an aiokafka consumer of this broker is to be made with."""

_PRODUCER = 0
_BROKER_ID = 1
_TOPIC_ALREADY_EXISTS = 36
_LOG_CRITICAL = b"2"  # it logs every request that it does not understand as an error, and clients do probe
_NAME_BYTES_MAX = 249


class EmbeddedBroker:
    """The mock cluster's life: one broker on 127.0.0.1, at a free port or at `port`.

    librdkafka always takes a free port.  With `port` a relay listens there, passes bytes through, and is what the
    broker tells its clients as its address; it costs a request some tenths of a millisecond.
    """

    def __init__(self, port: int | None = None) -> None:
        self._port = port
        self._library = _library()
        self._handle: int | None = None
        self._cluster: int | None = None
        self._relay: _Relay | None = None
        self._bootstrap = ""
        self._topics: dict[str, int] = {}

    def __enter__(self) -> EmbeddedBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients; empty while it does not run."""
        return self._bootstrap

    def start(self, topics: Mapping[str, int]) -> str:
        """Start with these topics (name → partitions); its bootstrap address, ready to be connected to.

        Raises Unavailable when the port is taken, ValueError for a topic that cannot be.
        """
        assert self._cluster is None, "the embedded broker is running already"
        relay_socket = None if self._port is None else _listen(self._port)
        try:
            self._start_cluster()
        except BaseException:
            if relay_socket is not None:
                relay_socket.close()
            raise
        own = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self._bootstrap = own
        if relay_socket is not None:
            host, port = relay_socket.getsockname()
            self._relay = _Relay(relay_socket, own)
            self._library.rd_kafka_mock_broker_set_host_port(self._cluster, _BROKER_ID, host.encode(), port)
            self._bootstrap = f"{host}:{port}"
        try:
            self.create_topics(topics)
        except BaseException:
            self.stop()
            raise
        log.warning("%s: %s", self._bootstrap, LIMITS)
        return self._bootstrap

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Make topics (name → partitions); one that is there with as many partitions is left alone.

        Raises ValueError for what Kafka would refuse: a bad name or number, another number than the topic has.
        """
        assert self._cluster is not None, "the embedded broker is not running"
        for name, partitions in topics.items():
            if self._topics.get(name) == partitions:
                continue
            if not 0 < len(name.encode()) <= _NAME_BYTES_MAX or partitions < 1:
                expected = f"a name of 1 to {_NAME_BYTES_MAX} bytes and at least one partition"
                raise ValueError(f"expected {expected}, got {name!r} with {partitions}")
            if name in self._topics:
                raise ValueError(f"topic {name} has {self._topics[name]} partitions, asked for {partitions}")
            error = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
            if error == _TOPIC_ALREADY_EXISTS:
                raise ValueError(f"topic {name} exists: a client that asked for it has made it, with 4 partitions")
            if error:
                raise ValueError(f"topic {name} could not be made: librdkafka says {error}")
            self._topics[name] = partitions

    def interrupt(self) -> None:
        """Be away: close every connection and accept none until `resume`; nothing that was written is lost."""
        assert self._cluster is not None, "the embedded broker is not running"
        self._library.rd_kafka_mock_broker_set_down(self._cluster, _BROKER_ID)

    def resume(self) -> None:
        """Be there again, at the same address."""
        assert self._cluster is not None, "the embedded broker is not running"
        self._library.rd_kafka_mock_broker_set_up(self._cluster, _BROKER_ID)

    def stop(self) -> None:
        """Stop and forget everything.  Does nothing when it does not run."""
        if self._relay is not None:
            self._relay.stop()
            self._relay = None
        if self._cluster is not None:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._cluster = None
        if self._handle is not None:
            self._library.rd_kafka_destroy(self._handle)
            self._handle = None
        self._topics.clear()
        self._bootstrap = ""

    def _start_cluster(self) -> None:
        """A client handle, which librdkafka wants as the owner of a mock cluster, and the cluster of one broker."""
        lib, reason = self._library, ctypes.create_string_buffer(512)
        settings = lib.rd_kafka_conf_new()
        lib.rd_kafka_conf_set(settings, b"log_level", _LOG_CRITICAL, reason, len(reason))
        self._handle = lib.rd_kafka_new(_PRODUCER, settings, reason, len(reason))
        if not self._handle:
            raise Unavailable(f"the embedded broker does not start: {reason.value.decode()}")
        # Its thread gives up at a poll that a signal has interrupted; it inherits a mask that lets none through.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._cluster = lib.rd_kafka_mock_cluster_new(self._handle, 1)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if not self._cluster:
            self.stop()
            raise Unavailable("the embedded broker does not start: librdkafka could not listen on 127.0.0.1")
        lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)


class _Relay:
    """Passes bytes between those who connect to a socket and `target` (`host:port`), in a thread of its own."""

    def __init__(self, listening: socket.socket, target: str) -> None:
        self._host, _, port = target.partition(":")
        self._target_port = int(port)
        self._listening = listening
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="embedded-broker-relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listening)
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
            far_reader, far_writer = await asyncio.open_connection(self._host, self._target_port)
            try:
                pumps = [
                    asyncio.create_task(_pump(reader, far_writer)),
                    asyncio.create_task(_pump(far_reader, writer)),
                ]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
            finally:
                far_writer.close()
        except OSError:
            pass  # the broker is away: the client sees its connection closed, as it would from the broker itself
        finally:
            writer.close()
            self._connections.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(1 << 18):
            writer.write(part)
            await writer.drain()


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        raise Unavailable(f"port {port} of 127.0.0.1 cannot be listened on: {error.strerror}") from error


def _library() -> Any:
    """librdkafka as confluent-kafka loaded it, with the signatures of what is called here."""
    package = Path(confluent_kafka.__file__).parent
    linux, darwin = package.parent / "confluent_kafka.libs", package / ".dylibs"
    found = [*linux.glob("librdkafka*.so*"), *darwin.glob("librdkafka*")]
    if not found:
        raise Unavailable(f"the embedded broker needs the confluent-kafka wheel with its librdkafka: not in {linux}")
    lib = ctypes.CDLL(str(found[0]))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_broker_set_host_port": (None, [pointer, ctypes.c_int32, text, number]),
        "rd_kafka_mock_broker_set_down": (number, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_broker_set_up": (number, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
