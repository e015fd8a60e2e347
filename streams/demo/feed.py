"""Streaming a catalog onto its topic, and knowing when all of it can be recommended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson
from aiokafka import TopicPartition

from models.errors import Unavailable
from models.truth_messages import ItemEmbedding, read_item_embedding
from streams.connection import Connection
from streams.kafka.log_reader import partitions_of
from streams.kafka.truths import TruthReader
from streams.publishing.change_files import Change
from streams.publishing.send import publish, rounds_of
from streams.reports.status import worker_page
from streams.settings import Settings
from streams.topics import CATALOG_CHANGES, ITEM_EMBEDDINGS

STALL_S_MAX = 60.0
"""Without a word on any of the items that are waited for, they are given up."""
READY_S_MAX = 120.0
SETTLE_S_MAX = 30.0
STEADY_S = 0.5
"""How long the catalog's mean must not have changed: answers before and after an event are to be told by it alone."""
ASK_INTERVAL_S = 0.1


@dataclass
class Fed:
    """What became of a catalog."""

    embedded: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    """Why an item has no picture that can be used, by item id."""
    waiting: set[str] = field(default_factory=set)
    """Items of which nothing was heard."""
    seconds: float = 0.0
    """From the first event sent to the last embedding read."""

    @property
    def rate(self) -> float:
        """Pictures embedded a second."""
        return len(self.embedded) / max(self.seconds, 1e-6)


async def feed(
    connection: Connection, settings: Settings, records: Mapping[str, Mapping[str, Any]], told: Callable[[int], None]
) -> Fed:
    """Publish the records and read on `item-embeddings` what becomes of them; `told` hears of each item's outcome."""
    fed = Fed(waiting=set(records))
    topic = settings.topic_prefix + ITEM_EMBEDDINGS
    reader = TruthReader(connection, "demo", await partitions_of(connection, topic), records_max=1_000)
    await reader.connect()
    try:
        reader.start()
        started = heard = time.monotonic()
        changes = (Change(item_id.encode(), orjson.dumps(record)) for item_id, record in records.items())
        sending = asyncio.create_task(
            publish(connection, settings.topic_prefix + CATALOG_CHANGES, rounds_of(changes)), name="demo-feed"
        )
        try:
            while fed.waiting and time.monotonic() - heard < STALL_S_MAX:
                if sending.done():
                    sending.result()
                count = len(fed.waiting)
                _note(fed, await reader.poll())
                if len(fed.waiting) < count:
                    heard = time.monotonic()
                    fed.seconds = heard - started
                    told(count - len(fed.waiting))
        finally:
            if not sending.done():
                sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    finally:
        await reader.stop()
    return fed


def _note(fed: Fed, batches: Mapping[TopicPartition, Iterable[Any]]) -> None:
    for messages in batches.values():
        for message in messages:
            item_id = (message.key or b"").decode()
            if message.value is None or item_id not in fed.waiting:
                continue
            try:
                embedding: ItemEmbedding = read_item_embedding(message.value)
            except msgspec.DecodeError:
                continue
            fed.waiting.discard(item_id)
            if any(image.vector for image in embedding.images):
                fed.embedded.add(item_id)
            else:
                fed.refused[item_id] = next((image.error for image in embedding.images if image.error), "no image")


async def ready(settings: Settings) -> Mapping[str, Any]:
    """Wait until the worker says that it is ready; its page.  Raises Unavailable when that takes too long."""
    deadline = time.monotonic() + READY_S_MAX
    while True:
        page = await worker_page(settings)
        if page and page.get("ready"):
            return page
        if time.monotonic() > deadline:
            waiting = page.get("waiting_for") if page else "its page does not answer"
            raise Unavailable(f"the worker was not ready within {READY_S_MAX:.0f} s: {waiting}")
        await asyncio.sleep(ASK_INTERVAL_S)


async def settled(settings: Settings, searchable: int) -> bool:
    """Wait until so many items can be found and the catalog's mean is steady; whether it came to that in time."""
    deadline = time.monotonic() + SETTLE_S_MAX
    version, since = None, time.monotonic()
    while time.monotonic() < deadline:
        index = ((await worker_page(settings)) or {}).get("stages", {}).get("index", {})
        if index.get("mean_version") != version:
            version, since = index.get("mean_version"), time.monotonic()
        found = sum(shard.get("items_searchable", 0) for shard in index.get("shards", {}).values())
        if found >= searchable and not any(index.get("lag", {}).values()) and time.monotonic() - since >= STEADY_S:
            return True
        await asyncio.sleep(ASK_INTERVAL_S)
    return False
