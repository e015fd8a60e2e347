"""How clients of ours reach the broker: one place that makes consumers, producers and admin clients.

The embedded broker wants a shorter session than a real one (it waits for its end), so its settings live here too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from streams.any_headers import read_any_headers
from streams.long_poll import LongPollConsumer

log = logging.getLogger(__name__)

REQUEST_BYTES_MAX = 4_000_000
BATCH_BYTES_MAX = 900_000
"""Of one produced batch: below the broker's default limit of a message, 1 MB."""

FETCH_WAIT_MS = 500
"""How long the broker may let a fetch wait for data; see `streams/long_poll.py`."""

Client = TypeVar("Client")

read_any_headers()


class Outgoing(Protocol):
    """A message to be produced."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None:
        """None: a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...
    @property
    def timestamp_ms(self) -> int | None:
        """None: now."""


class ProducedBatch(BatchBuilder):
    """A batch that takes many messages at once: a third of what `append` costs for each."""

    def extend(self, messages: Iterable[Outgoing], now_ms: int) -> int:
        """Append messages, in their order, until one does not fit any more; how many went in, at least one.

        A message larger than a whole batch goes in alone; whether the topic accepts it is for the broker to say.
        """
        append = self._builder.append
        begin = count = self.record_count()
        none: list[tuple[str, bytes]] = []
        for each in messages:
            headers = list(each.headers) if each.headers else none
            if append(count, each.timestamp_ms or now_ms, each.key, each.value, headers) is None:
                break
            count += 1
        self._relative_offset = count
        return count - begin


class Producer(AIOKafkaProducer):
    """A producer whose batches take many messages at once, and wait for their turn at a partition.

    aiokafka counts a wait for a free place again and again: of some fifty batches that wait at once most were given up
    as too late after a few seconds, though one after the other had been sent.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._turns: dict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    def create_batch(self) -> ProducedBatch:
        """An empty batch."""
        return ProducedBatch(BATCH_BYTES_MAX, compression_type=0)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        """Send a batch; the future of its metadata."""
        async with self._turns[topic, partition]:
            return await super().send_batch(batch, topic, partition=partition)


@dataclass(frozen=True)
class Connection:
    """Bootstrap servers and what every client has in common."""

    broker: str
    embedded: bool = False
    session_timeout_s: float = 10.0
    heartbeat_s: float = 3.0
    client_id: str = "kindred"

    @property
    def session_s(self) -> float:
        """Seconds without a heartbeat after which a member of a group is given up."""
        return 4.0 if self.embedded else self.session_timeout_s

    @property
    def beat_s(self) -> float:
        """Seconds between heartbeats of a member of a group."""
        return min(self.heartbeat_s, 1.0) if self.embedded else self.heartbeat_s

    def consumer(self, group: str | None = None, **more: Any) -> LongPollConsumer:
        """A consumer that commits only what it is told to; with `group` it uses the Range assignor.

        Range puts partition n of all subscribed topics on the same member.
        """
        settings: dict[str, Any] = {
            "bootstrap_servers": self.broker,
            "client_id": self.client_id,
            "group_id": group,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",  # what a producer's transaction took back was never said
            "partition_assignment_strategy": (RangePartitionAssignor,),
            "session_timeout_ms": int(self.session_s * 1000),
            "heartbeat_interval_ms": int(self.beat_s * 1000),
            "rebalance_timeout_ms": int(max(self.session_s, 10.0) * 1000),
            "fetch_max_wait_ms": FETCH_WAIT_MS,
            "max_partition_fetch_bytes": REQUEST_BYTES_MAX,
            "retry_backoff_ms": 100,
            "metadata_max_age_ms": 30_000,
        }
        return LongPollConsumer(**(settings | more))

    def producer(self, **more: Any) -> Producer:
        """A producer that waits for all replicas and sends at once (linger costs more than its name says)."""
        settings: dict[str, Any] = {
            "bootstrap_servers": self.broker,
            "client_id": self.client_id,
            "acks": "all",
            "linger_ms": 0,
            "max_batch_size": BATCH_BYTES_MAX,
            "max_request_size": REQUEST_BYTES_MAX,
            "retry_backoff_ms": 100,
            "metadata_max_age_ms": 30_000,
        }
        return Producer(**(settings | more))

    def on(self, cluster: str) -> Connection:
        """The same connection, knowing the id of its cluster and with it whether that is the embedded broker."""
        return replace(self, embedded=cluster.startswith("mockCluster"))

    def admin(self) -> AIOKafkaAdminClient:
        """An admin client; it must be started and closed by the caller."""
        return AIOKafkaAdminClient(bootstrap_servers=self.broker, client_id=self.client_id)

    async def started(self, make: Callable[[], Client], what: str) -> Client:
        """A client made and started as soon as the broker is there; asks again with backoff, for as long as it takes.

        One log line when the broker is missed and one when it is back, none in between.
        """
        delay_s, missed = 0.1, False
        while True:
            client = make()
            try:
                await client.start()  # type: ignore[attr-defined]
            except (KafkaConnectionError, KafkaError, OSError) as error:
                await self._close(client)
                if not missed:
                    log.warning("%s: the broker %s does not answer (%s); asking again", what, self.broker, error)
                    missed = True
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 2.0)
            except BaseException:
                await self._close(client)
                raise
            else:
                if missed:
                    log.warning("%s: the broker %s answers again", what, self.broker)
                return client

    @staticmethod
    async def _close(client: Any) -> None:
        stop: Callable[[], Awaitable[None]] = getattr(client, "stop", None) or client.close
        try:
            await stop()
        except Exception as error:
            log.debug("a client that had not started did not close: %r", error)


async def cluster_id(connection: Connection) -> str:
    """Id of the cluster, which tells a checkpoint of another cluster apart."""
    admin = await connection.started(connection.admin, "cluster id")
    try:
        return str((await admin.describe_cluster()).get("cluster_id") or "embedded")
    finally:
        await admin.close()


async def is_embedded(broker: str) -> bool:
    """Whether the broker is `kindred broker` or the demo's: librdkafka's mock cluster says so in its cluster id."""
    return Connection(broker).on(await cluster_id(Connection(broker))).embedded
