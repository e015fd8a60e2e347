"""Starting again: from a checkpoint, from nothing but the truths, and never from a checkpoint that is too old."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition

from indexes.manifest import read_manifest
from indexes.shard import Shard
from indexes.shard_settings import ShardSettings
from models.colour import NUMBERS
from models.embedder import SHIPPED, Embedder
from streams import topics
from streams.brokers.apache_kafka import KafkaBroker
from streams.client import RequestFailed
from tests.brokers import TestBroker
from tests.feed import Feed, names, send
from tests.installation import Installation, Shop, WorkerProcess
from tests.pictures import pictures_at_hand
from tests.waiting import wait_until

pytestmark = pytest.mark.needs_kafka

PICTURES = 60
SHARDS = 2


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder of pictures and their links."""
    folder = tmp_path_factory.mktemp("pictures")
    return folder, list(pictures_at_hand(folder, PICTURES))


@pytest.fixture
def installation(
    broker: TestBroker, topic_prefix: str, tmp_path: Path, pictures: tuple[Path, list[str]]
) -> Iterator[Installation]:
    """An installation whose shards seal a few dozen rows and write checkpoints several times a second."""
    made = Installation(
        broker.bootstrap,
        topic_prefix,
        tmp_path,
        image_root=str(pictures[0]),
        shards=str(SHARDS),
        delta_rows_max="24",
        segment_rows_min="16",
        checkpoint_interval_s="0.2",
    )
    yield made
    made.close()


async def answers(shop: Shop, feed: Feed) -> list[bytes]:
    """Answers to a sample of requests, byte for byte but for what tells the time."""
    ids = sorted(feed.records)
    entries: list[dict[str, Any]] = [{"objectID": item_id, "maxRecommendations": 1000} for item_id in ids[:10]]
    entries += [
        {"objectID": ids[11], "outOfStock": True, "threshold": 10},
        {"objectIDs": [{"objectID": ids[12], "weight": 2}, ids[13]], "unlike": [ids[14]]},
        {"objectID": ids[15], "queryParameters": {"filters": "price < 30 OR NOT in_stock:true"}},
        {"objectID": ids[16], "queryParameters": {"optionalFilters": ["low_stock:-true"], "attributesToRetrieve": []}},
        {"objectID": "unknown"},
    ]
    results = (await shop.client.ask({"requests": entries}, timeout_s=20))["results"]
    assert [result.get("status") for result in results] == [None] * (len(entries) - 1) + [404]
    assert all(result["hits"] for result in results[:-1])
    times = ("watermark", "processingTimeMS", "queryID")
    return [orjson.dumps({name: value for name, value in each.items() if name not in times}) for each in results]


async def saved(shop: Shop, worker_data: Path, count: int = SHARDS) -> None:
    """Wait for a checkpoint of all that stands on the truths now."""
    places = {
        (name, number): TopicPartition(shop.topic(name), number) for name in topics.TRUTHS for number in range(count)
    }
    ends = await shop.ends(places.values())

    def complete() -> bool:
        for number in range(count):
            manifest = read_manifest(worker_data / f"shard-{number}")
            if manifest is None or not manifest.caught_up_ms:
                return False
            if any(manifest.next_offsets.get(name, 0) < ends[places[name, number]] for name in topics.TRUTHS):
                return False
        return True

    await wait_until(complete, 30, "a checkpoint of everything")


def read_of_truths(worker: WorkerProcess, shop: Shop) -> int:
    """How many messages of the truths the index stage of a worker has read."""
    return int(
        sum(worker.metric("kindred_events_total", stage="index", topic=shop.topic(name)) for name in topics.TRUTHS)
    )


def segments(worker: WorkerProcess) -> int:
    """Segments in the shards of a worker."""
    return sum(shard["segments"] for shard in worker.status()["stages"]["index"]["shards"].values())


async def test_every_start_answers_the_same(installation: Installation, pictures: tuple[Path, list[str]]) -> None:
    """Live, started again from its checkpoint, and rebuilt from nothing but the truths: the same answers."""
    feed = Feed(pictures[1], seed=5)
    items = names(90)
    async with installation.shop() as shop:
        live = await installation.worker(data="kept").ready()
        await send(shop, feed.mixed(feed.put(items), feed.levels_of(items, 400)))
        await feed.agreed(shop)
        changes = feed.mixed(feed.reprice(items[:20]), feed.put(items[20:50]), feed.delete(items[70:80]))
        await send(shop, feed.mixed(changes, feed.levels_of(items, 400)))
        await send(shop, feed.put(items[70:73]))
        await feed.agreed(shop)
        await feed.answered(shop)
        await wait_until(lambda: asyncio.to_thread(segments, live), 30, "a sealed segment")
        expected = await answers(shop, feed)
        await asyncio.to_thread(live.stop)

        again = await installation.worker(data="kept").ready()
        assert read_of_truths(again, shop) == 0, "it read again what its checkpoint holds"
        assert segments(again) > 0
        assert await answers(shop, feed) == expected
        await asyncio.to_thread(again.stop)

        rebuilt = await installation.worker(data="empty").ready()
        assert read_of_truths(rebuilt, shop) >= len(await shop.read(topics.ITEM_RECORDS))
        assert await answers(shop, feed) == expected
        assert not await shop.dead_letters()


