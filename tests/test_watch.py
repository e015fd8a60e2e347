"""Watched lists on a real broker: pushed when they change, once, whatever becomes of the workers."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition

from streams import topics
from streams.reports.status import read_status
from tests.brokers import TestBroker
from tests.installation import ROOT, Installation, Shop, WorkerProcess, installed
from tests.pictures import write_pictures
from tests.waiting import wait_until

ITEMS = 24
VOLATILE = ("watermark", "processingTimeMS", "objectID", "at", "reasons", "coverage")


def pictured(folder: Path) -> dict[str, Any]:
    """The records of a small catalog of drawn pictures, which lie in the folder."""
    links = write_pictures(folder, None, ITEMS)
    return {f"item-{n}": {"image": link, "kind": kind, "price": n} for n, (link, kind) in enumerate(links.items())}


async def filled(installation: Installation, records: dict[str, Any]) -> None:
    """The catalog in the answers of the first worker."""
    await installation.workers[0].ready()
    async with installation.shop() as shop:
        await shop.catalog(records)

        async def complete() -> bool:
            answer = await shop.client.ask({"requests": [{"objectID": "item-0", "maxRecommendations": 100}]}, 10)
            return bool(answer["results"][0]["nbHits"] == ITEMS - 1)

        await wait_until(complete, 60, "the catalog")


@pytest.fixture(scope="module")
def installation(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One worker with a small catalog of drawn pictures."""
    folder = tmp_path_factory.mktemp("watch")
    records = pictured(folder)
    with installed(broker, folder, image_root=str(folder), watches_max="20", watch_hits_max="30") as made:
        asyncio.run(filled(made, records))
        yield made


async def lists(shop: Shop) -> dict[str, dict[str, Any]]:
    """The lists that stand on similar-changes, by item."""
    return {key: orjson.loads(value) for key, value in (await shop.last(topics.SIMILAR_CHANGES)).items()}


async def listed(shop: Shop, item_id: str) -> list[str] | None:
    """The ids of an item's pushed list; None: there is none."""
    found = (await lists(shop)).get(item_id)
    return None if found is None else [hit["objectID"] for hit in found["hits"]]


async def listed_when(shop: Shop, item_id: str, expected: Sequence[str]) -> dict[str, Any]:
    """An item's list once it has these hits."""

    async def is_there() -> bool:
        return await listed(shop, item_id) == list(expected)

    last = lambda: f"the list {expected} of {item_id}"  # noqa: E731
    await wait_until(is_there, 30, last)
    return (await lists(shop))[item_id]


async def fresh(shop: Shop, item_ids: Sequence[str], **fields: Any) -> dict[str, dict[str, Any]]:
    """What requests answer now, without what tells the time."""
    answer = await shop.client.ask({"requests": [{"objectID": one} | fields for one in item_ids]}, 20)
    return {one: stable(result) for one, result in zip(item_ids, answer["results"], strict=True)}


def stable(result: dict[str, Any]) -> dict[str, Any]:
    if "status" in result:  # how it is said why there is no list may differ from day to day
        return {"hits": result["hits"]}
    return {name: value for name, value in result.items() if name not in VOLATILE}


async def handled(installation: Installation, shop: Shop) -> None:
    """Wait until all events that were written are in the answers of all workers that run."""
    workers = [worker for worker in installation.workers if worker.process.poll() is None]
    (rules,) = (await shop.ends([TopicPartition(shop.topic(topics.RULE_CHANGES), 0)])).values()
    task = f"/1/indexes/items/looking-similar/task/{rules + 1}"

    def in_answers() -> bool:
        indexes = [worker.status().get("stages", {}).get("index", {"lag": {"index": 1}}) for worker in workers]
        read = all("notPublished" not in worker.page(task)[1] for worker in workers)
        return read and not any(lag for index in indexes for lag in index["lag"].values())

    async def done() -> bool:
        progress = (await read_status(shop.connection, shop.settings)).progress
        waiting = [each for each in progress if each.lag and each.stage != "serve"]
        return not waiting and await asyncio.to_thread(in_answers)

    await wait_until(done, 60, "all events to be handled")


