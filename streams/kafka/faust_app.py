"""The Faust application that is each worker's shell: lifecycle, agent of the embed stage.

Faust is used for what it is good at.  Its exactly-once, tables, replies, topic declaration and web pages are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import faust
import mode
from faust.transport.drivers import aiokafka as driver
from mode.utils.futures import maybe_async

from streams.connection import FETCH_WAIT_MS, REQUEST_BYTES_MAX, Connection
from streams.long_poll import let_wait, take_within
from streams.settings import Settings


class _InLoop(driver.AIOKafkaConsumerThread):
    """Faust's consumer, in the worker's loop instead of a thread; it lets fetches wait as ours do.

    From a thread a message takes two more turns of two loops, and a switch of threads, until the agent has it.
    `call_thread` is all that Faust calls it by; what makes a service a thread is put back to what a service does.

    Faust drops what it has fetched during a rebalance and then goes back to the committed offsets; of a partition that
    has none it went on behind what it had dropped.  Its wait of 1.5 s is built in; see `FETCH_WAIT_MS`.
    """

    wait_for_shutdown = False
    start = mode.Service.start
    maybe_start = mode.Service.maybe_start
    stop = mode.Service.stop
    set_shutdown = mode.Service.set_shutdown
    _stopped_set = mode.Service._stopped_set
    _stop_children = mode.Service._stop_children
    _stop_futures = mode.Service._stop_futures
    _stop_exit_stacks = mode.Service._stop_exit_stacks

    def __init__(self, consumer: Any, **more: Any) -> None:
        super().__init__(consumer, thread_loop=consumer.loop, **more)

    async def crash(self, exc: BaseException) -> None:
        await mode.Service.crash(self, exc)

    async def on_start(self) -> None:
        await super().on_start()
        let_wait(self._ensure_consumer()._fetcher)

    async def on_stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await maybe_async(fun(*args, **kwargs))

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> Any:
        """What has been fetched of these partitions; waits for so many seconds while that is nothing."""
        take = partial(super()._fetch_records, consumer, active_partitions, 0, max_records)
        return await take_within(consumer, (timeout or 0) if self.consumer.flow_active else 0, take)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
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
    def _new_consumer_thread(self) -> _InLoop:
        return _InLoop(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):
    Consumer = _Consumer


def make_app(settings: Settings, connection: Connection) -> faust.App:
    """A new application; `<prefix>kindred-embed` is also the consumer group of its agent."""
    app = faust.App(
        settings.topic_prefix + "kindred-embed",
        broker=[f"kafka://{server}" for server in connection.broker.split(",")],
        store="memory://",
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,  # otherwise a stop waits for ever while an event is not acknowledged
        broker_session_timeout=connection.session_s,
        broker_request_timeout=max(90.0, connection.session_s + 30.0),  # Faust wants it longer than the session
        broker_heartbeat_interval=connection.beat_s,
        broker_max_poll_records=500,
        consumer_max_fetch_size=REQUEST_BYTES_MAX,
        consumer_auto_offset_reset="earliest",
        producer_max_request_size=REQUEST_BYTES_MAX,
        datadir=str(settings.data / "faust"),
        web_enabled=False,  # streams/web/server.py answers before Faust has started, and what Faust's server cannot
        logging_config=None,
    )
    app.transport = _Transport(app.conf.broker_consumer, app)
    return app
