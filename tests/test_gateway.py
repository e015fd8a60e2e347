"""The HTTP gateway of a running worker: hits, rules written and seen, keys, and a flood that must not stop it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio

from streams import topics
from streams.gateway.rules import RULES_MAX
from tests.brokers import TestBroker
from tests.installation import Installation, Shop, free_port
from tests.storefront import ADMIN, ITEMS, SEARCH, storefront
from tests.waiting import wait_until

RECOMMEND = "/1/indexes/*/recommendations"
RULES = "/1/indexes/items/looking-similar/recommend/rules/"
TASK = "/1/indexes/items/looking-similar/task/"


@pytest.fixture(scope="module")
def installation(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with storefront(broker, tmp_path_factory.mktemp("gateway")) as installation:
        yield installation


class Gateway:
    """A client that knows nothing but HTTP."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def call(self, method: str, path: str, body: Any = None, key: str = ADMIN) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        data = body if isinstance(body, bytes | None) else orjson.dumps(body)
        async with self.session.request(method, path, data=data, headers={"x-algolia-api-key": key}) as answer:
            return answer.status, await answer.json(content_type=None)

    async def ids(self, item_id: str, **fields: Any) -> list[str]:
        """Ids of the hits, best first."""
        status, body = await self.call("POST", RECOMMEND, {"requests": [{"objectID": item_id, **fields}]}, SEARCH)
        assert status == 200, body
        return [hit["objectID"] for hit in body["results"][0]["hits"]]

    async def written(self, status: int, body: Any) -> None:
        """Wait until the task of a write is published."""
        assert status == 200, body

        async def published() -> bool:
            code, answer = await self.call("GET", f"{TASK}{body['taskID']}", key=SEARCH)
            assert code == 200, answer
            return answer["status"] == "published"

        await wait_until(published, 5, "the write in force")


@pytest_asyncio.fixture
async def gateway(installation: Installation) -> AsyncIterator[Gateway]:
    port = installation.workers[0].port
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        gateway = Gateway(session)
        yield gateway
        await gateway.written(*await gateway.call("POST", RULES + "batch?clearExistingRules=true", []))


async def test_the_same_answer_as_on_the_topic(gateway: Gateway, shop: Shop) -> None:
    """HTTP and Kafka give the same hits, byte for byte, with every field of the contract."""
    request = {"objectID": "shop/item 3", "maxRecommendations": 5, "queryParameters": {"filters": "price < 20"}}
    status, body = await gateway.call("POST", RECOMMEND, {"requests": [request, {"objectID": "nobody"}]}, SEARCH)
    on_topic = await shop.client.ask({"requests": [request]}, timeout_s=10)

    assert status == 200
    result, unknown = body["results"]
    assert on_topic["results"][0]["hits"] == result["hits"]
    assert len(result["hits"]) == 5
    assert (result["index"], result["coverage"]["share"]) == ("items", 1.0)
    assert (unknown["hits"], unknown["status"]) == ([], 404)


async def test_images_over_http(gateway: Gateway, shop: Shop) -> None:
    """A request by image finds the item of that image; one that cannot be used is a 400 when it is alone."""
    link = (await shop.similar("shop/item 1", maxRecommendations=1))[0]["image"]
    status, body = await gateway.call("POST", RECOMMEND, {"image": link, "maxRecommendations": 1}, SEARCH)
    assert status == 200
    assert body["hits"][0]["_score"] > 99

    status, body = await gateway.call("POST", RECOMMEND, {"image": "file:///etc/passwd"}, SEARCH)
    assert (400, 400) == (status, body["status"])
    both = {"requests": [{"image": "file:///etc/passwd"}, {"objectID": "shop/item 1"}]}
    status, body = await gateway.call("POST", RECOMMEND, both, SEARCH)
    assert status == 200
    assert body["results"][0]["status"] == 422
    pictures = [[{"image": f"{entry}-{number}.jpg"} for number in range(60)] for entry in range(2)]
    many = {"requests": [{"objectID": "shop/item 1", "unlike": each} for each in pictures]}
    status, body = await gateway.call("POST", RECOMMEND, many, SEARCH)
    assert status == 400
    assert "100 images" in body["message"]


