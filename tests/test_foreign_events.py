"""Events as others write them: Debezium, other partitioners, other partition counts, and what cannot be used at all."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from models.truth_messages import read_item_record, read_item_stock
from streams import topics
from streams.reports.status import read_status
from streams.unpacking import UNPACKED_BYTES_MAX
from tests.brokers import TestBroker
from tests.installation import Installation, Shop, installed
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def installation(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One worker whose input topics have other numbers of partitions than Kindred's own."""
    folder = tmp_path_factory.mktemp("foreign")
    with installed(broker, folder, {topics.STOCK_LEVELS: 6}, dead_letter_share_max="1") as made:
        yield made


async def settled(shop: Shop, marker: str) -> None:
    """Wait until all that was sent before has been handled: a marker behind it in every partition has come through."""
    wanted = {f"{marker}-{number}" for number in range(40)}
    await shop.catalog({key: {"title": "a marker"} for key in wanted})

    async def through() -> bool:
        return wanted <= set(await shop.last(topics.ITEM_RECORDS))

    await wait_until(through, 30, f"the markers {marker}")


async def test_debezium_events_end_as_the_database_says(shop: Shop, shared_folder: Path) -> None:
    """Recorded changes of a table, whole envelopes with their schema: the records left are the table's rows."""
    lines = (shared_folder / "data" / "debezium" / "3.6-envelope-with-schema.jsonl").read_text().splitlines()
    for line in lines:
        event = json.loads(line)
        value = None if event["value"] is None else orjson.dumps(event["value"])
        await shop.send(topics.CATALOG_CHANGES, orjson.dumps(event["key"]), value)

    async def as_the_table() -> bool:
        return set(await shop.last(topics.ITEM_RECORDS)) == {"größe-42", "sku-1002"}

    await wait_until(as_the_table, 20, "the rows of the table")
    records = {key: read_item_record(value) for key, value in (await shop.last(topics.ITEM_RECORDS)).items()}
    stocks = {key: read_item_stock(value).quantity for key, value in (await shop.last(topics.ITEM_STOCKS)).items()}
    assert (stocks["größe-42"], stocks["sku-1002"]) == (0, 12)
    assert orjson.loads(bytes(records["sku-1002"].record))["price"] == pytest.approx(89.90)


async def test_other_partitioners_are_brought_home(shop: Shop) -> None:
    """Keys put by CRC32, as librdkafka does, and into six partitions: each item's state is at its own home, once."""
    items = [f"crc-{number}" for number in range(200)]
    for item_id in items:
        key = item_id.encode()
        await shop.producer.send(
            shop.topic(topics.CATALOG_CHANGES), b'{"title":"first"}', key=key, partition=zlib.crc32(key) % 4
        )
        await shop.producer.send(
            shop.topic(topics.STOCK_LEVELS), b'{"quantity":7,"at":5}', key=key, partition=zlib.crc32(key) % 6
        )
    for item_id in items:
        key = item_id.encode()
        await shop.producer.send(
            shop.topic(topics.CATALOG_CHANGES), b'{"title":"second"}', key=key, partition=zlib.crc32(key) % 4
        )
    await shop.producer.flush()

    async def complete() -> bool:
        records, stocks = await shop.last(topics.ITEM_RECORDS), await shop.last(topics.ITEM_STOCKS)
        if not set(items) <= set(records) & set(stocks):
            return False
        titles = {orjson.loads(bytes(read_item_record(records[key]).record))["title"] for key in items}
        return titles == {"second"} and all(read_item_stock(stocks[key]).quantity == 7 for key in items)

    await wait_until(complete, 30, "all records and levels")
    for name in topics.TRUTHS[:2]:
        for record in await shop.read(name):
            if (record.key or b"").startswith(b"crc-"):
                assert record.partition == topics.partition_of(record.key, 4), (name, record.key)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_batches_are_read(shop: Shop, codec: str) -> None:
    """Whatever a producer compresses by, Kafka keeps as it came."""
    producer = AIOKafkaProducer(bootstrap_servers=shop.connection.broker, compression_type=codec, linger_ms=50)
    await producer.start()
    keys = {f"{codec}-{number}" for number in range(40)}
    try:
        for key in keys:
            await producer.send(shop.topic(topics.CATALOG_CHANGES), b'{"title":"compressed"}', key=key.encode())
        await producer.flush()
    finally:
        await producer.stop()

    async def there() -> bool:
        return keys <= set(await shop.last(topics.ITEM_RECORDS))

    await wait_until(there, 30, f"records that came by {codec}")


