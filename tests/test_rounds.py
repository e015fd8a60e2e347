"""Rounds of the track stage, without a broker: what is delivered together, when it counts as done, and when never."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.record.memory_records import MemoryRecords

from models.tracker import Tracker
from models.truth_messages import ImageRequest, read_item_stock
from streams import topics
from streams.kafka.turns import Turns
from streams.metrics import Metrics
from streams.producer import ProducedBatch
from streams.settings import Settings
from streams.track.stage import RECORDS_MAX, Track
from tests.waiting import wait_until

T = 1_700_000_000_000
LEVELS = TopicPartition(topics.STOCK_LEVELS, 0)
CATALOG = TopicPartition(topics.CATALOG_CHANGES, 0)
ITEMS = [item for item in (f"item-{n}" for n in range(100)) if topics.partition_of(item.encode(), 4) == 0]


class Producer:
    """Keeps what is produced; refuses a topic for good, if told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | None, bytes | None]] = []
        self.refused = ""
        self.begun: list[str] = []
        """Topics of the batches that were to be sent at once; all of them have to wait."""

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(4))

    def create_batch(self) -> ProducedBatch:
        return ProducedBatch(100_000, 0)

    def send_now(self, batches: Sequence[Any]) -> list[None]:
        self.begun += [topic for topic, _, _ in batches]
        return [None] * len(batches)

    async def send_batch(self, batch: ProducedBatch, topic: str, *, partition: int) -> Any:
        await asyncio.sleep(0)
        if topic == self.refused:
            raise MessageSizeTooLargeError
        offset = len(self.sent)
        self.sent += [(topic, key, value) for key, value in records_of(batch)]
        acknowledged = asyncio.get_running_loop().create_future()
        acknowledged.set_result(SimpleNamespace(offset=offset))
        return acknowledged

    def stock(self) -> list[tuple[str, float | None]]:
        """Items and quantities on item-stocks."""
        return [
            ((key or b"").decode(), read_item_stock(value or b"").quantity)
            for topic, key, value in self.sent
            if topic == topics.ITEM_STOCKS
        ]

    async def stop(self) -> None: ...


def records_of(batch: ProducedBatch) -> list[tuple[bytes | None, bytes | None]]:
    """Keys and values of a batch as a broker reads them."""
    records, found = MemoryRecords(bytes(batch._build())), []
    while (each := records.next_batch()) is not None:
        assert each.validate_crc()
        found += [(record.key, record.value) for record in each]
    return found


class Consumer:
    """Keeps what is committed."""

    def __init__(self) -> None:
        self.committed: dict[TopicPartition, int] = {}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(4))

    def assignment(self) -> set[TopicPartition]:
        return {LEVELS, CATALOG}

    def position_now(self, tp: TopicPartition) -> int | None:
        return None

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.committed.update(offsets)

    async def stop(self) -> None: ...


class Clients:
    """In place of the connection."""

    def __init__(self) -> None:
        self.one_producer, self.one_consumer = Producer(), Consumer()
        self.now_ms = T

    def clock_ms(self) -> int:
        return self.now_ms

    def producer(self) -> Producer:
        return self.one_producer

    def consumer(self, *_: Any, **more: Any) -> Consumer:
        return self.one_consumer

    async def started(self, make: Callable[[], Any], what: str) -> Any:
        return make()


@pytest.fixture
def clients() -> Clients:
    return Clients()


@pytest_asyncio.fixture
async def track(clients: Clients) -> Track:
    """A stage that owns partition 0, of which it knows nothing yet."""
    made = Track(clients, Settings.read({}), Metrics(), "w", clients.clock_ms, Turns())  # type: ignore[arg-type]
    await made.on_start()
    made.trackers = {0: made._tracker()}
    return made


def poll(tp: TopicPartition, begin: int, *events: tuple[str, bytes]) -> dict[TopicPartition, list[Any]]:
    """Messages of a partition from an offset on."""
    return {
        tp: [
            SimpleNamespace(
                topic=tp.topic,
                partition=0,
                offset=begin + place,
                timestamp=T,
                key=key.encode(),
                value=value,
                headers=(),
            )
            for place, (key, value) in enumerate(events)
        ]
    }


