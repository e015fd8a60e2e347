"""The tracker: what events of an item become, live, replayed, recovered, and against writers that come too late."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import flag_turns
from models.change_events import CatalogChange
from models.effects import Effects
from models.errors import BadEvent
from models.record import AttributeNames, RecordLimits
from models.stock import Level
from models.tracker import Tracker
from models.tracker_recovery import Recovery, read_embedding, read_record, read_stock
from models.truth_messages import (
    ImageEmbedding,
    ImageRequest,
    ItemEmbedding,
    LogPlace,
    image_name,
    read_image_request,
    read_item_embedding,
    read_item_record,
    read_item_stock,
    write_message,
)

NAMES = AttributeNames.parse("")
LIMITS = RecordLimits()
T = 1_700_000_000_000
"""Some time, Unix ms."""
RECORDS, STOCKS, EMBEDDINGS, REQUESTS = "item-records", "item-stocks", "item-embeddings", "image-changes"


@dataclass
class Topics:
    """The logs of one partition: (key, value, writer) in the order of their writing."""

    logs: dict[str, list[tuple[str, bytes | None, str]]] = field(
        default_factory=lambda: {name: [] for name in (RECORDS, STOCKS, EMBEDDINGS, REQUESTS)}
    )
    alerts: list[tuple[str, str]] = field(default_factory=list)

    def write(self, effects: Effects, writer: str) -> None:
        """Deliver a round as the stage does: requests and alerts, then the truths."""
        self.logs[REQUESTS] += [(k, write_message(r), writer) for k, r in effects.image_requests]
        self.alerts += [(alert.objectID, alert.alert) for alert in effects.alerts]
        self.logs[RECORDS] += [(k, write_message(r) if r else None, writer) for k, r in effects.records]
        self.logs[STOCKS] += [(k, write_message(s), writer) for k, s in effects.stocks]

    def last(self, name: str) -> dict[str, bytes]:
        """What compaction keeps."""
        state = {key: value for key, value, _ in self.logs[name]}
        return {key: value for key, value in state.items() if value is not None}


class Owner:
    """A process that owns the partition, or believes so."""

    def __init__(self, name: str, topics: Topics, generation: int, now_ms: int = 10_000) -> None:
        self.name = name
        self.topics = topics
        self.tracker = Tracker(name, NAMES, LIMITS, low_stock_at=5)
        recovery = Recovery(self.tracker)
        folds: list[tuple[str, Callable[[str, Any, int], None], Callable[[bytes], Any]]] = [
            (EMBEDDINGS, recovery.embedding, read_item_embedding),
            (RECORDS, recovery.record, read_item_record),
            (STOCKS, recovery.stock, read_item_stock),
        ]
        for topic, fold, read in folds:
            for key, value, _ in topics.logs[topic]:
                fold(key, read(value) if value is not None else None, now_ms)
        self.positions = {topic: len(topics.logs[topic]) for topic in (RECORDS, STOCKS, EMBEDDINGS)}
        recovery.finish(generation, now_ms)
        self.deliver()

    def handle(self, events: list[tuple[str, Any]], now_ms: int = 10_000) -> Effects:
        """Effects of a poll, not delivered."""
        for item_id, event in events:
            if isinstance(event, Level):
                self.tracker.stock(item_id, event)
            else:
                self.tracker.catalog(CatalogChange(item_id, event[0], frozenset()), event[1], now_ms)
        return self.tracker.take(now_ms)

    def deliver(self, effects: Effects | None = None) -> None:
        """Write effects, or what is due."""
        self.topics.write(effects or self.tracker.take(10_000), self.name)

    def follow(self) -> None:
        """Read what came to the truths, and answer it."""
        for topic in (RECORDS, STOCKS, EMBEDDINGS):
            for key, value, writer in self.topics.logs[topic][self.positions[topic] :]:
                if topic == EMBEDDINGS:
                    read_embedding(self.tracker, key, read_item_embedding(value) if value else None, 10_000)
                elif writer != self.name:
                    if topic == RECORDS:
                        read_record(self.tracker, key, read_item_record(value) if value else None)
                    else:
                        read_stock(self.tracker, key, read_item_stock(value) if value else None)
            self.positions[topic] = len(self.topics.logs[topic])
        self.deliver()


class Embedder:
    """The embed stage: answers requests in their order; counts the images that it had to fetch."""

    def __init__(self, topics: Topics, start: int = 0) -> None:
        self.topics = topics
        self.position = start
        self.fetched: list[str] = []

    def take(self, count: int | None = None) -> list[tuple[str, bytes | None, str]]:
        """Results of the next requests, not written."""
        end = len(self.topics.logs[REQUESTS]) if count is None else self.position + count
        requests = self.topics.logs[REQUESTS][self.position : end]
        self.position += len(requests)
        return [(key, self._result(read_image_request(value or b"")), "embed") for key, value, _ in requests]

    def run(self) -> None:
        """Answer all that waits."""
        self.topics.logs[EMBEDDINGS] += self.take()

    def _result(self, request: ImageRequest) -> bytes | None:
        if request.gone:
            return None
        images = tuple(each if each.vector else self._embedded(each.link) for each in request.images)
        return write_message(ItemEmbedding(request.image_version, "m", images, "embed"))

    def _embedded(self, link: str) -> ImageEmbedding:
        self.fetched.append(link)
        return ImageEmbedding(image_name(link), digest="d", vector="v:" + link)


def settle(owner: Owner, embedder: Embedder) -> None:
    """Let the owner and the embed stage answer each other until nothing comes any more."""
    for _ in range(20):
        before = {name: len(log) for name, log in owner.topics.logs.items()}
        owner.follow()
        embedder.run()
        if before == {name: len(log) for name, log in owner.topics.logs.items()}:
            return
    raise AssertionError("the owner and the embed stage never come to rest")


def check(topics: Topics, events: list[tuple[str, Any]]) -> None:
    """The truths say what the events say: the last record, the newest level, the images of the last record."""
    records: dict[str, dict[str, Any] | None] = {}
    levels: dict[str, Level] = {}
    for item_id, event in events:
        if isinstance(event, Level):
            if item_id not in levels or event.at >= levels[item_id].at:
                levels[item_id] = event
        else:
            records[item_id] = event[0]
    live = {key: value for key, value in records.items() if value is not None}
    got = {key: read_item_record(value) for key, value in topics.last(RECORDS).items()}
    assert {key: msgspec.json.decode(each.record) for key, each in got.items()} == {
        key: value | {"objectID": key} for key, value in live.items()
    }
    stocks = {key: read_item_stock(value) for key, value in topics.last(STOCKS).items()}
    assert {key: (each.quantity, each.at) for key, each in stocks.items()} == {
        key: (each.quantity, each.at) for key, each in levels.items()
    }
    embeddings = {key: read_item_embedding(value) for key, value in topics.last(EMBEDDINGS).items()}
    assert set(embeddings) == {key for key, each in got.items() if each.images or key in embeddings}
    for key, each in embeddings.items():
        assert each.image_version == got[key].image_version
        assert {image.link for image in each.images} == set(got[key].images)
        assert all(image.vector == "v:" + image.link for image in each.images)


ITEMS = st.sampled_from(["a", "b", "c"])
RECORD = st.fixed_dictionaries({"image": st.lists(st.sampled_from(["x.jpg", "y.jpg", "z.jpg"]), unique=True)}).map(
    lambda record: record | {"title": f"{len(record['image'])} pictures"}
)


@st.composite
def event_logs(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Catalog changes in the order of their time, levels with times of their own, one for an instant."""
    events: list[tuple[str, Any]] = []
    for number in range(draw(st.integers(1, 14))):
        item_id = draw(ITEMS)
        if draw(st.booleans()):
            events.append((item_id, (draw(st.one_of(st.none(), RECORD)), 1_000 + number)))
        else:
            events.append((item_id, Level(float(number), draw(st.integers(1, 50)) * 100 + number)))
    return events