async def test_killed_it_reads_on_from_its_last_checkpoint(
    installation: Installation, pictures: tuple[Path, list[str]]
) -> None:
    """After kill -9 a worker reads what came after its last checkpoint, and only that."""
    feed = Feed(pictures[1], seed=6)
    items = names(60)
    async with installation.shop() as shop:
        killed = await installation.worker("--stage", "index", "--stage", "serve", data="kept").ready()
        writer = await installation.worker("--stage", "track", "--stage", "embed").ready()
        await send(shop, feed.mixed(feed.put(items), feed.levels_of(items, 300)))
        await feed.agreed(shop)
        await saved(shop, installation.folder / "kept")
        killed.kill()
        before = [len(await shop.read(name)) for name in topics.TRUTHS]
        changes = feed.mixed(feed.reprice(items[:5]), feed.put(items[5:10]), feed.delete(items[10:15]))
        await send(shop, feed.mixed(changes, feed.levels_of(items, 20)))
        await feed.agreed(shop)
        after = [len(await shop.read(name)) for name in topics.TRUTHS]

        again = await installation.worker("--stage", "index", "--stage", "serve", data="kept").ready()

        await feed.answered(shop)
        assert read_of_truths(again, shop) == sum(after) - sum(before)
        await asyncio.to_thread(writer.stop)


async def test_an_old_checkpoint_brings_nothing_back(
    own_kafka: Callable[..., KafkaBroker], tmp_path: Path, pictures: tuple[Path, list[str]]
) -> None:
    """A checkpoint from before deletes whose tombstones are compacted away is not used: the deleted stay deleted."""
    broker = own_kafka(
        log_roll_ms="200",
        log_cleaner_backoff_ms="100",
        log_cleaner_min_cleanable_ratio="0.01",
    )
    installation = Installation(
        broker.bootstrap,
        "old-",
        tmp_path,
        image_root=str(pictures[0]),
        shards="1",
        compaction_lag_s="0",
        delete_retention_s="0.1",
    )
    feed = Feed(pictures[1], seed=7)
    deleted, kept, filler = names(10), names(20, 10), names(5, 90)
    try:
        async with installation.shop() as shop:
            first = await installation.worker(data="old").ready()
            await send(shop, feed.put([*deleted, *kept]))
            await feed.agreed(shop)
            await feed.answered(shop)
            await asyncio.to_thread(first.stop)
            await saved(shop, tmp_path / "old", count=1)

            other = await installation.worker(data="other").ready()
            await send(shop, feed.delete(deleted))
            await feed.agreed(shop)

            async def compacted() -> bool:
                """Whether the logs have forgotten the deleted; each try gives the cleaner something to do."""
                await send(shop, feed.put(filler))
                await feed.agreed(shop)
                for name in (topics.ITEM_RECORDS, topics.ITEM_EMBEDDINGS):
                    if {(record.key or b"").decode() for record in await shop.read(name)} & set(deleted):
                        return False
                return True

            await wait_until(compacted, 60, "compaction of the deletes")
            await asyncio.to_thread(other.stop)
            would_return = await trusting(shop, tmp_path / "old", tmp_path / "copy")
            assert all(would_return.item(item_id) for item_id in deleted), "the checkpoint was not from before"

            again = await installation.worker(data="old").ready()

            await feed.answered(shop)
            with pytest.raises(RequestFailed) as refused:
                await shop.similar(deleted[0])
            assert refused.value.status == 404
            assert "is not trusted" in again.log.read_text()
    finally:
        installation.close()


async def trusting(shop: Shop, folder: Path, copy: Path) -> Shard:
    """The shard as it would be if its old checkpoint were believed."""
    shutil.copytree(folder, copy)
    embedder = Embedder(SHIPPED)
    places = {name: TopicPartition(shop.topic(name), 0) for name in topics.TRUTHS}
    ends = await shop.ends(places.values())
    manifest = read_manifest(copy / "shard-0")
    assert manifest is not None
    shard = Shard.open(
        copy / "shard-0",
        0,
        ShardSettings(dimension=embedder.dimension + NUMBERS, colour=NUMBERS, model=embedder.model),
        cluster_id=manifest.cluster_id,
        now_ms=manifest.caught_up_ms,
        retention_ms=10**12,
        offsets={name: (0, ends[place]) for name, place in places.items()},
    )
    for name, place in places.items():
        since = [record for record in await shop.read(name) if record.offset >= shard.next_offsets[name]]
        changes = [(record.key.decode(), record.value) for record in since]
        assert not shard.apply(name, changes, ends[place], manifest.caught_up_ms)
    return shard