def levels(begin: int, count: int) -> dict[TopicPartition, list[Any]]:
    """A poll of levels, of ten items in turn; the quantity is the offset."""
    offsets = range(begin, begin + count)
    return poll(LEVELS, begin, *((ITEMS[n % 10], b'{"quantity":%d,"at":%d}' % (n, T + n)) for n in offsets))


async def test_a_poll_that_is_not_full_is_delivered_at_once(track: Track, clients: Clients) -> None:
    """Nothing waits behind it, so it waits for nothing."""
    await track.process(levels(0, 1))

    assert clients.one_producer.stock() == [(ITEMS[0], 0)]
    assert track.done == {LEVELS: 1}
    assert not track.unfinished


async def test_a_piece_of_a_feed_is_told_to_those_who_share_the_loop(
    track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the number of its events: requests wait for few, a feed for visitors."""
    told: list[int] = []
    monkeypatch.setattr(track.turns, "changed", told.append)

    await track.process(levels(0, 3))
    await track.process(levels(3, RECORDS_MAX))

    assert told == [3, RECORDS_MAX]


async def test_full_polls_are_delivered_together(track: Track, clients: Clients) -> None:
    """A truth for each item, with its newest level, however many polls it came in; done when it is acknowledged."""
    for number in range(3):
        await track.process(levels(number * RECORDS_MAX, RECORDS_MAX))
        assert track.unfinished
    assert (clients.one_producer.sent, track.done) == ([], {})

    await track.process(levels(3 * RECORDS_MAX, 7))

    end = 3 * RECORDS_MAX + 7
    assert sorted(clients.one_producer.stock()) == sorted((ITEMS[n % 10], n) for n in range(end - 10, end))
    assert track.done == {LEVELS: end}
    assert not track.unfinished


async def test_an_empty_poll_ends_a_round(track: Track, clients: Clients) -> None:
    """The last full poll had nothing behind it."""
    await track.process(levels(0, RECORDS_MAX))
    await track.process({})

    assert len(clients.one_producer.stock()) == 10
    assert track.done == {LEVELS: RECORDS_MAX}


async def test_a_round_ends_when_it_is_long_enough(
    track: Track, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever waits, effects do not wait for it."""
    monkeypatch.setattr("streams.track.stage.ROUND_CPU_S", 0.0)
    await track.process(levels(0, RECORDS_MAX))

    assert track.done == {LEVELS: RECORDS_MAX}


async def test_asks_and_alerts_come_before_all_truths(
    track: Track, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when levels are taken in pieces, and levels turn flags."""
    monkeypatch.setattr("streams.track.stage.LEVELS_MAX", 1)
    records = [(item, b'{"title":"t","image":"x.jpg"}') for item in ITEMS[:10]]
    await track.process(poll(CATALOG, 0, *records) | levels(0, 10))

    seen = [topic for topic, _, _ in clients.one_producer.sent]
    first_truth = min(map(seen.index, (topics.ITEM_RECORDS, topics.ITEM_STOCKS)))
    assert set(seen[:first_truth]) == {topics.IMAGE_CHANGES, topics.ITEM_ALERTS}
    assert set(seen[first_truth:]) == {topics.ITEM_RECORDS, topics.ITEM_STOCKS}
    assert {topic: seen.count(topic) for topic in topics.TRUTHS[:2]} == dict.fromkeys(topics.TRUTHS[:2], 10)


async def test_only_what_others_overwrote_counts_as_written_again(track: Track, clients: Clients) -> None:
    """Events of a round that goes on are delivered with it, and are none of a late writer's."""
    records = [(item, b'{"title":"t"}') for item in ITEMS[:10]]
    await track.process(poll(CATALOG, 0, *records))

    def overwritten(batches: object, now_ms: int) -> None:
        track.trackers[0].records_due[ITEMS[9]] = None
        track.trackers[0].stocks_due[ITEMS[0]] = None

    await track.process(poll(CATALOG, 10, *((ITEMS[n % 9], b'{"title":"%d"}' % n) for n in range(RECORDS_MAX))))
    await track.process(levels(0, RECORDS_MAX))
    assert track.unfinished
    await track._follow(SimpleNamespace(follow=overwritten), {CATALOG: ["anything"]})  # type: ignore[arg-type]

    assert not track.trackers[0].records_due
    seen = [topic for topic, _, _ in clients.one_producer.sent]
    assert (seen.count(topics.ITEM_RECORDS), seen.count(topics.ITEM_STOCKS)) == (20, 10)
    assert track.metrics.reasserted.labels(topics.ITEM_RECORDS)._value.get() == 1
    assert track.metrics.reasserted.labels(topics.ITEM_STOCKS)._value.get() == 0  # it was to be written anyway


@pytest.mark.parametrize("refused", [topics.ITEM_STOCKS, topics.ITEM_ALERTS])
async def test_nothing_is_done_after_a_failed_delivery(track: Track, clients: Clients, refused: str) -> None:
    """The trackers have forgotten what nobody was told: not even the last commit of a stop may go past it."""
    clients.one_producer.refused = refused
    await track.process(poll(CATALOG, 0, *((item, b'{"title":"t"}') for item in ITEMS[:10])) | levels(0, RECORDS_MAX))
    with pytest.raises(MessageSizeTooLargeError):
        await track.process({})
    clients.one_producer.refused = ""
    sent = len(clients.one_producer.sent)

    await track.process(levels(RECORDS_MAX, 3))
    await track.on_stop()

    assert (track.done, clients.one_consumer.committed) == ({}, {})
    assert len(clients.one_producer.sent) == sent


async def test_what_is_unfinished_is_delivered_and_committed_before_it_is_given_up(
    track: Track, clients: Clients
) -> None:
    """In a rebalance, so that the next owner finds it; at a stop, too."""
    for give_up in (lambda: track.on_revoked(frozenset({LEVELS})), track.on_stop):
        track.trackers = {0: track._tracker()}
        clients.one_producer.sent.clear()
        clients.one_consumer.committed.clear()
        await track.process(levels(0, RECORDS_MAX))
        await give_up()

        assert len(clients.one_producer.stock()) == 10
        assert clients.one_consumer.committed == {LEVELS: RECORDS_MAX}
        assert not track.unfinished


async def test_partitions_are_given_up_also_when_their_effects_cannot_be_delivered(
    track: Track, clients: Clients
) -> None:
    """The error is kept for the loop to raise; the partitions are somebody else's all the same."""
    clients.one_producer.refused = topics.ITEM_STOCKS
    await track.process(levels(0, RECORDS_MAX))
    generation = track.generation
    await track.on_revoked(frozenset({LEVELS}))

    assert isinstance(track.bug, MessageSizeTooLargeError)
    assert (track.generation, track.trackers, track.unfinished) == (generation + 1, {}, False)
    assert clients.one_consumer.committed == {}


async def test_a_bug_ends_the_round(track: Track, clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is set aside with its traceback, what was before it is done, what is after it is not handled."""
    stumbled = RuntimeError("a fault of ours")

    def stumble(*_: Any) -> bool:
        raise stumbled

    monkeypatch.setattr(Tracker, "catalog", stumble)
    await track.process(levels(0, RECORDS_MAX))
    await track.process(poll(CATALOG, 5, (ITEMS[0], b"{}"), (ITEMS[1], b"{}")) | levels(RECORDS_MAX, RECORDS_MAX))

    assert track.bug is stumbled
    assert track.done == {LEVELS: RECORDS_MAX, CATALOG: 6}
    ((key, value),) = [(key, value) for topic, key, value in clients.one_producer.sent if topic == topics.DEAD_LETTERS]
    assert (key, value) == (ITEMS[0].encode(), b"{}")
    assert len(clients.one_producer.stock()) == 10


async def test_nothing_is_handled_after_a_bug(track: Track, clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hands in more is told to begin again where he began."""
    monkeypatch.setattr(Tracker, "catalog", lambda *_: 1 / 0)
    assert track.intake.handle(CATALOG, poll(CATALOG, 5, (ITEMS[0], b"{}"))[CATALOG], track.trackers[0]) == 6

    assert track.intake.handle(LEVELS, levels(7, 3)[LEVELS], track.trackers[0]) == 7
    assert track.intake.counts() == (1, 0)
    await track.finish()
    assert clients.one_producer.stock() == []


async def test_odd_levels_between_plain_ones_keep_their_place(track: Track, clients: Clients) -> None:
    """What cannot be read is set aside, what is another partition's is forwarded, the rest is kept in its order."""
    stranger = next(item for item in (f"item-{n}" for n in range(100)) if topics.partition_of(item.encode(), 4) == 1)
    events = [
        (ITEMS[0], b'{"quantity":1,"at":1}'),
        (ITEMS[0], b'{"quantity":"2","at":2}'),
        (ITEMS[0], b'{"quantity":3,"at":3}'),
        (stranger, b'{"quantity":4,"at":4}'),
        (ITEMS[1], b"no"),
        (ITEMS[0], b'{"quantity":9,"at":2}'),
        (ITEMS[0], b'{"quantity":"5","at":5,"sku":"x"}'),
        (ITEMS[1], b'{"quantity":6,"at":6}'),
    ]
    await track.process(poll(LEVELS, 0, *events))

    assert sorted(clients.one_producer.stock()) == sorted([(ITEMS[0], 5), (ITEMS[1], 6)])
    others = {topic: key for topic, key, _ in clients.one_producer.sent if topic != topics.ITEM_STOCKS}
    assert others == {topics.ITEM_CHANGES: stranger.encode(), topics.DEAD_LETTERS: ITEMS[1].encode()}
    assert track.metrics.events_late._value.get() == 1
    assert track.done == {LEVELS: 8}


async def test_a_sale_that_began_by_a_clock_ahead_is_over_when_it_is_set_back(track: Track, clients: Clients) -> None:
    """The stage notices while it lets time pass, and tells it."""
    record = b'{"price":5,"list_price":10,"sale_from":%d}' % (T + 60_000)

    def alerts() -> list[str]:
        sent = clients.one_producer.sent
        return [orjson.loads(value)["alert"] for topic, _, value in sent if topic == topics.ITEM_ALERTS and value]

    await track.process(poll(CATALOG, 0, (ITEMS[0], record)))
    passing = asyncio.ensure_future(track.advance.fun(track))
    try:
        for set_to, expected in ((T + 90_000, "on_sale"), (T + 30_000, "sale_over"), (T + 60_000, "on_sale")):
            told = len(alerts())
            clients.now_ms = set_to
            await wait_until(lambda told=told: len(alerts()) > told, 10, f"alert {expected}")  # type: ignore[misc]
            assert alerts()[told:] == [expected]
    finally:
        track._stopped.set()
        await passing


async def test_the_first_image_request_of_a_round_is_told_ahead(clients: Clients) -> None:
    """It is on its way by then; of more, only one could be begun; a round without any tells nobody."""
    told: list[tuple[int, str, list[str], bool]] = []

    def ahead(partition: int, item_id: str, request: ImageRequest) -> None:
        sent = topics.IMAGE_CHANGES in clients.one_producer.begun
        told.append((partition, item_id, [each.link for each in request.images], sent))

    made = Track(clients, Settings.read({}), Metrics(), "w", clients.clock_ms, Turns(), ahead)  # type: ignore[arg-type]
    await made.on_start()
    made.trackers = {0: made._tracker()}

    first, second = ITEMS[:2]
    await made.process(poll(CATALOG, 0, (first, b'{"image":"a.jpg"}'), (second, b'{"image":"b.jpg"}')))
    assert told == [(0, first, ["a.jpg"], True)]
    await made.process(poll(CATALOG, 2, (first, b'{"image":"a.jpg","price":3}')))
    assert len(told) == 1
    await made.process(poll(CATALOG, 3, (second, b'{"image":"c.jpg"}')))
    assert told[1][1:3] == (second, ["c.jpg"])
