"""A broker with nothing to install: librdkafka's mock cluster, found in the confluent-kafka wheel, in this process.

Any Kafka client on this host can use it, from any process.  What it is not (`LIMITS` says it to whoever starts one):

* It keeps everything in memory, 5 MiB and 100,000 batches a partition, and drops the oldest beyond, live keys too.
* It does not compact, and forgets all when it stops.
* A group has one member; one that leaves or joins is waited for until its session is over, hence `CONSUMER_SETTINGS`.
* A fetch that waits is not woken by new data; `relay.py`, which all clients come through, sees to that.
* CreateTopics is not understood: topics are made here, by `start` and `create_topics`.

For a real one see `apache_kafka.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import confluent_kafka

from models.errors import Unavailable
from streams.brokers.relay import Relay, listen

log = logging.getLogger(__name__)

PARTITION_BYTES_MAX = 5 * 1024 * 1024
LIMITS = (
    "embedded broker, for trying out: in memory and on this host only, 5 MiB a partition, no compaction, "
    "one member a group; it forgets everything when it stops"
)
CONSUMER_SETTINGS: Mapping[str, int] = {"session_timeout_ms": 4_000, "heartbeat_interval_ms": 1_000}
"""What an aiokafka consumer of this broker is to be made with."""

_PRODUCER = 0
_BROKER_ID = 1
_TOPIC_ALREADY_EXISTS = 36
_LOG_CRITICAL = b"2"  # it logs every request that it does not understand as an error, and clients do probe
_NAME_BYTES_MAX = 249


class EmbeddedBroker:
    """The mock cluster's life: one broker on 127.0.0.1, at a free port or at `port`.

    librdkafka takes a port of its own.  At the one that clients are told a relay listens, which costs a request some
    tenths of a millisecond.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._library = _library()
        self._handle: int | None = None
        self._cluster: int | None = None
        self._relay: Relay | None = None
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
        listening = listen(self._port)
        try:
            self._start_cluster()
        except BaseException:
            listening.close()
            raise
        host, port = listening.getsockname()
        with _signals_blocked():
            self._relay = Relay(listening, self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())
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
        with _signals_blocked():  # its thread gives up at a poll that a signal has interrupted
            self._cluster = lib.rd_kafka_mock_cluster_new(self._handle, 1)
        if not self._cluster:
            self.stop()
            raise Unavailable("the embedded broker does not start: librdkafka could not listen on 127.0.0.1")
        lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Threads that are started meanwhile inherit a mask that lets no signal through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
