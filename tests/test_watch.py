"""Watched lists on a real broker: pushed when they change, once, whatever becomes of the workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from streams import topics
from tests.brokers import TestBroker
from tests.installation import Installation, Shop
from tests.pictures import write_pictures
from tests.waiting import wait_until

ITEMS = 24
VOLATILE = ("watermark", "processingTimeMS", "objectID", "at", "reasons")


@pytest.fixture(scope="module")
def installation(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One worker with a small catalog of drawn pictures."""
    folder = tmp_path_factory.mktemp("watch")
    links = write_pictures(folder, None, ITEMS)
    made = Installation(broker.bootstrap, f"watch-{folder.stat().st_ino}-", folder, image_root=str(folder))
    asyncio.run(broker.create_topics({each.name: each.partitions for each in topics.topic_table(made.settings())}))
    made.worker()

    async def fill() -> None:
        await made.workers[0].ready()
        async with made.shop() as shop:
            await shop.catalog(
                {f"item-{n}": {"image": link, "kind": kind} for n, (link, kind) in enumerate(links.items())}
            )

            async def complete() -> bool:
                answer = await shop.client.ask({"requests": [{"objectID": "item-0", "maxRecommendations": 100}]}, 10)
                return answer["results"][0]["nbHits"] == ITEMS - 1

            await wait_until(complete, 60, "the catalog")

    asyncio.run(fill())
    yield made
    made.close()


@pytest_asyncio.fixture
async def shop(installation: Installation) -> AsyncIterator[Shop]:
    async with installation.shop() as shop:
        yield shop


async def lists(shop: Shop) -> dict[str, dict[str, Any]]:
    """The lists that stand on similar-changes, by item."""
    return {key: orjson.loads(value) for key, value in (await shop.last(topics.SIMILAR_CHANGES)).items()}


async def listed(shop: Shop, item_id: str) -> list[str] | None:
    """The ids of an item's pushed list; None: there is none."""
    found = (await lists(shop)).get(item_id)
    return None if found is None else [hit["objectID"] for hit in found["hits"]]


async def test_a_stock_event_becomes_a_new_list(shop: Shop) -> None:
    """A watched list is pushed at once, and again without the item that has sold out, with the reason."""
    await shop.send(topics.WATCH, "item-0", {"maxRecommendations": 5})
    before = await wait_until(lambda: listed(shop, "item-0"), 30, "the first list")
    assert before == await shop.ids("item-0", maxRecommendations=5)

    await shop.stock(before[1], 0)

    async def without() -> bool:
        return before[1] not in (await listed(shop, "item-0") or [])

    await wait_until(without, 30, "the list without what has sold out")
    message = (await lists(shop))["item-0"]
    assert message["reasons"] == [{"event": "stock", "objectID": before[1]}]
    assert [hit["objectID"] for hit in message["hits"]] == await shop.ids("item-0", maxRecommendations=5)
