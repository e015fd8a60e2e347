"""A running worker with keys and a small catalog of drawn pictures, for tests that come in over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streams import topics
from tests.brokers import TestBroker
from tests.installation import Installation
from tests.pictures import write_pictures
from tests.waiting import wait_until

ITEMS = 24
SEARCH, ADMIN = "search-key", "admin-key"


def item_id(number: int) -> str:
    """Ids have a slash and a space: both must survive a URL."""
    return f"shop/item {number}"


@contextmanager
def storefront(broker: TestBroker, folder: Path) -> Iterator[Installation]:
    """One worker whose catalog of `ITEMS` items can be asked."""
    links = write_pictures(folder, None, ITEMS)
    installation = Installation(
        broker.bootstrap,
        f"{folder.name}-{folder.stat().st_ino}-",
        folder,
        image_root=str(folder),
        search_key=SEARCH,
        admin_key=ADMIN,
    )
    asyncio.run(
        broker.create_topics({each.name: each.partitions for each in topics.topic_table(installation.settings())})
    )
    try:
        worker = installation.worker()

        async def fill() -> None:
            await worker.ready()
            async with installation.shop() as shop:
                await shop.catalog(
                    {
                        item_id(n): {"image": link, "category": kind, "title": f"{kind} no. {n}", "price": n}
                        for n, (link, kind) in enumerate(links.items())
                    }
                )

                async def complete() -> bool:
                    answer = await shop.client.ask({"requests": [{"objectID": item_id(0)}]}, timeout_s=10)
                    return bool(answer["results"][0].get("nbHits") == ITEMS - 1)

                await wait_until(complete, 60, "the catalog")

        asyncio.run(fill())
        yield installation
    finally:
        installation.close()