def batches(draw: Callable[[Any], Any], events: list[tuple[str, Any]]) -> list[list[tuple[str, Any]]]:
    """The events cut into polls."""
    cuts = sorted(draw(st.sets(st.integers(0, len(events)), max_size=4)) | {0, len(events)})
    return [events[begin:end] for begin, end in itertools.pairwise(cuts)]


@given(data=st.data(), events=event_logs())
@settings(max_examples=300, deadline=None)
def test_replays_and_restarts_change_nothing(data: st.DataObject, events: list[tuple[str, Any]]) -> None:
    """Whatever is handled twice, and wherever owners change, the truths end as the events say."""
    topics = Topics()
    embedder = Embedder(topics)
    owner = Owner("w0", topics, 1)
    polls = batches(data.draw, events)
    for number, poll in enumerate(polls):
        owner.deliver(owner.handle(poll))
        if data.draw(st.booleans(), label="embed"):
            embedder.run()
        if data.draw(st.booleans(), label="follow"):
            owner.follow()
        if data.draw(st.booleans(), label="restart without a commit"):
            owner = Owner(f"w{number + 1}", topics, number + 2)
            for again in polls[data.draw(st.integers(0, number), label="committed") : number + 1]:
                owner.deliver(owner.handle(again))
    settle(owner, embedder)
    check(topics, events)


