"""A shop's feed for tests of recovery: seeded events, and what the truths must be once all of them are in.

What is expected is worked out here by plain dictionaries, in the order of sending; nothing of the product helps.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from streams import topics
from streams.client import RequestFailed
from tests.installation import Shop
from tests.waiting import wait_until

T = 1_700_000_000_000
"""Some time, Unix ms."""


class Event(NamedTuple):
    """A message for one of the topics that shops write."""

    topic: str
    key: str
    value: dict[str, Any] | None


class Feed:
    """Makes events and remembers what each item is after them."""

    def __init__(self, links: Sequence[str], seed: int = 1) -> None:
        self.links = tuple(links)
        self.records: dict[str, dict[str, Any]] = {}
        self.levels: dict[str, tuple[float, int]] = {}
        self._random = random.Random(seed)
        self._count = itertools.count(1)

    # Events.

    def put(self, item_ids: Iterable[str]) -> list[Event]:
        """New or changed records, each with one or two pictures of its own choice."""
        return [self._put(item_id) for item_id in item_ids]

    def reprice(self, item_ids: Iterable[str]) -> list[Event]:
        """Changed records with the pictures that they had."""
        return [self._put(item_id, self.records[item_id]["images"]) for item_id in item_ids]

    def _put(self, item_id: str, images: Sequence[str] | None = None) -> Event:
        number = next(self._count)
        images = images or self._random.sample(self.links, self._random.randint(1, 2))
        record = {"title": f"revision {number}", "price": 1 + number % 90, "revision": number, "images": list(images)}
        self.records[item_id] = record
        return Event(topics.CATALOG_CHANGES, item_id, record)

    def delete(self, item_ids: Iterable[str]) -> list[Event]:
        """Deletes."""
        return [self._delete(item_id) for item_id in item_ids]

    def _delete(self, item_id: str) -> Event:
        del self.records[item_id]
        return Event(topics.CATALOG_CHANGES, item_id, None)

    def levels_of(self, item_ids: Sequence[str], count: int) -> list[Event]:
        """Levels of stock, each of another time; one in ten comes late."""
        return [self._level(self._random.choice(item_ids)) for _ in range(count)]

    def _level(self, item_id: str) -> Event:
        number = next(self._count)
        late = self._random.randint(1, 500) if self._random.random() < 0.1 else 0
        at = T + (number - late) * 100_000 + number  # no two are of the same time
        quantity = self._random.choice((0, 0, 1, 3, 8, 40, 200))
        if item_id not in self.levels or at > self.levels[item_id][1]:
            self.levels[item_id] = (quantity, at)
        return Event(topics.STOCK_LEVELS, item_id, {"quantity": quantity, "at": at})

    def mixed(self, *kinds: list[Event]) -> list[Event]:
        """Events of several kinds shuffled into each other; each kind keeps its order."""
        order = [number for number, events in enumerate(kinds) for _ in events]
        self._random.shuffle(order)
        queues = [iter(events) for events in kinds]
        return [next(queues[number]) for number in order]

    # What must be.

    @property
    def sold_out(self) -> set[str]:
        """Items that must not be recommended."""
        return {item_id for item_id, (quantity, _) in self.levels.items() if quantity <= 0}

    async def disagreements(self, shop: Shop) -> list[str]:
        """How the last messages of the truths differ from what they must be; empty when they do not."""
        records, stocks, embeddings = await asyncio.gather(*(shop.last(name) for name in topics.TRUTHS))
        stands = {key: orjson.loads(value) for key, value in records.items()}
        found = _differences(
            "record",
            {key: {"objectID": key, **record} for key, record in self.records.items()},
            {key: each["record"] for key, each in stands.items()},
        )
        levels = {key: orjson.loads(value) for key, value in stocks.items()}
        found += _differences(
            "level", self.levels, {key: (each["quantity"], each["at"]) for key, each in levels.items()}
        )
        versions = {key: each["image_version"] for key, each in stands.items()}
        found += _differences(
            "embedding",
            {key: (versions.get(key), dict.fromkeys(record["images"], True)) for key, record in self.records.items()},
            {key: _embedded(value) for key, value in embeddings.items()},
        )
        return found

    async def agreed(self, shop: Shop, deadline_s: float = 60.0) -> None:
        """Wait until the truths are what they must be."""
        last: list[str] = []

        async def agree() -> bool:
            nonlocal last
            last = await self.disagreements(shop)
            return not last

        await wait_until(agree, deadline_s, lambda: f"the truths to agree, but {len(last)} differ: {last[:5]}")

    async def answered(self, shop: Shop, deadline_s: float = 20.0) -> None:
        """Wait until answers hold every item as it must be, and none that is gone or sold out."""
        seed = min(self.records)
        every = {key: record["revision"] for key, record in self.records.items() if key != seed}
        for out_of_stock in (True, False):
            expected = {key: each for key, each in every.items() if out_of_stock or key not in self.sold_out}
            last: list[str] = []

            async def right(expected: dict[str, int] = expected, out_of_stock: bool = out_of_stock) -> bool:
                nonlocal last
                try:
                    hits = await shop.similar(seed, maxRecommendations=1000, outOfStock=out_of_stock)
                except RequestFailed as failed:
                    if failed.status != 404:
                        raise
                    last = [str(failed)]  # the truths have the item, and the index is about to
                    return False
                last = _differences("hit", expected, {hit["objectID"]: hit["revision"] for hit in hits})
                return not last

            await wait_until(right, deadline_s, lambda: f"the right answer, but {len(last)} differ: {last[:5]}")  # noqa: B023


def _embedded(value: bytes) -> tuple[int, dict[str, bool]]:
    message = orjson.loads(value)
    return message["image_version"], {each["link"]: bool(each.get("vector")) for each in message["images"]}


def _differences(what: str, expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return [
        f"{what} {key}: expected {expected.get(key)}, got {found.get(key)}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]


async def send(shop: Shop, events: Iterable[Event]) -> None:
    """Write events in their order, and wait until they are there."""
    sent = []
    for event in events:
        body = None if event.value is None else orjson.dumps(event.value)
        sent.append(await shop.producer.send(shop.topic(event.topic), body, key=event.key.encode()))
    await asyncio.gather(*sent)


def names(count: int, begin: int = 0) -> list[str]:
    """Item ids."""
    return [f"item-{number:03d}" for number in range(begin, begin + count)]
