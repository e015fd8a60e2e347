"""Single catalog events and what the tracker keeps of them: values not told, levels in records, deletes remembered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import tracker as tracker_module
from models.change_events import CatalogChange
from models.effects import Effects
from models.record import AttributeNames, RecordLimits
from models.stock import Level
from models.tracker import Tracker
from models.tracker_recovery import read_embedding
from models.truth_messages import ImageEmbedding, ItemEmbedding, LogPlace, image_name, write_message

T = 1_700_000_000_000
"""Some time, Unix ms."""

NAMES = st.sampled_from(["title", "price", "list_price", "colour", "image"])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "title": st.text("ab", min_size=1, max_size=2),
    "price": st.integers(1, 9),
    "list_price": st.integers(1, 9),
    "colour": st.sampled_from(["red", "blue"]),
    "image": st.sampled_from(["1.jpg", "2.jpg"]),
}


def made() -> Tracker:
    return Tracker("me", AttributeNames.parse(""), RecordLimits(), low_stock_at=5)


def messages(effects: Effects) -> list[Any]:
    """What is written of effects, without their counts."""
    records = [
        (key, value and (bytes(value.record), value.facts, value.images, value.image_version))
        for key, value in effects.records
    ]
    stocks = [(key, (value.quantity, value.at)) for key, value in effects.stocks]
    alerts = [(alert.objectID, alert.alert) for alert in effects.alerts]
    return [effects.image_requests, records, sorted(stocks), alerts]


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    return {name: draw(VALUES[name]) for name in sorted(draw(st.sets(NAMES)))}


@given(st.lists(st.tuples(records(), st.sets(NAMES)), min_size=1, max_size=5))
def test_a_value_that_is_not_told_is_the_one_that_was_known(changes: list[tuple[dict[str, Any], set[str]]]) -> None:
    """Whoever is told whole records, filled in by hand, has the same messages."""
    told, filled = made(), made()
    known: dict[str, Any] = {}
    for number, (record, unavailable) in enumerate(changes):
        at = T + number
        attributes = {name: value for name, value in record.items() if name not in unavailable}
        whole = attributes | {name: known[name] for name in unavailable if name in known}
        told.catalog(CatalogChange("a", attributes, frozenset(unavailable)), at, at)
        filled.catalog(CatalogChange("a", whole), at, at)
        known = whole

        assert messages(told.take(at)) == messages(filled.take(at))


@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.integers(0, 9)), st.one_of(st.none(), st.integers(0, 9)), st.integers(0, 3)),
        min_size=1,
        max_size=6,
    )
)
def test_a_level_in_a_record_is_one_as_if_it_had_come_by_itself(events: list[tuple[Any, Any, int]]) -> None:
    """A record's `stock` counts at the event's time, and a level that came by itself and is newer stays."""
    within, apart = made(), made()
    for number, (in_record, by_itself, early) in enumerate(events):
        at = T + number * 2
        record = {"title": str(number)} | ({} if in_record is None else {"stock": in_record})
        within.catalog(CatalogChange("a", record), at, at)
        apart.catalog(CatalogChange("a", {"title": str(number)}), at, at)
        if in_record is not None:
            apart.stock("a", Level(in_record, at))
        if by_itself is not None:
            level = Level(by_itself, at + 1 - early)
            assert within.stock("a", level) == apart.stock("a", level)

        assert messages(within.take(at))[2:] == messages(apart.take(at))[2:]


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("stock", [True, False])
def test_an_older_event_behind_a_forwarded_delete_brings_nothing_back(stock: bool, taken: bool) -> None:
    """Also of an item whose level is still known, and of one whose delete is still to be written."""
    tracker = made()
    tracker.catalog(CatalogChange("a", {"title": "a"}), T, T, LogPlace("t", 0, 1))
    if stock:
        tracker.stock("a", Level(3, T))
    tracker.catalog(CatalogChange("a", None), T + 2, T + 2, LogPlace("t", 0, 3))
    if taken:
        tracker.take(T + 2)

    assert not tracker.catalog(CatalogChange("a", {"title": "older"}), T + 1, T + 2, LogPlace("t", 0, 2))
    assert [gone and gone.gone for _, gone in tracker.take(T + 2).records] == ([] if taken else [True, None])
    assert tracker.catalog(CatalogChange("a", {"title": "newer"}), T + 3, T + 3, LogPlace("t", 0, 4))


def test_the_oldest_forwarded_deletes_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so many the last are known: what comes late behind those is ignored, behind an older one it is not."""
    monkeypatch.setattr(tracker_module, "DELETED_MAX", 2)
    tracker = made()
    for number, item_id in enumerate("abc"):
        tracker.catalog(CatalogChange(item_id, {}), T, T, LogPlace("t", 0, 2 * number))
        tracker.catalog(CatalogChange(item_id, None), T, T, LogPlace("t", 0, 10 + number))

    late = {item_id: tracker.catalog(CatalogChange(item_id, {}), T, T, LogPlace("t", 0, 1)) for item_id in "abc"}

    assert late == {"a": True, "b": False, "c": False}
    assert "a" not in tracker.deleted, "an item that is back is no deleted one"


def test_a_window_or_an_attempt_of_an_item_that_has_changed_since_is_not_waited_for() -> None:
    """What was due for an earlier record, an earlier embedding, or an item that is gone, asks and tells nothing."""
    tracker = made()
    sale = {"price": 1, "list_price": 2, "sale_from": T + 10, "image": "1.jpg"}
    for item_id in "ab":
        tracker.catalog(CatalogChange(item_id, sale), T, T)
        tracker.take(T)
        state = tracker.items[item_id]
        assert state.record
        late = ImageEmbedding("1.jpg", error="away", attempt=1, retry_at=T + 10)
        read_embedding(tracker, item_id, ItemEmbedding(state.record.image_version, "m", (late,)), T)
    assert tracker.next_due_ms() == T + 10
    tracker.catalog(CatalogChange("a", {"price": 1, "image": "2.jpg"}), T + 1, T + 1)
    tracker.catalog(CatalogChange("b", None), T + 1, T + 1)
    tracker.take(T + 1)

    tracker.advance(T + 10)

    assert not tracker.take(T + 10)
    assert tracker.next_due_ms() is None


def test_a_picture_within_a_record_is_asked_for_again_by_its_link() -> None:
    """Messages name it by its digest; whoever is to fetch it is told the whole link, which the record has."""
    tracker = made()
    link = "data:image/png;base64,AAAA"
    tracker.catalog(CatalogChange("a", {"images": [link, "1.jpg"]}), T, T)
    ((_, first),) = tracker.take(T).image_requests
    assert [image.link for image in first.images] == [link, "1.jpg"]
    whole = tuple(ImageEmbedding(image_name(image.link), vector="v") for image in first.images)
    read_embedding(tracker, "a", ItemEmbedding(first.image_version, "m", whole), T)

    less = ItemEmbedding(first.image_version, "m", (ImageEmbedding(image_name(link), error="away"), whole[1]))
    read_embedding(tracker, "a", less, T)  # a late writer's
    ((_, known),) = tracker.take(T).image_requests
    assert known.images == whole, "what is known is not asked for"

    other = ItemEmbedding(first.image_version + 1, "m", ())
    state = tracker.items["a"]
    state.embedding = ItemEmbedding(first.image_version, "m", (whole[1],))
    read_embedding(tracker, "a", other, T)
    ((_, again),) = tracker.take(T).image_requests
    assert [(image.link, image.vector) for image in again.images] == [(link, None), ("1.jpg", "v")]
    assert msgspec.json.decode(write_message(again))["images"][0] == {"link": link}
