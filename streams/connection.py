"""How clients of ours reach the broker: one place that makes consumers, producers and admin clients.

The embedded broker wants a shorter session than a real one (it waits for its end), so its settings live here too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.any_headers import read_any_headers
from streams.long_poll import LongPollConsumer
from streams.producer import BATCH_BYTES_MAX, Producer

log = logging.getLogger(__name__)

REQUEST_BYTES_MAX = 4_000_000
FETCH_WAIT_MS = 500
"""How long the broker may let a fetch wait for data; see `streams/long_poll.py`."""

Client = TypeVar("Client")

read_any_headers()


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
        """A consumer that commits only what it is told to; with `group` it uses the Range assignor."""
        return LongPollConsumer(**(self.consumer_settings(group) | more))

    def producer(self, **more: Any) -> Producer:
        """A producer that waits for all replicas and sends at once (linger costs more than its name says)."""
        return Producer(**(self.producer_settings() | more))

    def consumer_settings(self, group: str | None) -> dict[str, Any]:
        """What every consumer has; Range puts partition n of all subscribed topics on the same member."""
        return {
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

    def producer_settings(self) -> dict[str, Any]:
        """What every producer has."""
        return {
            "bootstrap_servers": self.broker,
            "client_id": self.client_id,
            "acks": "all",
            "linger_ms": 0,
            "max_batch_size": BATCH_BYTES_MAX,
            "max_request_size": REQUEST_BYTES_MAX,
            "retry_backoff_ms": 100,
            "metadata_max_age_ms": 30_000,
        }

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