async def agreed(installation: Installation, shop: Shop, item_ids: Sequence[str], **fields: Any) -> None:
    """Wait until all events are handled, and every list is what a request answers."""
    await handled(installation, shop)
    differ: list[str] = []

    async def agree() -> bool:
        nonlocal differ
        expected, found = await fresh(shop, item_ids, **fields), await lists(shop)
        differ = [one for one in item_ids if stable(found.get(one, {"hits": [], "status": 0})) != expected[one]]
        return not differ

    await wait_until(agree, 40, lambda: f"lists to agree, but {differ} differ")


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


async def test_every_kind_of_event(installation: Installation, shop: Shop) -> None:
    """A record, a rule and its end, a tombstone of an item in the list: the list follows each, and says why."""
    await shop.send(topics.WATCH, "item-2", {"maxRecommendations": 4})
    hits = await wait_until(lambda: listed(shop, "item-2"), 30, "the first list")

    await shop.send(topics.RULE_CHANGES, "hide", {"consequence": {"hide": [{"objectID": hits[0]}]}})
    hidden = await listed_when(shop, "item-2", await _without(shop, "item-2", hits[0]))
    assert {"event": "rule", "rule": "hide"} in hidden["reasons"]
    assert hidden["appliedRules"] == ["default", "hide"]

    await shop.send(topics.RULE_CHANGES, "hide", None)
    await listed_when(shop, "item-2", hits)

    record = (await lists(shop))["item-2"]["hits"][1]
    changed = {"image": record["image"], "kind": record["kind"], "price": 1000, "note": "new"}
    await shop.catalog({hits[1]: changed})

    async def noted() -> bool:
        return (await lists(shop))["item-2"]["hits"][1].get("note") == "new"

    await wait_until(noted, 30, "the new record in the list")
    assert (await lists(shop))["item-2"]["reasons"] == [{"event": "catalog", "objectID": hits[1]}]
    await agreed(installation, shop, ["item-2"], maxRecommendations=4)


async def _without(shop: Shop, item_id: str, hidden: str) -> list[str]:
    return [each for each in await shop.ids(item_id, maxRecommendations=6) if each != hidden][:4]


async def test_an_item_that_comes_goes_and_comes_back(shop: Shop) -> None:
    """A watch waits for its item; a deleted item's list is empty and says why, until it is back."""
    picture = (await lists(shop)).get("item-0") or {"hits": await shop.similar("item-0", maxRecommendations=1)}
    record = {"image": picture["hits"][0]["image"]}
    await shop.send(topics.WATCH, "later", {"maxRecommendations": 3})
    await shop.catalog({"later": record})
    hits = await wait_until(lambda: listed(shop, "later"), 30, "the list of an item that came")
    assert len(hits) == 3

    await shop.catalog({"later": None})
    gone = await listed_when(shop, "later", [])
    assert (gone["status"], gone["message"]) == (404, "item 'later' is not known")
    assert all("later" not in [hit["objectID"] for hit in one["hits"]] for one in (await lists(shop)).values())

    await shop.catalog({"later": record})
    await listed_when(shop, "later", hits)


async def test_an_ended_watch_leaves_nothing(shop: Shop) -> None:
    """A tombstone ends the watch, and the list is gone from the topic."""
    await shop.send(topics.WATCH, "item-3", {"maxRecommendations": 2})
    await wait_until(lambda: listed(shop, "item-3"), 30, "the list")

    await shop.send(topics.WATCH, "item-3", None)

    async def gone() -> bool:
        return "item-3" not in await lists(shop)

    await wait_until(gone, 30, "the list to go")


