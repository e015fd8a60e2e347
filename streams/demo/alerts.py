"""What `item-alerts` says while a tour goes on, each alert with the moment at which it was read.

Read from the end that the topic has when the listening begins: what the catalog's own feed was alerted of is not told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple

import orjson
from aiokafka.structs import ConsumerRecord

from streams.connection import Connection
from streams.kafka.log_reader import partitions_of
from streams.kafka.truths import TruthReader
from streams.settings import Settings
from streams.topics import ITEM_ALERTS

RECORDS_MAX = 500


class Alert(NamedTuple):
    """An alert as it was read."""

    item_id: str
    value: dict[str, Any]
    """The message."""
    read_s: float
    """`time.perf_counter()` when it was there."""


class AlertListener:
    """A context manager that reads alerts from its entry on."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._topic = settings.topic_prefix + ITEM_ALERTS
        self._read: list[Alert] = []
        self._told = asyncio.Event()
        """That more was read, or that the reading has failed; there is one who waits at a time."""

    _reader: TruthReader
    _reading: asyncio.Task[None]

    async def __aenter__(self) -> AlertListener:
        partitions = await partitions_of(self._connection, self._topic)
        self._reader = TruthReader(self._connection, "demo", partitions, RECORDS_MAX)
        await self._reader.connect()
        self._reader.start(self._reader.ends)
        self._reading = asyncio.create_task(self._read_on(), name="demo-alerts")
        self._reading.add_done_callback(lambda _: self._told.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._reader.stop()

    async def alert(self, item_id: str, name: str, since_s: float, timeout_s: float) -> Alert | None:
        """The first alert of this name for an item since `since_s` (perf_counter); None: none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._told.clear()
                    for each in self._read:
                        if each.item_id == item_id and each.value.get("alert") == name and each.read_s >= since_s:
                            return each
                    if self._reading.done():
                        self._reading.result()
                    await self._told.wait()
        except TimeoutError:
            return None

    async def _read_on(self) -> None:
        while True:
            batches = await self._reader.poll()
            read_s = time.perf_counter()
            self._read += (alert for records in batches.values() for alert in _alerts(records, read_s))
            self._told.set()


def _alerts(records: Iterable[ConsumerRecord], read_s: float) -> Iterable[Alert]:
    """The alerts in messages; what is none, as others may write onto a topic, is passed over."""
    for record in records:
        try:
            value = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            continue
        if isinstance(value, dict):
            yield Alert(str(value.get("objectID")), value, read_s)
