"""One installation of Kindred for a test: its own topics and folders, real workers in processes of their own.

`Installation` knows the environment and starts workers; `Shop` is the outside of it: it writes catalog and stock, asks,
and reads what stands on the topics.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from streams import topics
from streams.client import SimilarClient
from streams.connection import Connection
from streams.settings import PREFIX, Settings
from tests.brokers import TestBroker
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
STOP_S_MAX = 10.0
"""Within which a worker ends after SIGTERM, as the contract says."""


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class WorkerProcess:
    """One worker, started by the command that people use."""

    def __init__(self, name: str, environment: Mapping[str, str], arguments: Iterable[str], folder: Path) -> None:
        self.name = name
        self.port = int(environment["KINDRED_WEB"].rpartition(":")[2])
        self.log = folder / f"{name}.log"
        self._file = self.log.open("ab")
        command = [sys.executable, "-m", "streams.commands", "worker", *arguments]
        self.process = subprocess.Popen(command, cwd=ROOT, env=dict(environment), stdout=self._file, stderr=self._file)

    def page(self, path: str, timeout_s: float = 5.0) -> tuple[int, str]:
        """Status and text of a page; 0 and the reason when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def status(self) -> dict[str, Any]:
        """What `/status` says; empty when it does not answer."""
        code, text = self.page("/status")
        return json.loads(text) if code == 200 else {}

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all samples with these labels; 0 when there is none."""
        total = 0.0
        for line in self.page("/metrics")[1].splitlines():
            if not line.startswith(name) or line[len(name)] not in " {":
                continue
            if all(f'{key}="{value}"' in line for key, value in labels.items()):
                total += float(line.rpartition(" ")[2])
        return total

    async def ready(self, deadline_s: float = 60.0) -> WorkerProcess:
        """Wait until `/readyz` says so; fails at once when the process has ended."""

        def is_ready() -> bool:
            assert self.process.poll() is None, f"worker {self.name} ended with {self.process.poll()}:\n{self.tail()}"
            return self.page("/readyz")[0] == 200

        await wait_until(lambda: asyncio.to_thread(is_ready), deadline_s, self.tail)
        return self

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def stop(self) -> float:
        """SIGTERM; the seconds it took.  Fails unless it ends with status 0 in time."""
        started = time.monotonic()
        self.signal(signal.SIGTERM)
        code = self.process.wait(STOP_S_MAX + 5)
        took_s = time.monotonic() - started
        assert code == 0, f"worker {self.name} ended with {code}:\n{self.tail()}"
        assert took_s <= STOP_S_MAX, f"worker {self.name} took {took_s:.1f} s to stop"
        return took_s

    def kill(self) -> None:
        """SIGKILL, also for a paused process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._file.close()

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Installation:
    """Settings of one installation and the workers that a test starts in it."""

    def __init__(self, broker: str, prefix: str, folder: Path, **settings: str) -> None:
        self.broker = broker
        self.prefix = prefix
        self.folder = folder
        self.workers: list[WorkerProcess] = []
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)} | {
            "KINDRED_BROKER": broker,
            "KINDRED_TOPIC_PREFIX": prefix,
            "KINDRED_SESSION_TIMEOUT_S": "6",
            "KINDRED_HEARTBEAT_S": "1.5",
            "KINDRED_LOG_FORMAT": "text",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.environment |= {PREFIX + name.upper(): value for name, value in settings.items()}

    def settings(self) -> Settings:
        """The same settings as the workers'."""
        return Settings.read(self.environment)

    def worker(self, *arguments: str, data: str | None = None, **settings: str) -> WorkerProcess:
        """Start one more worker, with a folder (`data`) and port of its own unless told otherwise."""
        name = f"worker-{len(self.workers)}"
        own = {
            "KINDRED_DATA": str(self.folder / (data or name)),
            "KINDRED_WEB": f"127.0.0.1:{free_port()}",
        } | {PREFIX + key.upper(): value for key, value in settings.items()}
        worker = WorkerProcess(name, self.environment | own, arguments, self.folder)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        """End whatever still runs."""
        for worker in self.workers:
            worker.kill()

    @contextlib.asynccontextmanager
    async def shop(self) -> AsyncIterator[Shop]:
        """The outside of this installation; makes the topics if no worker has."""
        connection = Connection(self.broker)
        settings = self.settings()
        await topics.ensure_topics(connection, topics.topic_table(settings))
        producer = await connection.started(connection.producer, "shop")
        try:
            async with SimilarClient(connection, settings) as client:
                yield Shop(connection, settings, producer, client)
        finally:
            await producer.stop()


@contextlib.contextmanager
def installed(
    broker: TestBroker, folder: Path, partitions: Mapping[str, int] | None = None, /, **settings: str
) -> Iterator[Installation]:
    """An installation with one worker, for all tests of a file; `folder` names it.

    `partitions`: of topics that somebody else made before, with the broker's own settings.
    """
    made = Installation(broker.bootstrap, f"{folder.name}-{folder.stat().st_ino}-", folder, **settings)
    counts = {made.prefix + name: count for name, count in (partitions or {}).items()}
    if broker.embedded is not None:  # a worker does not make topics on it
        counts = {each.name: each.partitions for each in topics.topic_table(made.settings())} | counts
    asyncio.run(broker.create_topics(counts))
    made.worker()
    try:
        yield made
    finally:
        made.close()


class Shop:
    """What stands outside of Kindred: it writes events, asks, and reads topics."""

    def __init__(
        self, connection: Connection, settings: Settings, producer: AIOKafkaProducer, client: SimilarClient
    ) -> None:
        self.connection = connection
        self.settings = settings
        self.producer = producer
        self.client = client

    def topic(self, name: str) -> str:
        """A topic's name with the installation's prefix."""
        return self.settings.topic_prefix + name

    async def send(self, name: str, key: str | bytes | None, value: object, **more: Any) -> None:
        """Write one message and wait until it is there; `value` bytes go as they are, None is a tombstone."""
        body = value if value is None or isinstance(value, bytes) else orjson.dumps(value)
        await self.producer.send_and_wait(
            self.topic(name), body, key=key.encode() if isinstance(key, str) else key, **more
        )

    async def catalog(self, records: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Write catalog records; None deletes."""
        await asyncio.gather(*(self.send(topics.CATALOG_CHANGES, key, value) for key, value in records.items()))

    async def stock(self, item_id: str, quantity: float | None, at: int | None = None) -> None:
        """Write a level of stock."""
        level = {"quantity": quantity} | ({"at": at} if at is not None else {})
        await self.send(topics.STOCK_LEVELS, item_id, level)

    async def similar(self, item_id: str, **fields: Any) -> list[dict[str, Any]]:
        """Hits of a request for an item; an error reply raises."""
        return (await self.client.ask({"objectID": item_id, **fields}, timeout_s=10.0))["hits"]

    async def ids(self, item_id: str, **fields: Any) -> list[str]:
        """Ids of the hits, best first."""
        return [hit["objectID"] for hit in await self.similar(item_id, **fields)]

    async def read(self, name: str) -> list[ConsumerRecord]:
        """All that stands on a topic now, partition by partition."""
        consumer = await self.connection.started(lambda: self.connection.consumer(), "reader")
        try:
            counts = await self.producer.partitions_for(self.topic(name))
            places = [TopicPartition(self.topic(name), number) for number in sorted(counts)]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            await consumer.seek_to_beginning(*places)
            found: list[ConsumerRecord] = []
            while any([await consumer.position(place) < ends[place] for place in places]):
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += records
            return sorted(found, key=lambda record: (record.partition, record.offset))
        finally:
            await consumer.stop()

    async def ends(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Where partitions end now: the offset of the next message."""
        consumer = await self.connection.started(lambda: self.connection.consumer(), "reader")
        try:
            return dict(await consumer.end_offsets(list(places)))
        finally:
            await consumer.stop()

    async def last(self, name: str) -> dict[str, bytes]:
        """The last value of each key of a topic; deleted keys are absent."""
        state = {(record.key or b"").decode(): record.value for record in await self.read(name)}
        return {key: value for key, value in state.items() if value is not None}

    async def alerts(self, item_id: str) -> list[str]:
        """Alerts of an item, in their order."""
        found = [orjson.loads(record.value) for record in await self.read(topics.ITEM_ALERTS)]
        return [alert["alert"] for alert in found if alert["objectID"] == item_id]

    async def dead_letters(self) -> list[tuple[bytes | None, bytes | None, dict[str, str]]]:
        """Key, value and Kindred's headers of each dead letter."""
        return [
            (
                record.key,
                record.value,
                {name: value.decode() for name, value in record.headers if name.startswith("kindred_")},
            )
            for record in await self.read(topics.DEAD_LETTERS)
        ]
