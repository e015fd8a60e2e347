"""Messages that mean harm, on every topic that others write: an error each, and bounded time and memory.

The topics take messages of 12 MB here, as a shop's may.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from streams import topics
from streams.kafka.dead_letters import CUT_BYTES
from streams.reports.dead_letters import retry_dead_letters, show_retry
from streams.reports.terminal import Terminal
from tests.brokers import TestBroker
from tests.hostile import FILTERS, LARGE, MISTAKES
from tests.installation import Installation, Shop, WorkerProcess
from tests.pictures import write_pictures
from tests.waiting import wait_until

pytestmark = pytest.mark.needs_kafka

ITEMS = 12
MESSAGE_BYTES_MAX = 12_000_000
BODIES = MISTAKES | {"10 MB of text": LARGE}
FINE = {
    topics.CATALOG_CHANGES: {"null", "deeper than we allow", "51 entries", "1,000 seeds"},
    topics.STOCK_LEVELS: {"null"},
}
"""What is no mistake there: an item may have any attributes, and null says that it is gone."""
BOMB_BYTES = 110_000_000
BOMBS_MEMORY_MAX = 8 * BOMB_BYTES
"""Of two consumers, each of which holds one, unpacks another, and looks at it; of 16 without a limit much more."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def installation(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One worker with a small catalog; whoever writes may write large messages."""
    folder = tmp_path_factory.mktemp("hostile")
    links = write_pictures(folder, None, ITEMS)
    made = Installation(broker.bootstrap, f"{folder.name}-{folder.stat().st_ino}-", folder, image_root=str(folder))
    large = {"max.message.bytes": str(MESSAGE_BYTES_MAX)}

    async def prepare() -> None:
        await broker.create_topics(
            {made.prefix + name: 4 for name in (topics.CATALOG_CHANGES, topics.STOCK_LEVELS)}, large
        )
        await broker.create_topics({made.prefix + topics.SIMILAR_REQUESTS: 4}, large)
        compacted = large | {"cleanup.policy": "compact"}
        await broker.create_topics({made.prefix + topics.RULE_CHANGES: 1}, compacted)
        await broker.create_topics({made.prefix + topics.WATCH: 4}, compacted)
        await made.worker().ready()
        async with made.shop() as shop:
            await shop.catalog(
                {f"item-{n}": {"image": link, "kind": kind} for n, (link, kind) in enumerate(links.items())}
            )
            await wait_until(lambda: complete(shop), 60, "the catalog")

    try:
        asyncio.run(prepare())
        yield made
    finally:
        made.close()


async def complete(shop: Shop) -> bool:
    answer = await shop.client.ask({"requests": [{"objectID": "item-0", "maxRecommendations": 100}]}, timeout_s=20)
    return bool(answer["results"][0].get("nbHits") == ITEMS - 1)


async def write(
    shop: Shop, name: str, messages: Mapping[str, bytes], headers: Mapping[str, bytes] | None = None
) -> None:
    """Write messages by key, large ones too; with `headers` each has its correlation id."""
    producer = AIOKafkaProducer(
        bootstrap_servers=shop.connection.broker, max_request_size=MESSAGE_BYTES_MAX, compression_type=None
    )
    await producer.start()
    try:
        for key, value in messages.items():
            more = [("kafka_correlationId", headers[key])] if headers else []
            await producer.send_and_wait(shop.topic(name), value, key=key.encode(), headers=more)
    finally:
        await producer.stop()