async def test_rules_are_written_through_and_seen(gateway: Gateway, shop: Shop) -> None:
    """A rule stands on the topic as it was written, is found, steers the next answer, and is gone after its delete."""
    before = await gateway.ids("shop/item 2", maxRecommendations=10)
    rule = {
        "objectID": "hide/one two",
        "description": "Hidden für alle",
        "consequence": {"hide": [{"objectID": before[0]}]},
    }
    other = {"objectID": "b", "enabled": False, "condition": {"context": "mobile", "filters": "price > 3"}}
    status, body = await gateway.call("POST", RULES + "batch", [rule, other])
    assert body["updatedAt"].endswith("Z")
    await gateway.written(status, body)

    assert before[1:] == (await gateway.ids("shop/item 2", maxRecommendations=10))[:9]
    stored = await shop.last(topics.RULE_CHANGES)
    assert rule == orjson.loads(stored["hide/one two"])
    status, found = await gateway.call("GET", RULES + "hide%2Fone%20two")
    assert status == 200
    assert rule == {name: value for name, value in found.items() if name != "_metadata"}
    assert found["_metadata"]["lastUpdate"]

    status, body = await gateway.call("DELETE", RULES + "hide%2Fone%20two")
    assert body["deletedAt"].endswith("Z")
    await gateway.written(status, body)
    assert before == await gateway.ids("shop/item 2", maxRecommendations=10)
    assert 404 == (await gateway.call("GET", RULES + "hide%2Fone%20two"))[0]
    assert "hide/one two" not in await shop.last(topics.RULE_CHANGES)
    await gateway.written(*await gateway.call("DELETE", RULES + "never-there"))


async def test_searching_rules(gateway: Gateway) -> None:
    """Rules are found by their words, context, state and attributes, page by page."""
    rules: list[dict[str, Any]] = [
        {"objectID": f"r{n}", "description": f"number {n} of {'many' if n % 2 else 'few'}"} for n in range(5)
    ]
    rules[1]["condition"] = {"context": "mobile"}
    rules[2]["enabled"] = False
    await gateway.written(*await gateway.call("POST", RULES + "batch", rules))

    async def search(**asked: Any) -> tuple[list[str], dict[str, Any]]:
        status, body = await gateway.call("POST", RULES + "search", asked)
        assert status == 200, body
        return [rule["objectID"] for rule in body["hits"]], body

    ids, body = await search()
    assert ["r1", "r0", "r2", "r3", "r4"] == ids, "in the order of precedence"
    assert (5, 0, 1) == (body["nbHits"], body["page"], body["nbPages"])
    assert ["r1", "r3"] == (await search(query="MANY number"))[0]
    assert ["r1"] == (await search(context="mobile"))[0]
    assert ["r2"] == (await search(enabled=False))[0]
    assert ["r0"] == (await search(filters="objectID:r0"))[0]
    ids, body = await search(hitsPerPage=2, page=2)
    assert (["r4"], 5, 3) == (ids, body["nbHits"], body["nbPages"])
    assert (await search(facets=["condition.context"]))[1]["facets"] == {"condition.context": {"mobile": 1}}
    assert 200 == (await gateway.call("POST", RULES + "search", b""))[0]
    mistakes: list[dict[str, Any]] = [{"hitsPerPage": 0}, {"page": "1"}, {"filters": "a AND"}, {"nothing": 1}]
    for bad in mistakes:
        status, body = await gateway.call("POST", RULES + "search", bad)
        assert (400, 400) == (status, body["status"])


async def test_clearing_rules(gateway: Gateway, shop: Shop) -> None:
    """With clearExistingRules only what the batch has is left, also where a rule of the topic was not understood."""
    await shop.send(topics.RULE_CHANGES, "broken", b"{not json")
    await shop.send(topics.RULE_CHANGES, "by-others", {"description": "x"})
    await gateway.written(*await gateway.call("POST", RULES + "batch", [{"objectID": "old"}, {"objectID": "kept"}]))
    status, body = await gateway.call("POST", RULES + "batch?clearExistingRules=true", [{"objectID": "kept"}])
    await gateway.written(status, body)

    assert {"kept"} == set(await shop.last(topics.RULE_CHANGES))
    assert ["kept"] == [rule["objectID"] for rule in (await gateway.call("POST", RULES + "search", {}))[1]["hits"]]
    assert 400 == (await gateway.call("POST", RULES + "batch?clearExistingRules=perhaps", []))[0]


