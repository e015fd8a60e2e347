"""The whole flow on a real broker: catalog, stock and rules in, answers out, with pictures and a worker process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams import topics
from streams.settings import Settings
from tests.brokers import TestBroker
from tests.installation import Installation, Shop, installed
from tests.pictures import pictures_at_hand
from tests.waiting import wait_until

ITEMS = 60


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder of pictures, and category by link."""
    folder = tmp_path_factory.mktemp("pictures")
    return folder, pictures_at_hand(folder, ITEMS)


@pytest.fixture(scope="module")
def installation(
    broker: TestBroker, tmp_path_factory: pytest.TempPathFactory, pictures: tuple[Path, dict[str, str]]
) -> Iterator[Installation]:
    """An installation with one worker that all tests of this file share."""
    with installed(broker, tmp_path_factory.mktemp("flow"), image_root=str(pictures[0])) as made:
        yield made


def records_of(pictures: tuple[Path, dict[str, str]], suite: str, count: int = ITEMS) -> dict[str, dict[str, Any]]:
    """Records of a test, told apart from others' by `suite`."""
    return {
        f"{suite}-{number}": {"title": link, "category": category, "image": link, "price": 10 + number, "suite": suite}
        for number, (link, category) in enumerate(list(pictures[1].items())[:count])
    }


async def recommendable(shop: Shop, suite: str, count: int) -> None:
    """Wait until all items of a test can be recommended."""

    async def complete() -> bool:
        batch = {
            "requests": [{"objectID": f"{suite}-0", **only(suite), "maxRecommendations": 1000, "outOfStock": True}]
        }
        return (await shop.client.ask(batch, timeout_s=10))["results"][0].get("nbHits", 0) >= count - 1

    await wait_until(complete, 60, f"{count} items of {suite}")


def only(suite: str) -> dict[str, Any]:
    return {"queryParameters": {"filters": f"suite:{suite}"}}


async def test_catalog_to_answer(shop: Shop, pictures: tuple[Path, dict[str, str]]) -> None:
    """A catalog becomes recommendable, the look of an item finds its own kind more often than chance."""
    records = records_of(pictures, "first")
    await shop.catalog(records)
    await recommendable(shop, "first", ITEMS)

    same = total = 0
    for item_id, record in list(records.items())[:20]:
        hits = await shop.similar(item_id, **only("first"), maxRecommendations=5)
        assert item_id not in [hit["objectID"] for hit in hits]
        assert len(hits) == 5
        scores = [hit["_rankScore"] for hit in hits]
        assert scores == sorted(scores, reverse=True)
        same += sum(hit["category"] == record["category"] for hit in hits)
        total += len(hits)
    categories = [record["category"] for record in records.values()]
    chance = sum(categories.count(c) * (categories.count(c) - 1) for c in set(categories)) / ITEMS / (ITEMS - 1)
    assert same / total > 1.5 * chance, f"{same} of {total} of the same category, chance is {chance:.2f}"


async def test_stock_moves_the_ranking(shop: Shop, pictures: tuple[Path, dict[str, str]]) -> None:
    """Low stock goes down, sold out vanishes, back in stock returns; a late level changes nothing."""
    await shop.catalog(records_of(pictures, "stock", 20))
    await recommendable(shop, "stock", 20)
    ask = {**only("stock"), "maxRecommendations": 19}
    hits = await shop.similar("stock-0", **ask)
    before = [hit["objectID"] for hit in hits]
    place = next(n for n in range(18) if hits[n + 1]["_score"] > 0.8 * hits[n]["_score"])
    best = before[place]

    await shop.stock(best, 2, at=2_000)
    low = await wait_until(lambda: changed(shop, "stock-0", ask, before), 10, "low stock goes down")
    assert low.index(best) > place

    await shop.stock(best, 0, at=3_000)
    gone = await wait_until(lambda: changed(shop, "stock-0", ask, low), 10, "sold out vanishes")
    assert best not in gone
    assert best in await shop.ids("stock-0", **ask, outOfStock=True)

    await shop.stock(best, 50, at=2_500)
    await shop.stock(before[place + 1], 0, at=3_000)
    late = await wait_until(lambda: changed(shop, "stock-0", ask, gone), 10, "the next one vanishes")
    assert best not in late, "a late level counted"

    await shop.stock(best, 50, at=4_000)
    back = await wait_until(lambda: changed(shop, "stock-0", ask, late), 10, "back in stock")
    assert back.index(best) == place
    assert await shop.alerts(best) == ["new", "low_stock", "out_of_stock", "back_in_stock"]


async def changed(shop: Shop, item_id: str, ask: dict[str, Any], before: list[str]) -> list[str] | None:
    """The hits if they are others than before."""
    now = await shop.ids(item_id, **ask)
    return now if now != before else None