class Costs:
    """What a worker spends from now on."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.pid = worker.process.pid
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # the peak begins anew
        self.cpu_s, self.memory = self._cpu_s(), self._memory("VmRSS")

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def _memory(self, name: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))

    def check(self, memory_max: int = 400_000_000) -> None:
        """Nets for what grows more than linearly, no measures: some 40 MB came in, and are held a few times over."""
        assert self._cpu_s() - self.cpu_s < 30
        assert self._memory("VmHWM") - self.memory < memory_max


async def still_there(shop: Shop, worker: WorkerProcess) -> None:
    """Whoever asks next is answered, by the same process."""
    assert worker.process.poll() is None, worker.tail()
    assert ITEMS - 1 == len(await shop.ids("item-0", maxRecommendations=100))


def filters_in(place: str) -> dict[str, bytes]:
    """A request, or a rule, with each of the filters."""
    fields: dict[str, Any] = {"request": lambda text: {"objectID": "item-0", "queryParameters": {"filters": text}}}
    fields["rule"] = lambda text: {"condition": {"filters": text}, "consequence": {"hide": [{"objectID": "item-1"}]}}
    return {name: orjson.dumps(fields[place](text)) for name, text in FILTERS.items()}


async def test_requests(shop: Shop, installation: Installation) -> None:
    """Each body and filter has one reply that says what is wrong, in a few words."""
    worker = installation.workers[0]
    bodies = BODIES | filters_in("request")
    names = {uuid.uuid4().bytes: name for name in bodies}
    costs = Costs(worker)
    await write(shop, topics.SIMILAR_REQUESTS, bodies, {name: correlation for correlation, name in names.items()})

    async def replies() -> list[Any]:
        found = [(dict(each.headers), each.value) for each in await shop.read(topics.SIMILAR_RESPONSES)]
        mine = [each for each in found if each[0].get("kafka_correlationId") in names]
        return mine if len(mine) >= len(names) else []

    got = await wait_until(replies, 90, "all replies")
    assert {1} == set(Counter(headers["kafka_correlationId"] for headers, _ in got).values())
    statuses = {
        names[headers["kafka_correlationId"]]: (int(headers["kindred_status"]), value) for headers, value in got
    }
    for name, (status, value) in statuses.items():
        assert (status, orjson.loads(value)["status"]) == (400, 400), name
        assert 0 < len(orjson.loads(value)["message"]) < 1_000, name
    costs.check()
    await still_there(shop, worker)


@pytest.mark.parametrize("name", [topics.RULE_CHANGES, topics.WATCH, topics.CATALOG_CHANGES, topics.STOCK_LEVELS])
async def test_events(shop: Shop, installation: Installation, name: str) -> None:
    """Each becomes one dead letter with its reason, whatever its size; what was in force before stays."""
    worker = installation.workers[0]
    before = len(await shop.dead_letters())
    keyed = BODIES | (filters_in("rule") if name == topics.RULE_CHANGES else {})
    missing: set[str] = set()
    costs = Costs(worker)
    await write(shop, name, keyed)

    async def set_aside() -> dict[str, str] | None:
        nonlocal missing
        letters = (await shop.dead_letters())[before:]
        reasons = {(key or b"").decode(): headers["kindred_reason"] for key, _, headers in letters}
        missing = keyed.keys() - FINE.get(name, set()) - reasons.keys()
        return None if missing else reasons

    reasons = await wait_until(set_aside, 90, lambda: f"dead letters of {missing}; {worker.tail(5)}")
    assert reasons.keys() == keyed.keys() - FINE.get(name, set())
    assert all(0 < len(reason) < 2_000 for reason in reasons.values())
    costs.check()
    await still_there(shop, worker)


async def test_what_is_too_large_for_dead_letters_is_cut(shop: Shop, installation: Installation) -> None:
    """It says how large it was, its beginning is kept, and it is not sent again: that would be another event."""
    key = "too large"
    await write(shop, topics.STOCK_LEVELS, {key: LARGE})

    async def set_aside() -> tuple[bytes | None, dict[str, str]] | None:
        found = [(value, headers) for k, value, headers in await shop.dead_letters() if k == key.encode()]
        return found[-1] if found else None

    value, headers = await wait_until(set_aside, 30, "the dead letter")
    assert headers["kindred_cut"] == str(len(LARGE))
    assert value == LARGE[:CUT_BYTES]

    outcome = await retry_dead_letters(shop.connection, shop.settings)
    terminal = Terminal(io.StringIO(), notes := io.StringIO())
    assert 1 == show_retry(terminal, outcome, as_json=False)
    assert {True} == {letter.cut is not None for letter in outcome.stranded}
    assert key.encode() in [letter.key for letter in outcome.stranded]
    assert f"had {len(LARGE):,} bytes" in notes.getvalue()
    await still_there(shop, installation.workers[0])


@pytest.mark.parametrize("name", [topics.CATALOG_CHANGES, topics.STOCK_LEVELS, topics.WATCH])
@pytest.mark.parametrize("large", ["headers", "value"])
async def test_what_is_too_large_to_be_sent_home(name: str, large: str, shop: Shop, installation: Installation) -> None:
    """An event at a partition that is not its home, of more bytes than the topic accepts that it goes to."""
    key = f"far from home, {large}"
    home = topics.partition_of(key.encode(), 4)
    value = {topics.CATALOG_CHANGES: b"{}", topics.STOCK_LEVELS: b'{"quantity":1}', topics.WATCH: b"{}"}[name]
    padding = b" " * 5_000_000
    producer = AIOKafkaProducer(bootstrap_servers=shop.connection.broker, max_request_size=MESSAGE_BYTES_MAX)
    await producer.start()
    try:
        await producer.send_and_wait(
            shop.topic(name),
            value + (padding if large == "value" else b""),
            key=key.encode(),
            headers=[("own", padding)] if large == "headers" else [],
            partition=(home + 1) % 4,
        )
    finally:
        await producer.stop()

    async def set_aside() -> dict[str, str] | None:
        letters = await shop.dead_letters()
        found = [headers for k, _, headers in letters if k == key.encode() and headers["kindred_topic"].endswith(name)]
        return found[-1] if found else None

    letter = await wait_until(set_aside, 30, installation.workers[0].tail)
    assert letter["kindred_reason"].startswith("BadEvent: expected at most")
    await still_there(shop, installation.workers[0])


async def test_what_unpacks_to_much_in_every_partition(shop: Shop, installation: Installation) -> None:
    """Messages that wait in many partitions are unpacked one after the other: each is one dead letter, or one reply.

    A broker closes the connection at a dead letter of more than 100 MiB, without a word of its size.
    """
    worker = installation.workers[0]
    before = len(await shop.dead_letters())
    correlations = [uuid.uuid4().bytes for _ in range(4)]
    producer = AIOKafkaProducer(
        bootstrap_servers=shop.connection.broker, max_request_size=2 * BOMB_BYTES, compression_type="zstd"
    )
    costs = Costs(worker)
    await producer.start()
    worker.signal(signal.SIGSTOP)
    try:
        for number, correlation in enumerate(correlations):
            for name in (topics.CATALOG_CHANGES, topics.STOCK_LEVELS, topics.ITEM_CHANGES, topics.SIMILAR_REQUESTS):
                more = [("kafka_correlationId", correlation)]
                await producer.send_and_wait(
                    shop.topic(name), bytes(BOMB_BYTES), key=b"bomb", partition=number, headers=more
                )
    finally:
        worker.signal(signal.SIGCONT)
        await producer.stop()

    async def set_aside() -> list[dict[str, str]] | None:
        found = [headers for _, _, headers in (await shop.dead_letters())[before:]]
        return found if len(found) >= 12 else None

    async def replied() -> list[bytes] | None:
        found = [dict(each.headers).get("kafka_correlationId") for each in await shop.read(topics.SIMILAR_RESPONSES)]
        mine = [each for each in found if each in correlations]
        return mine if len(mine) >= 4 else None

    letters = await wait_until(set_aside, 120, lambda: f"dead letters; {worker.tail(5)}")
    assert {str(BOMB_BYTES)} == {headers["kindred_cut"] for headers in letters}
    assert 12 == len(letters) == len({(each["kindred_topic"], each["kindred_partition"]) for each in letters})
    assert sorted(correlations) == sorted(await wait_until(replied, 60, "replies"))
    costs.check(BOMBS_MEMORY_MAX)
    await still_there(shop, worker)
