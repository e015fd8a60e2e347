"""The same log gives byte-identical answers: a worker that reads it later, in one go, answers as the one that lived it.

The first worker sees a catalog grow and change, seals and merges segments on the way, and reads rules come and go.  The
second starts from nothing when all is over, and finds what the broker still has.  Both are asked the same.
"""

from __future__ import annotations

import asyncio
import base64
import random
import re
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import orjson
import pytest
from aiokafka.structs import ConsumerRecord

from streams import topics
from tests.brokers import TestBroker
from tests.installation import Installation, Shop, WorkerProcess, installed
from tests.pictures import write_pictures
from tests.waiting import wait_until

ITEMS = 72
ROUNDS = 4
SEEDS = {"item-20", "item-21", "item-33"}
"""What is asked for stays in the catalog."""
RECOMMEND = "/1/indexes/*/recommendations"
OWN = re.compile(rb'"(?:processingTimeMS":\d+|queryID":"[0-9a-f]+"|lagMS":\d+)')
"""What a worker may say otherwise: how long it took, an id that is drawn, how far behind it reads."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replay")


@pytest.fixture(scope="module")
def installation(broker: TestBroker, folder: Path) -> Iterator[Installation]:
    """A worker that has lived through it all; its shards are sealed whenever they have 16 rows more."""
    links = list(write_pictures(folder, None, ITEMS).items())
    small = {"segment_rows_min": "16", "delta_rows_max": "16", "checkpoint_interval_s": "0.5"}
    with installed(broker, folder, image_root=str(folder), **small) as made:
        asyncio.run(lived(made, links))
        yield made


async def lived(made: Installation, links: list[tuple[str, str]]) -> None:
    """Everything that may happen to a catalog, some of it twice, in rounds that are answered from in between."""
    chance = random.Random(7)
    worker = await made.workers[0].ready()
    async with made.shop() as shop:
        there: dict[str, dict[str, Any]] = {}
        for number in range(ROUNDS):
            for at in range(number * ITEMS // ROUNDS, (number + 1) * ITEMS // ROUNDS):
                there[f"item-{at}"] = record(at, links, chance)
            changed = dict(chance.sample(sorted(there.items()), 8))
            await shop.catalog(there if number == 0 else dict(list(there.items())[-ITEMS // ROUNDS :]))
            await shop.catalog({key: value | {"price": chance.randrange(5, 90)} for key, value in changed.items()})
            for item_id in chance.sample(sorted(there), 12):
                await shop.stock(item_id, chance.choice([0, 2, 3, 40]), at=1_700_000_000_000 + chance.randrange(10**6))
            for gone in chance.sample(sorted(there.keys() - SEEDS), 3):
                await shop.catalog({gone: None})
                if chance.random() < 0.5:
                    await shop.catalog({gone: there[gone]})
            for rule_id, rule in rules(number).items():
                await shop.send(topics.RULE_CHANGES, rule_id, rule)
            await settled(shop, worker)


def record(number: int, links: list[tuple[str, str]], chance: random.Random) -> dict[str, Any]:
    """An item with one to three pictures, one of them a `data:` link now and then."""
    images = [links[(number + step) % len(links)][0] for step in range(chance.choice([1, 1, 2, 3]))]
    return {
        "image": images[0],
        "additional_image_link": images[1:],
        "title": f"Größe {number} – “{links[number][1]}”",
        "category": links[number][1],
        "price": chance.randrange(5, 90),
        "list_price": 60,
        "group": f"family-{number // 4}",
        "tags": chance.sample(["a", "b", "c", "d"], 2),
        "nested": {"size": number % 5},
    }


def rules(number: int) -> Mapping[str, Any]:
    """What becomes of the rules in a round: some are replaced, one goes, one cannot be understood."""
    boosts = {"boosts": [{"filters": f"price < {20 + number}", "factor": 1 + number / 10}]}
    return {
        "boost": {"condition": {"filters": "price > 10"}, "consequence": {"params": boosts}},
        "pin": {
            "condition": {"context": "pinned"},
            "consequence": {"promote": [{"objectID": f"item-{number}", "position": number % 3}]},
        },
        "gone": None if number % 2 else {"consequence": {"hide": [{"objectID": "item-1"}]}},
        "hidden": {"consequence": {"hide": [{"objectID": f"item-{number * 3}"}]}},
        "bad": {"condition": {"filters": "price <"}},
        "same": {
            "condition": {"context": "same"},
            "consequence": {"params": {"automaticFacetFilters": [{"facet": "category"}]}},
        },
    }


async def settled(shop: Shop, *workers: WorkerProcess) -> None:
    """Wait until all that was written has been handled, and is in the workers' shards."""
    names = (topics.ITEM_RECORDS, topics.ITEM_STOCKS, topics.ITEM_EMBEDDINGS, topics.RULE_CHANGES, topics.IMAGE_CHANGES)
    ends: list[int] = []

    async def quiet() -> bool:
        nonlocal ends
        before, ends = ends, [len(await shop.read(name)) for name in names]
        waiting = [await asyncio.to_thread(worker.metric, "kindred_lag") for worker in workers]
        sealing = [
            shard["sealing"]
            for worker in workers
            for shard in (await asyncio.to_thread(worker.status))["stages"]["index"]["shards"].values()
        ]
        return ends == before and not any(waiting) and not any(sealing)

    await wait_until(quiet, 90, lambda: f"all to be handled; {dict(zip(names, ends, strict=True))}")