@given(data=st.data(), events=event_logs())
@settings(max_examples=500, deadline=None)
def test_a_late_writer_brings_nothing_back(data: st.DataObject, events: list[tuple[str, Any]]) -> None:
    """An owner that was paused over a rebalance delivers its batch afterwards, in pieces: nothing stale stays."""
    topics = Topics()
    embedder = Embedder(topics)
    split = data.draw(st.integers(0, len(events)))
    late = Owner("late", topics, 1)
    late.deliver(late.handle(events[:split]))
    if data.draw(st.booleans(), label="embedded before"):
        settle(late, embedder)
    hand = data.draw(st.integers(split, len(events)))
    in_hand = late.handle(events[split:hand])
    slow = Embedder(topics, embedder.position)
    results_in_hand = slow.take(data.draw(st.integers(0, len(topics.logs[REQUESTS]) - slow.position)))

    def wake() -> None:
        topics.write(in_hand, "late")
        topics.logs[EMBEDDINGS] += results_in_hand

    moment = data.draw(st.sampled_from(["before recovery", "in the middle", "at the end", "after a second owner"]))
    if moment == "before recovery":
        wake()
    owner = Owner("w1", topics, 2)
    for poll in batches(data.draw, events[split:]):
        if moment == "in the middle" and data.draw(st.booleans()):
            wake()
            moment = "done"
        owner.deliver(owner.handle(poll))
        if data.draw(st.booleans(), label="follow"):
            owner.follow()
            embedder.run()
    if moment != "done":
        wake()
    if moment == "after a second owner":
        owner = Owner("w2", topics, 3)
    settle(owner, embedder)
    check(topics, events)


def test_the_same_record_twice_changes_nothing() -> None:
    """A repeated record writes no message, asks for no image and sends no alert."""
    topics = Topics()
    owner = Owner("w", topics, 1)
    owner.deliver(owner.handle([("a", ({"image": "x.jpg", "price": 3}, 1))]))
    sizes = {name: len(log) for name, log in topics.logs.items()}

    owner.deliver(owner.handle([("a", ({"price": 3, "image": "x.jpg"}, 2))]))

    assert sizes == {name: len(log) for name, log in topics.logs.items()}
    assert topics.alerts == [("a", "new")]


def test_a_price_change_asks_for_no_image() -> None:
    """Only new image links are asked for; what stays is carried over with its vector."""
    topics = Topics()
    owner, embedder = Owner("w", topics, 1), Embedder(topics)
    owner.deliver(owner.handle([("a", ({"image": ["x.jpg"], "price": 3}, 1))]))
    settle(owner, embedder)

    owner.deliver(owner.handle([("a", ({"image": ["x.jpg"], "price": 4}, 2))]))
    assert len(topics.logs[REQUESTS]) == 1

    owner.deliver(owner.handle([("a", ({"image": ["x.jpg", "y.jpg"], "price": 4}, 3))]))
    settle(owner, embedder)
    assert embedder.fetched == ["x.jpg", "y.jpg"]


def test_a_bad_record_changes_nothing() -> None:
    """A record that cannot be used raises, and the item stays as it was."""
    topics = Topics()
    owner = Owner("w", topics, 1)
    owner.deliver(owner.handle([("a", ({"image": "x.jpg"}, 1))]))
    before = topics.last(RECORDS)

    with pytest.raises(BadEvent, match="price"):
        owner.handle([("a", ({"image": "x.jpg", "price": "cheap"}, 2))])

    owner.deliver()
    assert topics.last(RECORDS) == before