@pytest.mark.needs_kafka
async def test_what_was_taken_back_never_was(shop: Shop) -> None:
    """Of transactions those that were committed count; others wait behind one that is open."""
    name = f"{shop.settings.topic_prefix}shop"
    producer = AIOKafkaProducer(bootstrap_servers=shop.connection.broker, transactional_id=name)
    await producer.start()
    try:
        for title, commits in (("taken back", False), ("kept", True), ("taken back", False)):
            await producer.begin_transaction()
            for key in (b"transacted", title.encode()):
                body = orjson.dumps({"title": title})
                await producer.send_and_wait(shop.topic(topics.CATALOG_CHANGES), body, key=key)
            await (producer.commit_transaction() if commits else producer.abort_transaction())
    finally:
        await producer.stop()
    await settled(shop, "transacted")

    records = await shop.last(topics.ITEM_RECORDS)
    assert {"transacted", "kept"} == {key for key in records if key in ("transacted", "kept", "taken back")}
    assert b'"title":"kept"' in records["transacted"]


@pytest.mark.needs_kafka
async def test_nothing_waits_behind_the_marker_of_a_transaction(shop: Shop, installation: Installation) -> None:
    """Lag comes to 0 where a partition ends with what no consumer is handed: a marker, or events taken back."""
    producer = AIOKafkaProducer(
        bootstrap_servers=shop.connection.broker, transactional_id=f"{shop.settings.topic_prefix}marker"
    )
    await producer.start()
    try:
        for partition, commits in ((0, (True,)), (1, (True, False)), (2, (False,))):
            for each in commits:
                await producer.begin_transaction()
                body = orjson.dumps({"title": "with a marker behind it"})
                topic = shop.topic(topics.CATALOG_CHANGES)
                await producer.send_and_wait(topic, body, key=b"marked-%d" % partition, partition=partition)
                await (producer.commit_transaction() if each else producer.abort_transaction())
    finally:
        await producer.stop()

    async def nothing_waits() -> bool:
        report = await read_status(shop.connection, shop.settings)
        waiting = {each.topic: each.lag for each in report.progress if each.lag}
        page = installation.workers[0].metric("kindred_lag", stage="track")
        return (waiting, page) == ({}, 0) and "marked-1" in await shop.last(topics.ITEM_RECORDS)

    await wait_until(nothing_waits, 20, "the lag to come to 0")


@pytest.mark.needs_kafka
async def test_a_batch_that_unpacks_to_too_much_is_set_aside(shop: Shop, installation: Installation) -> None:
    """Kafka takes a few bytes that are a hundred million when unpacked; the worker says so, and goes on."""
    million = bytes(1_000_000)
    producer = AIOKafkaProducer(
        bootstrap_servers=shop.connection.broker, compression_type="zstd", max_batch_size=200_000_000
    )
    await producer.start()
    try:
        batch = producer.create_batch()
        while batch.size() < UNPACKED_BYTES_MAX:
            batch.append(key=b"bomb", value=million, timestamp=None)
        topic = shop.topic(topics.CATALOG_CHANGES)
        sent = await (await producer.send_batch(batch, topic, partition=1))
    finally:
        await producer.stop()
    await settled(shop, "behind the bomb")

    last = sent.offset + batch.record_count() - 1
    place = {"kindred_topic": topic, "kindred_partition": "1", "kindred_offset": str(last)}
    told = [value for _, value, headers in await shop.dead_letters() if place.items() <= headers.items()]
    assert len(told) == 1
    assert b"is left out: it unpacks to more than 128 MiB" in (told[0] or b"")
    assert installation.workers[0].process.poll() is None