async def test_sale_moves_up(shop: Shop, pictures: tuple[Path, dict[str, str]]) -> None:
    """An item that goes on sale moves up, without a new embedding; its look keeps its score."""
    records = records_of(pictures, "sale", 20)
    await shop.catalog(records)
    await recommendable(shop, "sale", 20)
    ask = {**only("sale"), "maxRecommendations": 19}
    before = await shop.similar("sale-0", **ask)
    third = before[2]
    embedded = len(await shop.read(topics.IMAGE_CHANGES))

    await shop.catalog({third["objectID"]: records[third["objectID"]] | {"list_price": 1000}})

    async def raised() -> dict[str, Any] | None:
        hits = await shop.similar("sale-0", **ask)
        found = next(hit for hit in hits if hit["objectID"] == third["objectID"])
        return found if found["_rankScore"] > third["_rankScore"] else None

    after = await wait_until(raised, 10, "the sale's boost")
    assert after["_score"] == third["_score"]
    assert after["_rankScore"] == pytest.approx(third["_score"] * 1.15, abs=0.02)
    assert len(await shop.read(topics.IMAGE_CHANGES)) == embedded, "a price change asked for an image"


async def test_delete_and_recreate(shop: Shop, pictures: tuple[Path, dict[str, str]]) -> None:
    """A deleted item is gone from answers and truths at once; written again it returns."""
    records = records_of(pictures, "delete", 12)
    await shop.catalog(records)
    await recommendable(shop, "delete", 12)
    ask = {**only("delete"), "maxRecommendations": 11}
    victim = (await shop.ids("delete-0", **ask))[0]

    await shop.catalog({victim: None})
    before = await wait_until(lambda: without(shop, "delete-0", ask, victim), 10, "the deleted item is gone")
    assert len(before) == 10
    for name in (topics.ITEM_RECORDS, topics.ITEM_EMBEDDINGS):

        async def deleted(name: str = name) -> bool:
            return victim not in await shop.last(name)

        await wait_until(deleted, 10, f"{victim} is deleted from {name}")
    batch = await shop.client.ask({"requests": [{"objectID": victim}]}, timeout_s=10)
    assert batch["results"][0]["status"] == 404
    assert batch["results"][0]["hits"] == []

    await shop.catalog({victim: records[victim]})
    await recommendable(shop, "delete", 12)


async def without(shop: Shop, item_id: str, ask: dict[str, Any], victim: str) -> list[str] | None:
    now = await shop.ids(item_id, **ask)
    return now if victim not in now else None


async def test_repeated_records_cost_nothing(shop: Shop, pictures: tuple[Path, dict[str, str]]) -> None:
    """A catalog that is written again changes no truth and asks for no image."""
    records = records_of(pictures, "again", 10)
    await shop.catalog(records)
    await recommendable(shop, "again", 10)
    names = (topics.ITEM_RECORDS, topics.ITEM_EMBEDDINGS, topics.IMAGE_CHANGES)
    before = {name: len(await shop.read(name)) for name in names}

    await shop.catalog(records)
    await shop.catalog({"again-marker": {"suite": "again"}})

    async def marker() -> bool:
        return "again-marker" in await shop.last(topics.ITEM_RECORDS)

    await wait_until(marker, 10, "the marker behind the repeated records")
    after = {name: len(await shop.read(name)) for name in names}
    assert after[topics.ITEM_RECORDS] == before[topics.ITEM_RECORDS] + 1
    assert after[topics.IMAGE_CHANGES] == before[topics.IMAGE_CHANGES]
    assert after[topics.ITEM_EMBEDDINGS] == before[topics.ITEM_EMBEDDINGS]


async def test_colour_counts_as_much_as_is_asked_for(shop: Shop, pictures: tuple[Path, dict[str, str]]) -> None:
    """By item and by picture: the same index answers every weight, and the reasons add up to the scores."""
    records = records_of(pictures, "colour", 24)
    await shop.catalog(records)
    await recommendable(shop, "colour", 24)
    orders = {}
    by_default = Settings().colour
    for weight in (0, by_default, 0.3, 1):
        hits = await shop.similar("colour-0", **only("colour"), colour=weight, explain=True, maxRecommendations=24)
        orders[weight] = [hit["objectID"] for hit in hits]
        for hit in hits:
            parts = hit["_explain"]["parts"]
            assert parts["colourWeight"] == weight
            mixed = (1 - weight) * parts["look"] + weight * parts["colour"]
            assert hit["_score"] == pytest.approx(100 * max(0.0, mixed), abs=0.05)
    plain = await shop.similar("colour-0", **only("colour"), maxRecommendations=24)

    assert [hit["objectID"] for hit in plain] == orders[by_default]
    assert orders[1] != orders[0]
    picture = records["colour-7"]["image"]
    for weight in (0, 0.5, 1):
        body = {"image": picture, **only("colour"), "colour": weight, "maxRecommendations": 1}
        (hit,) = (await shop.client.ask(body, timeout_s=10))["hits"]
        assert (hit["objectID"], hit["_score"]) == ("colour-7", pytest.approx(100, abs=0.1))
