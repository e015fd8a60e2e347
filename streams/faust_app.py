"""The Faust application that is each worker's shell: lifecycle, agent of the embed stage.

Faust is used for what it is good at.  Its exactly-once, tables, replies, topic declaration and web pages are not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver

from streams.connection import REQUEST_BYTES_MAX, Connection
from streams.settings import Settings


class _Thread(driver.AIOKafkaConsumerThread):
    """Reads on where it must after a rebalance, and does not let a fetch wait for long.

    Faust drops what it has fetched during a rebalance and then goes back to the committed offsets; of a partition that
    has none it went on behind what it had dropped.  Its wait of 1.5 s is built in; see `Connection.fetch_wait_ms`.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = transport.fetch_wait_ms
        return consumer

    async def seek_to_committed(self) -> Mapping[Any, Any]:
        """Go back to the committed offsets; returned by partition, None where there is none."""
        committed: Mapping[Any, Any] = await self.call_thread(self._seek)
        return committed

    async def _seek(self) -> Mapping[Any, Any]:
        consumer = self._ensure_consumer()
        committed: Mapping[Any, Any] = await consumer.seek_to_committed()
        fresh = [tp for tp, offset in committed.items() if not offset]
        for tp, offset in (await consumer.beginning_offsets(fresh)).items() if fresh else ():
            consumer.seek(tp, offset)
        return committed


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):
    Consumer = _Consumer
    fetch_wait_ms: int


def make_app(settings: Settings, connection: Connection) -> faust.App:
    """A new application; `<prefix>kindred-embed` is also the consumer group of its agent."""
    session_s = 4.0 if connection.embedded else settings.session_timeout_s
    app = faust.App(
        settings.topic_prefix + "kindred-embed",
        broker=[f"kafka://{server}" for server in connection.broker.split(",")],
        store="memory://",
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,  # otherwise a stop waits for ever while an event is not acknowledged
        broker_session_timeout=session_s,
        broker_request_timeout=max(90.0, session_s + 30.0),  # Faust refuses one that is shorter than the session
        broker_heartbeat_interval=min(settings.heartbeat_s, session_s / 4),
        broker_max_poll_records=500,
        consumer_max_fetch_size=REQUEST_BYTES_MAX,
        consumer_auto_offset_reset="earliest",
        producer_max_request_size=REQUEST_BYTES_MAX,
        datadir=str(settings.data / "faust"),
        web_enabled=False,  # streams/web.py answers before Faust has started, and what Faust's server cannot
        logging_config=None,
    )
    transport = _Transport(app.conf.broker_consumer, app)
    transport.fetch_wait_ms = connection.fetch_wait_ms
    app.transport = transport
    return app