def test_sale_windows_open_and_close_by_themselves() -> None:
    """Time alone turns the flag, and tells it once."""
    topics = Topics()
    owner = Owner("w", topics, 1, now_ms=T)
    record = {"price": 5, "list_price": 10, "sale_from": T + 20_000, "sale_until": T + 30_000}
    owner.deliver(owner.handle([("a", (record, T))], now_ms=T + 1_000))
    assert owner.tracker.next_due_ms() == T + 20_000

    for after_ms, expected in ((19_999, []), (20_000, ["on_sale"]), (20_001, []), (30_000, ["sale_over"])):
        topics.alerts.clear()
        owner.tracker.advance(T + after_ms)
        topics.write(owner.tracker.take(T + after_ms), "w")
        assert [alert for _, alert in topics.alerts] == expected, after_ms


def test_a_window_that_opened_while_nobody_was_there_is_told() -> None:
    """A new owner tells what time has turned since the last message of the truths."""
    topics = Topics()
    owner = Owner("w", topics, 1, now_ms=T)
    record = {"price": 5, "list_price": 10, "sale_from": T + 20_000}
    owner.deliver(owner.handle([("a", (record, T))], now_ms=T))
    topics.alerts.clear()

    owner = Owner("w2", topics, 2, now_ms=T + 10_000)
    owner.tracker.advance(T + 25_000)
    topics.write(owner.tracker.take(T + 25_000), "w2")

    assert topics.alerts == [("a", "on_sale")]


def test_hosts_that_do_not_answer_are_asked_again_when_it_is_time() -> None:
    """A retry asks only for what is due, says how often it was tried, and survives a change of owner."""
    topics = Topics()
    owner = Owner("w", topics, 1)
    owner.deliver(owner.handle([("a", ({"image": ["x.jpg", "y.jpg"]}, 1))]))
    version = read_item_record(topics.last(RECORDS)["a"]).image_version
    images = (
        ImageEmbedding("x.jpg", vector="v:x.jpg"),
        ImageEmbedding("y.jpg", error="away", attempt=1, retry_at=12_000),
    )
    topics.logs[EMBEDDINGS].append(("a", write_message(ItemEmbedding(version, "m", images, "embed")), "embed"))

    for each in (owner, Owner("w2", topics, 2)):
        each.follow()
        each.tracker.advance(11_999)
        assert not each.tracker.take(11_999)
        each.tracker.advance(12_000)
        ((item_id, request),) = each.tracker.take(12_000).image_requests
        assert item_id == "a"
        assert request.images == (images[0], ImageEmbedding("y.jpg", attempt=1))


def test_sales_are_of_the_time_that_a_clock_is_set_back_to() -> None:
    """A sale that began too soon, by a clock that was ahead, is over, and begins again when it is time."""
    tracker = Tracker("w", NAMES, LIMITS, low_stock_at=5)
    record = {"price": 5, "list_price": 10, "sale_from": T + 20_000, "sale_until": T + 30_000}
    tracker.catalog(CatalogChange("item", record), T, T)
    tracker.catalog(CatalogChange("always", record | {"sale_from": None, "sale_until": None}), T, T)
    for now_ms, step, alerts in (
        (T, tracker.advance, ["new", "new"]),
        (T + 25_000, tracker.advance, ["on_sale"]),
        (T + 10_000, partial(tracker.set_back, 15_000), ["sale_over"]),
        (T + 19_999, tracker.advance, []),
        (T + 20_000, tracker.advance, ["on_sale"]),
        (T + 30_000, tracker.advance, ["sale_over"]),
    ):
        step(now_ms)
        assert [alert.alert for alert in tracker.take(now_ms).alerts] == alerts, now_ms - T