async def test_unusable_events_are_set_aside_and_the_rest_goes_on(shop: Shop) -> None:
    """Poison in every topic becomes a dead letter that says why and where from; what comes after it is handled."""
    poison: dict[str, list[tuple[bytes | None, bytes | None]]] = {
        topics.CATALOG_CHANGES: [
            (b"p1", b"not json"),
            (b"p2", b'{"price":"free"}'),
            (b"p3", b'["a list"]'),
            (None, b'{"title":"no key"}'),
            (b"\xff\xfe", b'{"title":"key is not UTF-8"}'),
            (b"p4", b'{"objectID":"another"}'),
            (b"p5", b'{"title":"' + b"x" * 200_000 + b'"}'),
            (b"p6", b"[" * 100_000),
        ],
        topics.STOCK_LEVELS: [
            (b"p7", b'{"quantity":"many"}'),
            (b"p8", b""),
            (None, b'{"quantity":1}'),
            (b"p9", b'{"quantity":1,"at":"yesterday?"}'),
        ],
        topics.ITEM_CHANGES: [(b"p10", b"{}"), (b"p11", None)],
        topics.IMAGE_CHANGES: [(b"p12", b"{}"), (b"p13", b"\x00"), (b"p14", None)],
        topics.RULE_CHANGES: [(b"p15", b'{"consequence":{"params":{"filters":"a AND"}}}'), (b"p16", b"no")],
    }
    before = len(await shop.dead_letters())
    started_ms = int(time.time() * 1000)
    for name, messages in poison.items():
        for key, value in messages:
            await shop.send(name, key, value)
    await settled(shop, "poison")
    expected = sum(map(len, poison.values()))

    async def all_dead() -> bool:
        return len(await shop.dead_letters()) - before >= expected

    await wait_until(all_dead, 30, f"{expected} dead letters")
    letters = (await shop.dead_letters())[before:]
    assert len(letters) == expected
    assert sorted((key or b"", value or b"") for key, value, _ in letters) == sorted(
        (key or b"", value or b"") for messages in poison.values() for key, value in messages
    )
    stages = {topics.IMAGE_CHANGES: "embed", topics.RULE_CHANGES: "serve"}
    for key, _, headers in letters:
        name = headers["kindred_topic"].removeprefix(shop.settings.topic_prefix)
        assert headers["kindred_stage"] == stages.get(name, "track"), key
        assert headers["kindred_reason"].startswith("BadEvent: "), headers["kindred_reason"]
        assert (int(headers["kindred_partition"]), int(headers["kindred_offset"])) >= (0, 0)
        assert started_ms <= int(headers["kindred_at"]) <= time.time() * 1000, "Unix ms of the event, from every stage"


async def test_strangers_on_the_truths_are_written_over(shop: Shop) -> None:
    """What somebody else writes onto our topics over an item's state does not stay, and stops nobody."""
    await shop.catalog({"ours": {"title": "ours"}})
    await shop.stock("ours", 3, at=5)

    async def known() -> bool:
        return "ours" in await shop.last(topics.ITEM_RECORDS) and "ours" in await shop.last(topics.ITEM_STOCKS)

    await wait_until(known, 10, "the item")
    right = (await shop.last(topics.ITEM_RECORDS))["ours"]
    await shop.send(topics.ITEM_RECORDS, "ours", b"garbage")
    await shop.send(topics.ITEM_RECORDS, "ours", None)
    await shop.send(topics.ITEM_STOCKS, "ours", b'{"quantity":99}')
    await shop.send(topics.CATALOG_STATISTICS, "mean", b"garbage")

    async def mended() -> bool:
        records, stocks = await shop.last(topics.ITEM_RECORDS), await shop.last(topics.ITEM_STOCKS)
        level = stocks.get("ours", b"")
        return b'"ours"' in records.get("ours", b"") and level.startswith(b'{"quantity":3')

    await wait_until(mended, 10, "our own state again")
    again = read_item_record((await shop.last(topics.ITEM_RECORDS))["ours"])
    assert bytes(again.record) == bytes(read_item_record(right).record)