async def test_bad_watches_are_dead_letters(installation: Installation, shop: Shop) -> None:
    """What cannot be understood is set aside with the reason, and others go on; a bad one ends an earlier watch."""
    await shop.send(topics.WATCH, "item-4", {})
    await wait_until(lambda: listed(shop, "item-4"), 30, "the list")
    bad: dict[bytes, tuple[str, str]] = {
        b'{"maxRecommendations": 31}': ("item-4", "maxRecommendations: expected 1 to 30, got 31"),
        b"[]": ("item-5", "expected a JSON object, got a list"),
        b'{"objectID": "other"}': ("item-5", "objectID: expected the key, 'item-5', got 'other'"),
        b'{"objectIDs": ["item-6"]}': ("item-5", "expected nothing to look like but the key's item"),
        b'{"walk": {}}': ("item-5", "walk: cannot be watched"),
        b'{"explain": true}': ("item-5", "explain: cannot be watched"),
        b'{"fallbackParameters": {}}': ("item-5", "fallbackParameters: cannot be watched"),
        b'{"maxHits": 3}': ("item-5", "unknown field 'maxHits'"),
        b'{"queryParameters": {"filters": "a AND"}}': ("item-5", "queryParameters.filters"),
        b'{"threshold": 5}': ("x" * 600, "key: expected an item id of at most 512 bytes"),
    }
    for value, (key, _) in bad.items():
        await shop.send(topics.WATCH, key, value)

    async def set_aside() -> dict[bytes | None, str] | None:
        found = {
            value: headers["kindred_reason"]
            for _, value, headers in await shop.dead_letters()
            if headers["kindred_stage"] == "watch"
        }
        return found if bad.keys() <= found.keys() else None

    reasons = await wait_until(set_aside, 30, "the dead letters")
    assert [value for value, (_, words) in bad.items() if words not in reasons[value]] == []
    assert "item-4" not in await lists(shop)
    assert installation.workers[0].process.poll() is None


async def test_more_watches_than_a_worker_takes(installation: Installation, shop: Shop) -> None:
    """A watch beyond the limit is set aside and taken back from the topic; those that are there go on."""
    held = installation.workers[0].status()["stages"]["watch"]["watches"]
    for number in range(25):
        await shop.send(topics.WATCH, f"many-{number}", {})

    async def refused() -> bool:
        letters = [key for key, _, headers in await shop.dead_letters() if "KINDRED_WATCHES_MAX" in str(headers)]
        return len(letters) == held + 25 - 20

    await wait_until(refused, 30, "what is too much to be set aside")

    async def taken_back() -> bool:
        status = installation.workers[0].status()["stages"]["watch"]
        return bool(status["watches"] == 20)

    await wait_until(taken_back, 30, "twenty watches")
    standing = [key for key in await shop.last(topics.WATCH) if key.startswith("many-")]
    assert len(standing) == 20 - held
    for key in standing:
        await shop.send(topics.WATCH, key, None)


async def test_a_watch_of_another_partitioner(shop: Shop) -> None:
    """A watch that was written to another partition is sent on to its item's, with its tombstone."""
    home = topics.partition_of(b"item-7", 4)
    await shop.send(topics.WATCH, "item-7", {"maxRecommendations": 2}, partition=(home + 1) % 4)
    hits = await wait_until(lambda: listed(shop, "item-7"), 30, "the list")
    assert len(hits) == 2

    await shop.send(topics.WATCH, "item-7", None, partition=(home + 1) % 4)

    async def gone() -> bool:
        return "item-7" not in await lists(shop)

    await wait_until(gone, 30, "the list to go")


async def test_commands(installation: Installation, shop: Shop) -> None:
    """`kindred watch` begins and ends a watch, `kindred watches` shows it, and what is not understood is not sent."""

    async def kindred(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "streams.commands", *arguments]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=installation.environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    assert await kindred("watch", "item-8", "-n", "3", "--attributes", "kind") == (
        0,
        "1 item watched; `kindred watches` shows the lists\n",
    )
    hits = await wait_until(lambda: listed(shop, "item-8"), 30, "the list")
    code, text = await kindred("watches", "--json")
    (shown,) = [each for each in map(orjson.loads, text.splitlines()) if each["objectID"] == "item-8"]
    assert (code, shown["maxRecommendations"], shown["list"]["hits"][0]["objectID"]) == (0, 3, hits[0])
    assert set(shown["list"]["hits"][0]) >= {"objectID", "kind", "_score"}
    assert "price" not in shown["list"]["hits"][0]

    code, text = await kindred("watches")
    (line,) = [each.split("\t") for each in text.splitlines() if each.startswith("item-8\t")]
    assert (code, line[1:4], line[5]) == (0, ["3", "3", ", ".join(hits)], "watch")

    code, text = await kindred("watch", "item-8", "--filters", "a AND")
    assert code == 1
    assert "queryParameters.filters" in text
    assert await listed(shop, "item-8") == hits

    assert await kindred("watch", "item-8", "--stop") == (0, "1 item watched no more\n")

    async def gone() -> bool:
        return "item-8" not in await lists(shop)

    await wait_until(gone, 30, "the list to go")