@pytest.mark.parametrize(
    "body",
    [
        b'[{"objectID":"fine"},{"objectID":"bad","condition":{"filters":"price >"}}]',
        b'[{"objectID":"fine"},{"objectID":"bad","consequence":{"promote":[{"objectID":"x","position":-1}]}}]',
        b'[{"objectID":"fine"},{"objectID":""}]',
        b'[{"objectID":"fine"},{"description":"no id"}]',
        b'[{"objectID":"fine"},{"objectID":7}]',
        b'[{"objectID":"fine"},{"objectID":"a","objectID":"b"}]',
        b'[{"objectID":"fine"},7]',
        b'[{"objectID":"fine"},{"objectID":"' + b"x" * 600 + b'"}]',
        b'[{"objectID":"fine","description":"\xff"}]',
        b'[{"objectID":"fine","validity":[{"from":1e999}]}]',
        b'[{"objectID":"fine","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}]",
        b"[" * 100_000,
        b'{"objectID":"fine"}',
        b"[" + b'{"objectID":"a"},' * RULES_MAX + b'{"objectID":"fine"}]',
        b"nonsense",
    ],
)
async def test_a_batch_with_a_mistake_is_not_written(gateway: Gateway, body: bytes) -> None:
    """All or nothing: one rule that is not understood is a 400, and the good ones beside it are not written."""
    status, answer = await gateway.call("POST", RULES + "batch", body)

    assert (400, 400) == (status, answer["status"])
    assert 0 < len(answer["message"]) < 1_000
    assert 404 == (await gateway.call("GET", RULES + "fine"))[0]


async def test_a_large_batch(gateway: Gateway) -> None:
    """Two thousand rules at once; an empty batch is a write that is in force already."""
    rules = [{"objectID": f"many-{n}", "condition": {"context": f"c{n}"}} for n in range(2_000)]
    await gateway.written(*await gateway.call("POST", RULES + "batch", rules))
    assert 2_000 == (await gateway.call("POST", RULES + "search", {}))[1]["nbHits"]
    for body in (b"[]", b"{}", b""):
        await gateway.written(*await gateway.call("POST", RULES + "batch", body))


async def test_a_task_that_is_not_there_yet(gateway: Gateway) -> None:
    """A taskID beyond what this worker has read is not published."""
    assert (200, {"status": "notPublished"}) == await gateway.call("GET", TASK + "9007199254740991")


async def test_rules_of_elsewhere_are_in_force_too(gateway: Gateway, shop: Shop) -> None:
    """What others write to the topic is found by the calls, and what is no rule leaves the earlier version."""
    await shop.send(topics.RULE_CHANGES, "theirs", {"description": "first"})

    async def there() -> bool:
        return (await gateway.call("GET", RULES + "theirs"))[0] == 200

    await wait_until(there, 10, "the rule")
    await shop.send(topics.RULE_CHANGES, "theirs", b"{broken")
    await gateway.written(*await gateway.call("POST", RULES + "batch", [{"objectID": "mine"}]))

    assert (await gateway.call("GET", RULES + "theirs"))[1]["description"] == "first"


async def test_a_worker_without_its_broker_is_alive(tmp_path: Path) -> None:
    """The pages answer before there is a broker: alive, not ready, and why."""
    installation = Installation(f"127.0.0.1:{free_port()}", "nobody-", tmp_path)
    worker = installation.worker()
    try:

        async def alive() -> bool:
            return (await asyncio.to_thread(worker.page, "/livez"))[0] == 200

        await wait_until(alive, 30, worker.tail)
        code, text = await asyncio.to_thread(worker.page, "/readyz")
        assert code == 503
        assert "broker" in text
        await asyncio.to_thread(worker.stop)
    finally:
        installation.close()


async def test_a_flood_does_not_stop_the_stages(gateway: Gateway, shop: Shop, installation: Installation) -> None:
    """While many clients ask over HTTP without pause, requests on the topic are answered and stock events arrive."""
    worker = installation.workers[0]
    over = False
    statuses: list[int] = []

    async def flood() -> None:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{worker.port}") as session:
            while not over:
                body = orjson.dumps({"requests": [{"objectID": f"shop/item {n % ITEMS}"} for n in range(10)]})
                headers = {"x-algolia-api-key": SEARCH}
                async with session.post(RECOMMEND, data=body, headers=headers) as answer:
                    await answer.read()
                    statuses.append(answer.status)

    floods = [asyncio.create_task(flood()) for _ in range(100)]
    try:
        await wait_until(lambda: 429 in statuses, 30, "the flood to be more than there is room for")
        for number in range(3):
            await shop.stock("shop/item 5", 1_000 + number)
            began_s = time.monotonic()

            async def arrived(level: int = 1_000 + number) -> bool:
                ask = {"queryParameters": {"filters": f"stock = {level}", "attributesToRetrieve": ["objectID"]}}
                return [hit["objectID"] for hit in await shop.similar("shop/item 0", **ask)] == ["shop/item 5"]

            await wait_until(arrived, 30, f"the level after {time.monotonic() - began_s:.1f} s of waiting")
        assert worker.page("/readyz")[0] == 200
    finally:
        over = True
        await asyncio.gather(*floods)

    assert {200, 429} == set(statuses)
    assert statuses.count(200) > 50
    assert await gateway.ids("shop/item 1")
