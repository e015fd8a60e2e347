"""Requests on the topic: one reply each, wherever the client wants it, whatever it wrote."""

from __future__ import annotations

import asyncio
import struct
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from models.truth_messages import read_item_record
from streams import topics
from streams.client import RequestFailed
from streams.serve.stage import IN_FLIGHT_MAX
from tests.brokers import TestBroker
from tests.installation import Installation, Shop, installed
from tests.pictures import write_pictures
from tests.waiting import wait_until

ITEMS = 24


@pytest.fixture(scope="module")
def installation(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One worker with a small catalog of drawn pictures."""
    folder = tmp_path_factory.mktemp("requests")
    links = write_pictures(folder, None, ITEMS)
    others = {"similar-responses-spring": 3, topics.SIMILAR_RESPONSES: 4}
    with installed(broker, folder, others, image_root=str(folder), image_hosts="127.0.0.1") as made:

        async def fill() -> None:
            await made.workers[0].ready()
            async with made.shop() as shop:
                await shop.catalog(
                    {f"item-{n}": {"image": link, "category": kind} for n, (link, kind) in enumerate(links.items())}
                )
                await wait_until(lambda: _complete(shop), 60, "the catalog")

        asyncio.run(fill())
        yield made


async def _complete(shop: Shop) -> bool:
    answer = await shop.client.ask({"requests": [{"objectID": "item-0", "maxRecommendations": 100}]}, timeout_s=10)
    return answer["results"][0]["nbHits"] == ITEMS - 1


async def replies(shop: Shop, name: str, correlations: set[bytes], deadline_s: float = 20) -> list[Any]:
    """The replies on a topic to requests with these ids, once all have come."""

    async def found() -> list[Any] | None:
        records = [r for r in await shop.read(name) if dict(r.headers).get("kafka_correlationId") in correlations]
        seen = {dict(r.headers)["kafka_correlationId"] for r in records}
        return records if seen == correlations else None

    result: list[Any] = await wait_until(found, deadline_s, f"{len(correlations)} replies on {name}")
    return result


async def test_one_reply_for_each_of_a_thousand(shop: Shop) -> None:
    """A thousand requests at once, bad ones among them, have one reply each, with the status each deserves."""
    bodies: list[tuple[bytes | None, int]] = [
        (b'{"objectID":"item-%d","maxRecommendations":3}', 200),
        (b'{"objectID":"nobody-%d"}', 404),
        (b'{"objectID":"item-%d","maxRecommendations":0}', 400),
        (b'{"objectID":"item-%d","queryParameters":{"filters":"a AND"}}', 400),
        (b'{"objectid":"item-%d"}', 400),
        (b"\xff not a request %d", 400),
        (b"", 400),
        (None, 400),
        (b'{"requests":[{"objectID":"item-%d"},{"objectID":7}]}', 200),
        (b'{"image":"file:///etc/passwd","maxRecommendations":%d}', 422),
    ]
    expected: dict[bytes, int] = {}
    sends = []
    for number in range(1_000):
        body, status = bodies[number % len(bodies)]
        correlation = uuid.uuid4().bytes
        expected[correlation] = status
        text = body % (number % ITEMS + 1 if b"image" in body else number % ITEMS) if body and b"%d" in body else body
        headers = [("kafka_correlationId", correlation), ("traceparent", b"00-1")]
        topic, partition = shop.topic(topics.SIMILAR_REQUESTS), number % 4
        sends.append(await shop.producer.send(topic, text, key=b"k", headers=headers, partition=partition))
    await asyncio.gather(*sends)

    got = await replies(shop, topics.SIMILAR_RESPONSES, set(expected), 60)

    counts = Counter(dict(record.headers)["kafka_correlationId"] for record in got)
    assert set(counts.values()) == {1}
    for record in got:
        found = dict(record.headers)
        status = expected[found["kafka_correlationId"]]
        assert int(found["kindred_status"]) == status, record.value
        assert [name for name, _ in record.headers].count("kafka_correlationId") == 1
        assert "kafka_nest-is-disposed" in found
        assert record.value[:1] == b"{"
        assert ("kafka_nest-err" in found) == (status != 200)
        if status != 200:
            assert found["kafka_nest-err"] == record.value
            assert set(orjson.loads(record.value)) == {"message", "status", "statusCode"}


@pytest.mark.parametrize(
    ("place", "partition"),
    [(struct.pack(">i", 0), 0), (struct.pack(">i", 2), 2), (b"1", 1), (b"2", 2), (None, None)],
    ids=["spring-0", "spring-2", "nest-1", "nest-2", "any"],
)
async def test_replies_go_where_the_client_reads(shop: Shop, place: bytes | None, partition: int | None) -> None:
    """Spring's four bytes and NestJS's text name the partition; without one, any."""
    correlation = uuid.uuid4().bytes
    headers = [
        ("kafka_correlationId", b"an earlier one"),
        ("kafka_replyTopic", shop.topic("similar-responses-spring").encode()),
        ("kafka_correlationId", correlation),
        ("__TypeId__", b"com.example.Request"),
    ] + ([("kafka_replyPartition", place)] if place is not None else [])

    await shop.send(topics.SIMILAR_REQUESTS, "its key", {"objectID": "item-1"}, headers=headers)

    (reply,) = await replies(shop, "similar-responses-spring", {correlation})
    assert reply.key == b"its key"
    assert partition is None or reply.partition == partition


@pytest.mark.needs_kafka
async def test_replies_that_have_no_place_cost_nobody_anything(shop: Shop, installation: Installation) -> None:
    """Topics that are not allowed, do not exist, are not legal, or lack the partition: counted, and others go on."""
    worker = installation.workers[0]
    before = worker.metric("kindred_replies_lost_total")
    hostile = [
        [("kafka_replyTopic", shop.topic(topics.ITEM_RECORDS).encode())],
        [("kafka_replyTopic", b"somebody-elses-topic")],
        [("kafka_replyTopic", shop.topic("similar-responses-missing").encode())],
        [("kafka_replyTopic", shop.topic("similar-responses-\xff").encode("latin-1"))],
        [("kafka_replyTopic", shop.topic("similar-responses-" + "x" * 400).encode())],
        [("kafka_replyTopic", shop.topic("similar-responses-spring").encode()), ("kafka_replyPartition", b"99")],
        [("kafka_replyPartition", struct.pack(">i", -1))],
        [("kafka_replyPartition", b"one")],
    ]
    records_before = len(await shop.read(topics.ITEM_RECORDS))
    for headers in hostile:
        await shop.send(topics.SIMILAR_REQUESTS, None, {"objectID": "item-1"}, headers=headers, partition=0)

    body = orjson.dumps({"objectID": "item-1"})
    correlation = uuid.uuid4().bytes
    await shop.send(topics.SIMILAR_REQUESTS, None, body, headers=[("kafka_correlationId", correlation)], partition=0)
    await replies(shop, topics.SIMILAR_RESPONSES, {correlation}, 10)

    await wait_until(
        lambda: worker.metric("kindred_replies_lost_total") - before >= len(hostile), 20, "all are counted as lost"
    )
    assert len(await shop.read(topics.ITEM_RECORDS)) == records_before


async def test_requests_past_their_deadline_are_dropped(shop: Shop, installation: Installation) -> None:
    """A request whose client has given up is counted and not answered; one behind it is."""
    worker = installation.workers[0]
    before = worker.metric("kindred_requests_expired_total")
    late, timely = uuid.uuid4().bytes, uuid.uuid4().bytes
    for correlation, deadline in ((late, b"1000"), (timely, b"99999999999999")):
        headers = [("kafka_correlationId", correlation), ("kindred_deadline", deadline)]
        await shop.send(topics.SIMILAR_REQUESTS, None, {"objectID": "item-1"}, headers=headers, partition=1)

    await replies(shop, topics.SIMILAR_RESPONSES, {timely})

    assert worker.metric("kindred_requests_expired_total") == before + 1
    found = [dict(record.headers).get("kafka_correlationId") for record in await shop.read(topics.SIMILAR_RESPONSES)]
    assert late not in found


async def test_requests_by_image(shop: Shop, installation: Installation) -> None:
    """A picture of an item finds that item with full score; a crop of the contract that cannot be used says why."""
    link = orjson.loads(bytes(read_item_record((await shop.last(topics.ITEM_RECORDS))["item-3"]).record))["image"]

    hits = (await shop.client.ask({"image": link, "maxRecommendations": 1}, timeout_s=10))["hits"]
    assert (hits[0]["objectID"], hits[0]["_score"]) == ("item-3", 100.0)

    answer = await shop.client.ask({"requests": [{"image": "missing.jpg"}, {"image": "../x"}]}, timeout_s=10)
    assert [result["status"] for result in answer["results"]] == [422, 422]


async def test_requests_by_image_of_a_slow_host_keep_no_other_waiting(shop: Shop) -> None:
    """A host that does not answer holds up more requests than are taken of others; those are answered meanwhile."""
    released, by_image = asyncio.Event(), {b"slow %d" % number for number in range(IN_FLIGHT_MAX + 50)}

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    before = len(await shop.read(topics.SIMILAR_RESPONSES))
    try:
        for correlation in sorted(by_image):
            body = {"image": f"http://{address}/{correlation.decode()[5:]}.jpg"}
            headers = [("kafka_correlationId", correlation)]
            await shop.send(topics.SIMILAR_REQUESTS, None, body, headers=headers, partition=2)
        plain = [uuid.uuid4().bytes for _ in range(4)]
        for partition, correlation in enumerate(plain):
            headers = [("kafka_correlationId", correlation)]
            await shop.send(topics.SIMILAR_REQUESTS, None, {"objectID": "item-1"}, headers=headers, partition=partition)

        await replies(shop, topics.SIMILAR_RESPONSES, set(plain))

        assert len(await shop.read(topics.SIMILAR_RESPONSES)) == before + len(plain)
    finally:
        released.set()
        server.close()
    await replies(shop, topics.SIMILAR_RESPONSES, by_image, 60)


async def test_rules_take_effect_on_the_next_request(shop: Shop, installation: Installation) -> None:
    """A rule that hides and boosts is in force within a second of its event, and gone again with it."""
    assert installation.workers[0].metric("kindred_rules") == 1, "the built-in one"
    ask: dict[str, Any] = {"maxRecommendations": ITEMS}
    before = await shop.ids("item-2", **ask)
    # A factor moves nothing that has no score.
    kind = [hit for hit in await shop.similar("item-2", **ask) if hit["_score"] > 1.5][-1]["category"]
    rule = {
        "consequence": {
            "hide": [{"objectID": before[0]}],
            "params": {"boosts": [{"filters": f'category:"{kind}"', "factor": 100}]},
        }
    }
    await shop.send(topics.RULE_CHANGES, "steer", rule)

    async def hidden() -> dict[str, Any] | None:
        answer = await shop.client.ask({"objectID": "item-2", **ask}, timeout_s=10)
        return answer if "steer" in answer["appliedRules"] else None

    answer = await wait_until(hidden, 10, "the rule in force")
    ids = [hit["objectID"] for hit in answer["hits"]]
    assert before[0] not in ids
    assert answer["hits"][0]["category"] == kind

    await shop.send(topics.RULE_CHANGES, "steer", None)

    async def restored() -> bool:
        return await shop.ids("item-2", **ask) == before

    await wait_until(restored, 10, "the order before the rule")


async def test_parts_of_an_image_and_reasons(shop: Shop) -> None:
    """A crop is embedded as a picture of its own beside the whole one, and the answer says what matched."""
    link = orjson.loads(bytes(read_item_record((await shop.last(topics.ITEM_RECORDS))["item-3"]).record))["image"]
    crops: list[Any] = [link, {"url": link, "crop": [0.4, 0.4, 0.3, 0.3]}, {"url": link, "crop": [0, 0, 1, 1]}]
    # Without rules: one on sale may stand before the very picture.
    common = {"maxRecommendations": 3, "explain": True, "queryParameters": {"enableRules": False}}
    requests = [{"image": image, **common} for image in crops]

    whole, part, all_of_it = (await shop.client.ask({"requests": requests}, timeout_s=10))["results"]

    assert whole["hits"] == all_of_it["hits"]
    assert [hit["_score"] for hit in whole["hits"]] != [hit["_score"] for hit in part["hits"]]
    assert whole["hits"][0]["objectID"] == "item-3"
    assert whole["hits"][0]["_explain"]["matched"]["source"] == link
    assert whole["explain"]["considered"] == ITEMS
    wrong = {"image": {"url": link, "crop": [0.5, 0, 0.6, 1]}}
    with pytest.raises(RequestFailed, match="image.crop: expected"):
        await shop.client.ask(wrong, timeout_s=10)


async def test_the_answer_says_how_fresh_it_is(shop: Shop) -> None:
    """Watermark and coverage are in every answer, and a stock event moves the watermark."""
    await shop.stock("item-5", 30, at=1_700_000_000_123)

    async def moved() -> dict[str, Any] | None:
        answer = await shop.client.ask({"objectID": "item-1"}, timeout_s=10)
        return answer if answer["watermark"]["stock"].get("at") == 1_700_000_000_123 else None

    answer = await wait_until(moved, 10, "the watermark of stock")
    assert answer["coverage"] == {"answered": 4, "of": 4, "share": 1.0}
    assert answer["watermark"]["stock"]["lagMS"] == 0
    assert answer["watermark"]["catalog"]["at"] > 1_700_000_000_123


@pytest.mark.needs_kafka
async def test_an_answer_too_large_for_its_topic_is_an_error_reply(shop: Shop) -> None:
    """Twenty records of 60 kB do not fit into a message of 1 MB: the client is told so, and what to do about it."""
    large = {f"large-{n}": {"image": f"{n}.jpg", "suite": "large", "text": "x" * 60_000} for n in range(20)}
    links = [
        orjson.loads(bytes(read_item_record(value).record))["image"]
        for key, value in (await shop.last(topics.ITEM_RECORDS)).items()
        if key.startswith("item-")
    ]
    await shop.catalog({key: record | {"image": links[n]} for n, (key, record) in enumerate(large.items())})
    ask: dict[str, Any] = {"objectID": "item-0", "maxRecommendations": 30}
    slim = {"queryParameters": {"filters": "suite:large", "attributesToRetrieve": ["suite"]}}

    async def embedded() -> bool:
        return (await shop.client.ask(ask | slim, timeout_s=10))["nbHits"] >= 19

    await wait_until(embedded, 30, "the large records")
    with pytest.raises(RequestFailed, match="attributesToRetrieve") as failed:
        await shop.client.ask(ask | {"queryParameters": {"filters": "suite:large"}}, timeout_s=10)
    assert failed.value.status == 400
    await shop.catalog(dict.fromkeys(large))