# Workers that come and go


@pytest.fixture
def crowd(broker: TestBroker, topic_prefix: str, tmp_path: Path) -> Iterator[tuple[Installation, dict[str, Any]]]:
    """An installation whose workers a test starts and kills."""
    made = Installation(broker.bootstrap, topic_prefix, tmp_path, image_root=str(tmp_path))
    yield made, pictured(tmp_path)
    made.close()


def happenings(numbers: random.Random, records: dict[str, Any], count: int) -> list[tuple[str, str, Any]]:
    """Events of all kinds: topic, key, value."""
    events: list[tuple[str, str, Any]] = []
    for number in range(count):
        item_id = numbers.choice(list(records))
        kind = numbers.random()
        if kind < 0.6:
            events.append((topics.STOCK_LEVELS, item_id, {"quantity": numbers.choice([0, 2, 50])}))
        elif kind < 0.75:
            events.append((topics.CATALOG_CHANGES, item_id, records[item_id] | {"price": number, "list_price": 50}))
        elif kind < 0.85:
            other = records[numbers.choice(list(records))]["image"]
            events.append((topics.CATALOG_CHANGES, item_id, records[item_id] | {"image": other}))
        elif kind < 0.9:
            events.append((topics.CATALOG_CHANGES, item_id, None))
        else:
            boost = {"filters": f"price < {numbers.randrange(40)}", "factor": numbers.choice([0.5, 2])}
            events.append((topics.RULE_CHANGES, "r", {"consequence": {"params": {"boosts": [boost]}}}))
    return events


async def write(shop: Shop, events: Sequence[tuple[str, str, Any]]) -> None:
    for topic, key, value in events:
        await shop.send(topic, key, value)


async def pushes(shop: Shop) -> Counter[str]:
    """How many messages of each item are on similar-changes."""
    return Counter((record.key or b"").decode() for record in await shop.read(topics.SIMILAR_CHANGES))


async def watching(workers: Sequence[WorkerProcess], count: int) -> None:
    """Wait until these workers together watch so many, and have asked all."""

    def settled() -> bool:
        found = [worker.status().get("stages", {}).get("watch", {}) for worker in workers]
        return sum(each.get("watches", 0) for each in found) == count and not any(each["waiting"] for each in found)

    await wait_until(lambda: asyncio.to_thread(settled), 60, f"{count} watches")


def both(workers: Sequence[WorkerProcess]) -> bool:
    """Whether each has lists, as it must be once the group has met."""
    return all(worker.status()["stages"]["watch"]["watches"] for worker in workers)


@pytest.mark.needs_kafka
async def test_lists_are_right_whoever_makes_them(crowd: tuple[Installation, dict[str, Any]]) -> None:
    """Two workers share the lists, one is killed in the middle of events: each list is what a request answers."""
    installation, records = crowd
    numbers = random.Random(7)
    installation.worker(data="a")
    await filled(installation, records)
    ids = sorted(records)
    async with installation.shop() as shop:
        for item_id in ids:
            await shop.send(topics.WATCH, item_id, {"maxRecommendations": 6})
        second = await installation.worker(data="b").ready()
        await write(shop, happenings(numbers, records, 60))
        await watching(installation.workers, len(ids))
        await agreed(installation, shop, ids, maxRecommendations=6)
        await wait_until(lambda: asyncio.to_thread(both, installation.workers), 60, "lists with both workers")

        await write(shop, happenings(numbers, records, 20))
        installation.workers[0].kill()
        await write(shop, happenings(numbers, records, 40))
        await watching([second], len(ids))
        await agreed(installation, shop, ids, maxRecommendations=6)


