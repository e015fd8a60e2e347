"""What benchmarks stand on: a broker, installations on it, items that are there already, and child processes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from models.embedder import Embedder
from models.record import AttributeNames, RecordLimits, parse_record
from models.truth_messages import ImageEmbedding, ItemEmbedding, ItemRecord, ItemStock, Written, write_message
from models.vectors import pack_half
from streams import topics
from streams.connection import Connection
from streams.kafka.outbox import Message, Outbox
from streams.parent_death import dying_with_parent
from streams.reports.terminal import Terminal
from tests.installation import ROOT, Installation

SHARDS = 4
LOADED_AT_MS = 1_700_000_000_000
_number = itertools.count()


@dataclass(frozen=True)
class Ground:
    """What every benchmark is given."""

    quick: bool
    folder: Path
    terminal: Terminal = field(default_factory=Terminal)
    broker: str = ""

    def say(self, text: str) -> None:
        """A line about progress."""
        self.terminal.note(f"  {text}")

    def pick(self, quick: int, full: int) -> int:
        """A size by how long the run may take."""
        return quick if self.quick else full

    @contextlib.asynccontextmanager
    async def installation(self, name: str, **settings: str) -> AsyncIterator[Installation]:
        """An installation of its own, its topics made; its workers end with it."""
        prefix = f"bench-{name}-{next(_number)}-"
        folder = self.folder / prefix.strip("-")
        folder.mkdir(parents=True)
        # A stage that is stopped while events pile up must not be given up by its group.
        settings = {"session_timeout_s": "60", "heartbeat_s": "3", "log_level": "warning"} | settings
        installed = Installation(self.broker, prefix, folder, **settings)
        await topics.ensure_topics(Connection(self.broker), topics.topic_table(installed.settings()))
        try:
            yield installed
        finally:
            installed.close()


@contextlib.asynccontextmanager
async def producing(broker: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer with the product's settings."""
    connection = Connection(broker)
    producer = await connection.started(connection.producer, "bench")
    try:
        yield producer
    finally:
        await producer.stop()


async def make_topics(broker: str, names: Sequence[str], partitions: int, **config: str) -> None:
    """Topics beside Kindred's, and wait until they have leaders."""
    admin = Connection(broker).admin()
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config) for name in names])
        while True:
            described = await admin.describe_topics(list(names))
            leaders = [each["leader"] for topic in described for each in topic["partitions"]]
            if len(leaders) == partitions * len(names) and min(leaders) >= 0:
                return
            await asyncio.sleep(0.05)
    finally:
        await admin.close()


@contextlib.asynccontextmanager
async def consuming(broker: str, places: Sequence[TopicPartition], **more: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """aiokafka's own consumer with the product's settings, without a group, at the end of some partitions."""
    connection = Connection(broker)
    settings = connection.consumer_settings(None) | more
    consumer = await connection.started(lambda: AIOKafkaConsumer(**settings), "bench")
    try:
        consumer.assign(places)
        for place, end in (await consumer.end_offsets(places)).items():
            consumer.seek(place, end)
        yield consumer
    finally:
        await consumer.stop()


def places_of(topic: str, partitions: int = SHARDS) -> list[TopicPartition]:
    """All partitions of a topic."""
    return [TopicPartition(topic, number) for number in range(partitions)]


class CommittedOffsets:
    """How far a consumer group has come, asked of the broker: that costs the group nothing."""

    def __init__(self, broker: str, group: str, topic: str) -> None:
        self.group = group
        self.places = places_of(topic)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False)
        self._admin = Connection(broker).admin()

    async def __aenter__(self) -> CommittedOffsets:
        await self._consumer.start()
        await self._admin.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()
        await self._consumer.stop()

    async def ends(self) -> int:
        """Messages of all partitions so far."""
        return sum((await self._consumer.end_offsets(self.places)).values())

    async def begin(self) -> dict[TopicPartition, int]:
        """Where each partition ends now."""
        return dict(await self._consumer.end_offsets(self.places))

    async def ranges(self, begin: Mapping[TopicPartition, int]) -> dict[str, tuple[int, int]]:
        """By partition, from `begin` to where it ends now."""
        ends = await self._consumer.end_offsets(self.places)
        return {str(place.partition): (begin[place], end) for place, end in ends.items()}

    async def done(self) -> int:
        """Messages committed by the group so far."""
        with contextlib.suppress(Exception):  # the group's coordinator may still be on its way
            offsets = await self._admin.list_consumer_group_offsets(self.group, partitions=self.places)
            return sum(max(0, each.offset) for each in offsets.values())
        return 0


class Child:
    """A baseline in a process of its own: `python -m bench.MODULE JSON`, which says what it found in lines of JSON."""

    def __init__(self, module: str, logs: Path, **arguments: Any) -> None:
        self.log = logs / f"{module.rpartition('.')[2]}-{next(_number)}.log"
        command = [*dying_with_parent(signal.SIGKILL), sys.executable, "-m", module, json.dumps(arguments)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)

    async def line(self) -> Any:
        """Its next line; RuntimeError with the end of its log if it ends instead."""
        assert self.process.stdout is not None
        text = await asyncio.to_thread(self.process.stdout.readline)
        if not text:
            raise RuntimeError(f"{self.log} ended:\n{self.log.read_text(errors='replace')[-2000:]}")
        return json.loads(text)

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def loaded_record(number: int) -> tuple[str, dict[str, Any]]:
    """Id and record of an item that is there already."""
    item_id = f"item-{number:06d}"
    category = f"category-{number % 20}"
    record = {"title": f"Item {number}", "category": category, "price": 5 + number % 90, "image": f"{item_id}.jpg"}
    return item_id, record


async def load_items(
    broker: str,
    prefix: str,
    vectors: np.ndarray,
    *,
    more: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[str]:
    """Write items with these embeddings straight to the truths, as if track and embed had; their ids.

    `more`: attributes that every record has.
    """
    model = Embedder().model
    limits, names = RecordLimits(), AttributeNames.parse("")
    item_ids = []
    async with producing(broker) as producer:
        outbox = Outbox(producer)
        for number, vector in enumerate(vectors):
            item_id, attributes = loaded_record(number)
            record = parse_record(item_id, attributes | dict(more or {}), names, limits)
            version, written, writer = LOADED_AT_MS, Written(0, number + 1), "bench"
            image = ImageEmbedding(record.images[0], digest=f"{number:032x}", vector=pack_half(vector))
            messages: dict[str, Any] = {
                topics.ITEM_RECORDS: ItemRecord(
                    record=msgspec.Raw(record.canonical),
                    facts=record.facts,
                    images=record.images,
                    image_version=version,
                    at=version,
                    written=written,
                    writer=writer,
                ),
                topics.ITEM_STOCKS: ItemStock(50 + number % 50, version, written, writer),
                topics.ITEM_EMBEDDINGS: ItemEmbedding(version, model, (image,), writer),
            }
            key = item_id.encode()
            for name, message in messages.items():
                outbox.put(prefix + name, topics.partition_of(key, SHARDS), Message(key, write_message(message)))
            item_ids.append(item_id)
            if number % 2_000 == 1_999:
                await outbox.deliver()
        await outbox.deliver()
    progress(f"{len(item_ids):,} items written to the truths")
    return item_ids