def requests(picture: bytes, link: str) -> dict[str, dict[str, Any]]:
    """A request of each kind, and of some together."""
    data = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
    item: dict[str, Any] = {"objectID": "item-20"}

    def query(**parameters: Any) -> dict[str, Any]:
        return item | {"queryParameters": parameters}

    return {
        "plain": item,
        "all": item | {"maxRecommendations": 1000, "outOfStock": True},
        "several": {"objectIDs": ["item-20", {"objectID": "item-33", "weight": 2}, "nobody"]},
        "unlike": item | {"unlike": [{"objectID": "item-21", "weight": 0.8}, {"image": link}]},
        "image": {"image": link},
        "data": {"image": data},
        "crop": {"image": {"url": link, "crop": [0.2, 0.2, 0.5, 0.6]}},
        "item and image": item | {"image": link},
        "filters": query(filters="(price < 50 OR tags:a) AND NOT nested.size = 3"),
        "facets": query(facetFilters=[["tags:a", "tags:b"], "category:-x"], numericFilters=["price>10"]),
        "optional": query(optionalFilters=["tags:b<score=4>", "on_sale:-true"], sumOrFiltersScores=True),
        "contexts": query(ruleContexts=["pinned", "same"]),
        "without rules": query(enableRules=False),
        "distinct": query(distinct=True),
        "diversity": item | {"diversity": 0.6},
        "same": item | {"sameAs": ["category"]},
        "threshold": item | {"threshold": 20},
        "fallback": item | {"threshold": 99, "fallbackParameters": {"filters": "price > 30"}},
        "fallback alone": {"objectID": "nobody", "fallbackParameters": {}, "maxRecommendations": 50},
        "walk": item | {"walk": {"steps": 12, "leash": 0, "seed": 5}},
        "explain": item | {"explain": True},
        "explain all": query(filters="price < 60", ruleContexts=["pinned", "same"], distinct=True)
        | {"explain": True, "diversity": 0.3, "threshold": 5},
        "explain a walk": item | {"walk": {"steps": 5}, "explain": True},
        "attributes": query(attributesToRetrieve=["title", "stock", "on_sale"], highlightPreTag="<b>"),
        "click": query(clickAnalytics=True),
        "colour": item | {"colour": 0.5},
        "unknown": {"objectID": "nobody"},
        "mistake": query(filters="price < 10 price"),
    }


async def posted(worker: WorkerProcess, body: Any) -> bytes:
    """The bytes of a worker's answer, without what is its own."""

    def post() -> bytes:
        url = f"http://127.0.0.1:{worker.port}{RECOMMEND}"
        try:
            with urllib.request.urlopen(url, orjson.dumps(body), timeout=60) as answer:
                return bytes(answer.read())
        except HTTPError as error:
            return error.read()

    return OWN.sub(rb'"own":0', await asyncio.to_thread(post))


async def replied(shop: Shop, bodies: Mapping[str, Any]) -> dict[str, bytes]:
    """The bytes of the replies on the topic, without what is a worker's own."""
    names = {uuid.uuid4().bytes: name for name in bodies}
    for correlation, name in names.items():
        headers = [("kafka_correlationId", correlation)]
        await shop.send(topics.SIMILAR_REQUESTS, name, bodies[name], headers=headers)

    missing: set[bytes] = set()

    async def found() -> list[ConsumerRecord] | None:
        nonlocal missing
        records = await shop.read(topics.SIMILAR_RESPONSES)
        mine = [one for one in records if dict(one.headers).get("kafka_correlationId") in names]
        missing = names.keys() - {dict(one.headers)["kafka_correlationId"] for one in mine}
        return None if missing else mine

    records = await wait_until(found, 60, lambda: f"replies to {[names[each] for each in missing]}")
    return {names[dict(one.headers)["kafka_correlationId"]]: OWN.sub(rb'"own":0', one.value) for one in records}


async def test_a_second_worker_answers_with_the_same_bytes(
    shop: Shop, installation: Installation, folder: Path
) -> None:
    """Requests of all kinds, one by one and in a batch, over HTTP and on the topic."""
    first = installation.workers[0]
    assert first.metric("kindred_shard_seals", kind="seals") > 0, "the first has segments that the second never made"
    link = next(folder.glob("*.jpg"))
    bodies = requests(link.read_bytes(), link.name)
    batch = {"requests": list(bodies.values())}
    on_topic = await replied(shop, bodies)

    second = await installation.worker().ready()
    await settled(shop, first, second)

    for name, body in bodies.items():
        expected = await posted(first, body)
        assert expected == await posted(second, body), name
        assert expected == await posted(first, body), f"{name}, asked again"
    whole = await posted(first, batch)
    assert whole == await posted(second, batch)
    results = orjson.loads(whole)
    empty = [name for name, result in zip(bodies, results["results"], strict=True) if not result["hits"]]
    assert empty == ["unknown", "mistake"]

    first.stop()
    await second.ready()
    assert on_topic == await replied(shop, bodies)