@pytest.mark.needs_kafka
async def test_lists_are_right_after_nobody_was_there(crowd: tuple[Installation, dict[str, Any]]) -> None:
    """What happens while no worker runs, ended watches too, is in the lists when one starts again."""
    installation, records = crowd
    numbers = random.Random(8)
    first = installation.worker(data="a")
    await filled(installation, records)
    ids = sorted(records)
    async with installation.shop() as shop:
        for item_id in ids:
            await shop.send(topics.WATCH, item_id, {"maxRecommendations": 6})
        await write(shop, happenings(numbers, records, 60))
        await agreed(installation, shop, ids, maxRecommendations=6)

        first.stop()
        await write(shop, happenings(numbers, records, 40))
        await shop.send(topics.WATCH, ids[0], None)
        again = await installation.worker(data="a").ready()
        await watching([again], len(ids) - 1)
        await agreed(installation, shop, ids[1:], maxRecommendations=6)
        assert ids[0] not in await lists(shop)


@pytest.mark.needs_kafka
async def test_a_restart_pushes_nothing_that_has_not_changed(crowd: tuple[Installation, dict[str, Any]]) -> None:
    """What stands on the topic is not written again by a worker that starts, nor by one that takes over."""
    installation, records = crowd
    first = installation.worker(data="a")
    await filled(installation, records)
    ids = sorted(records)[:10]
    async with installation.shop() as shop:
        for item_id in ids:
            await shop.send(topics.WATCH, item_id, {"maxRecommendations": 4})
        await agreed(installation, shop, ids, maxRecommendations=4)
        await watching([first], len(ids))
        before = await pushes(shop)

        first.stop()
        again = await installation.worker(data="a").ready()
        await watching([again], len(ids))
        assert await pushes(shop) == before

        again.kill()
        other = await installation.worker(data="c").ready()
        await watching([other], len(ids))
        assert await pushes(shop) == before

        hit = (await listed(shop, ids[0]) or [])[0]
        await shop.stock(hit, 0)

        async def without() -> bool:
            return hit not in (await listed(shop, ids[0]) or [hit])

        await wait_until(without, 30, "the list without what has sold out")
        await agreed(installation, shop, ids, maxRecommendations=4)
        assert (await pushes(shop))[ids[0]] == before[ids[0]] + 1


@pytest.mark.needs_kafka
async def test_a_worker_that_wakes_up_late(crowd: tuple[Installation, dict[str, Any]]) -> None:
    """A list that a paused worker, or a stranger, writes over the owner's is written over again."""
    installation, records = crowd
    first = installation.worker(data="a")
    await filled(installation, records)
    async with installation.shop() as shop:
        await shop.send(topics.WATCH, "item-1", {"maxRecommendations": 4})
        hits = await wait_until(lambda: listed(shop, "item-1"), 30, "the list")

        await shop.send(topics.SIMILAR_CHANGES, "item-1", {"hits": [], "objectID": "item-1"})
        await listed_when(shop, "item-1", hits)
        assert (await lists(shop))["item-1"]["reasons"] == [{"event": "overwritten"}]

        await shop.send(topics.SIMILAR_CHANGES, "nobody", {"hits": []})

        async def gone() -> bool:
            return "nobody" not in await lists(shop)

        await wait_until(gone, 30, "a list that nobody watches to go")

        first.signal(signal.SIGSTOP)
        second = await installation.worker(data="b").ready(90)
        await watching([second], 1)
        await shop.stock(hits[0], 0)

        async def without() -> bool:
            return hits[0] not in (await listed(shop, "item-1") or hits)

        await wait_until(without, 60, "the list of the second worker")
        first.signal(signal.SIGCONT)
        await watching([first, second], 1)
        await agreed(installation, shop, ["item-1"], maxRecommendations=4)