def test_images_wait_no_longer_for_a_clock_that_is_set_back() -> None:
    """What was to be asked for in two seconds is asked for in two seconds, and so is what is told after that."""
    topics = Topics()
    owner = Owner("w", topics, 1)
    owner.deliver(owner.handle([("a", ({"image": "a.jpg"}, 1)), ("b", ({"image": "b.jpg"}, 1))]))

    def away(item_id: str, retry_at: int) -> None:
        version = read_item_record(topics.last(RECORDS)[item_id]).image_version
        image = ImageEmbedding(f"{item_id}.jpg", error="away", attempt=1, retry_at=retry_at)
        topics.logs[EMBEDDINGS].append((item_id, write_message(ItemEmbedding(version, "m", (image,), "e")), "e"))
        owner.follow()

    away("a", 9_000_000)
    owner.tracker.advance(8_998_000)
    owner.tracker.set_back(8_990_000, 8_000)
    away("b", 10_500)
    for now_ms, asked in ((9_999, []), (10_000, ["a"]), (10_499, []), (10_500, ["b"])):
        owner.tracker.advance(now_ms)
        assert [item_id for item_id, _ in owner.tracker.take(now_ms).image_requests] == asked, now_ms


def test_late_levels_are_ignored_however_late() -> None:
    """The newest `at` wins, whatever comes after it."""
    topics = Topics()
    owner = Owner("w", topics, 1)
    owner.deliver(owner.handle([("a", Level(5, 200))]))

    assert not owner.tracker.stock("a", Level(3, 150))
    assert owner.tracker.stock("a", Level(4, 200))
    assert owner.tracker.stock("a", Level(None, 300))
    assert not owner.tracker.stock("a", Level(9, 299))
    owner.deliver()

    assert read_item_stock(topics.last(STOCKS)["a"]).quantity is None


@pytest.mark.parametrize("moved", [False, True])
def test_prices_that_change_within_a_sale_do_not_pile_up(moved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn is remembered for an item, or few where its end moves too; the last one still turns the flag."""
    monkeypatch.setattr(flag_turns, "OUTDATED_MAX", 5)
    tracker = Tracker("w", NAMES, LIMITS, low_stock_at=5)
    end = T + 1_000
    for price in range(1, 100):
        end += moved
        record = {"price": price, "list_price": 500, "sale_until": end}
        tracker.catalog(CatalogChange("item", record), T, T)
        assert len(tracker.turns._queue) <= (7 if moved else 1)
    assert [alert.alert for alert in tracker.take(T).alerts] == ["new"]

    for now_ms, alerts in ((end - 1, []), (end, ["sale_over"])):
        tracker.advance(now_ms)
        assert [alert.alert for alert in tracker.take(now_ms).alerts] == alerts


def test_a_forwarded_event_that_comes_late_changes_nothing() -> None:
    """What a paused worker forwards behind a later event of the same log is ignored, also behind a delete."""
    topics = Topics()
    owner = Owner("w", topics, 1)

    def forwarded(attributes: dict[str, Any] | None, offset: int, at: int) -> bool:
        kept = owner.tracker.catalog(CatalogChange("a", attributes, frozenset()), at, 10_000, LogPlace("c", 5, offset))
        owner.deliver()
        return kept

    assert forwarded({"title": "second"}, offset=8, at=200)
    assert not forwarded({"title": "first"}, offset=7, at=100)
    owner = Owner("w2", topics, 2)
    assert not forwarded({"title": "first"}, offset=7, at=100)
    assert b"second" in topics.last(RECORDS)["a"]

    assert forwarded(None, offset=9, at=300)
    assert not forwarded({"title": "second"}, offset=8, at=200)
    owner = Owner("w3", topics, 3)
    assert not forwarded({"title": "second"}, offset=8, at=200)
    assert "a" not in topics.last(RECORDS)

    assert forwarded({"title": "in a topic made anew"}, offset=0, at=400)


def test_an_embedding_of_images_that_are_gone_does_not_stay() -> None:
    """A late request for a picture of the item's former life ends with no embedding, as the record has no images."""
    topics = Topics()
    late = Owner("late", topics, 1)
    in_hand = late.handle([("a", ({"image": ["x.jpg"]}, 1_000))])
    topics.write(in_hand, "late")
    owner, embedder = Owner("w", topics, 2), Embedder(topics)
    for event in ((None, 1_005), ({"title": "no picture"}, 1_008)):
        owner.deliver(owner.handle([("a", event)]))

    topics.write(in_hand, "late")
    settle(owner, embedder)

    check(topics, [("a", ({"title": "no picture"}, 1_008))])
    assert topics.last(EMBEDDINGS) == {}
