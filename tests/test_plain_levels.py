"""Levels that come in great numbers: the short ways say what the long ways say, and rounds of any size end the same."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.change_events import CatalogChange, StockChange, read_item_id, read_stock_change
from models.debezium import unwrap
from models.effects import Effects
from models.errors import BadEvent
from models.field_values import INSTANT_MS_MAX, INSTANT_MS_MIN, instant_ms, number
from models.plain_levels import keep_plain_levels
from models.record import AttributeNames, RecordLimits
from models.stock import Level
from models.tracker import Tracker
from models.truth_messages import read_item_stock, write_message

T = 1_700_000_000_000
KNOWN = ("a", "größe", '{"id":"a"}', "{", "k" * 512)

numbers_as_text = st.one_of(
    st.text("0123456789+-.eE", max_size=8),
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(["-0", "-0.0", "1e999", "1e-400", "NaN", "Infinity", "null", "true", '"5"', "[1]", "{}", ""]),
)
moments_as_text = numbers_as_text | st.integers(T, T + 50).map(str)
bounds = st.sampled_from([INSTANT_MS_MAX, INSTANT_MS_MAX + 1, INSTANT_MS_MIN, INSTANT_MS_MIN - 1]).map(str)
names = st.sampled_from(["quantity", "at", "sku", "__deleted", "__op", "op", "after", "\\u0061t", "Quantity"])
members = st.tuples(names, moments_as_text | bounds).map(lambda pair: f'"{pair[0]}":{pair[1]}')
plain = st.builds('{{"quantity":{},"at":{}}}'.format, st.integers(-3, 9), st.integers(T, T + 9))
texts = plain | st.builds(
    lambda inside, end: "{" + ",".join(inside) + "}" + end,
    st.lists(members, max_size=4),
    st.sampled_from(["", "", " ", "\n", "x", "}"]),
)
values = texts.map(str.encode) | st.binary(max_size=12) | st.none()
keys = st.one_of(
    st.sampled_from([name.encode() for name in KNOWN]),
    st.sampled_from([b"new", b'{"id":"a"}', b'{"id":"new"}', b"\xff", b"", b"k" * 513, b'{"id":1.5}']),
    st.none(),
)


def outcome(read: Callable[[], StockChange]) -> StockChange | str:
    """What is read, or the message of the refusal, without the words of the JSON library."""
    try:
        return read()
    except BadEvent as error:
        return re.split(", got|, but", str(error))[0]


def each_once(pairs: list[tuple[str, Any]]) -> None:
    """No name stands twice."""
    if len(dict(pairs)) < len(pairs):
        raise BadEvent("value: expected each key once")


def long_way(key: bytes | None, value: bytes | None) -> StockChange:
    """What an event says, read without any short cut."""
    try:
        body = orjson.loads(value) if value is not None else None
    except orjson.JSONDecodeError as error:
        raise BadEvent("value: expected JSON") from error
    if value is not None:
        json.loads(value, object_pairs_hook=each_once)
    row = unwrap(body).columns
    if row is None:
        return StockChange(read_item_id(key), Level(None, T))
    if "quantity" not in row:
        raise BadEvent("value: expected quantity")
    at = instant_ms("at", row.get("at"))
    level = Level(number("quantity", row["quantity"]), T if at is None else at)
    return StockChange(read_item_id(key), level)


@given(keys, values)
@example(b"a", b'{"quantity":-0,"at":5}')
@example(b"a", b'{"quantity":1,"at":2,"\xff":1}')
@example(b"a", b'{"quantity":1,"at":-253402300799999999}')
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_read_as_the_long_way_reads_them(key: bytes | None, value: bytes | None) -> None:
    """Numbers in every spelling, unknown and repeated fields, odd keys, what is no JSON."""
    expected, read = outcome(lambda: long_way(key, value)), outcome(lambda: read_stock_change(key, value, T))

    assert repr(expected) == repr(read)  # of a zero the sign, too


def tracker(*known: str) -> Tracker:
    """A tracker that knows some items: every other one by a record, the first of them on sale."""
    made = Tracker("w", AttributeNames.parse(""), RecordLimits(), low_stock_at=5)
    for place, item_id in enumerate(known):
        if place % 2 == 0:
            record = {"title": "t", "price": 5} | ({"list_price": 9} if place == 0 else {})
            made.catalog(CatalogChange(item_id, record), T, T)
        else:
            made.stock(item_id, Level(50.0, T))
    made.take(T)
    return made


def kept(made: Tracker) -> dict[str, tuple[Level | None, bool]]:
    """Levels that a tracker holds, and whether they are due."""
    return {item_id: (state.level, item_id in made.stocks_due) for item_id, state in made.items.items()}


def one_by_one(made: Tracker, message: Any) -> tuple[int, int]:
    """Late and bad ones of one message, kept the long way."""
    try:
        change = read_stock_change(message.key, message.value, message.timestamp)
    except BadEvent:
        return 0, 1
    return int(not made.stock(change.item_id, change.level)), 0


messages = st.builds(lambda key, value: SimpleNamespace(key=key, value=value, timestamp=T), keys, values)


@given(st.lists(messages, max_size=30))
@example([SimpleNamespace(key=b"a", value=b'{"quantity":1,"at":1700000000000,"sku":1}', timestamp=T)])
@settings(max_examples=200, deadline=None)
def test_the_loop_keeps_what_one_by_one_keeps(events: list[Any]) -> None:
    """Whatever the loop takes, and whatever it leaves to the long way: the same levels, marks and counts."""
    slow, quick = tracker(*KNOWN), tracker(*KNOWN)
    expected = [one_by_one(slow, message) for message in events]

    reached = late = bad = 0
    while reached < len(events):
        reached, more_late = keep_plain_levels(quick, events, reached)
        late += more_late
        if reached < len(events):
            more_late, more_bad = one_by_one(quick, events[reached])
            late, bad, reached = late + more_late, bad + more_bad, reached + 1

    assert kept(slow) == kept(quick)
    assert list(slow.stocks_due) == list(quick.stocks_due)
    assert (sum(each for each, _ in expected), sum(each for _, each in expected)) == (late, bad)


def test_plain_levels_need_no_long_way() -> None:
    """Levels of known items as shops write them are all kept by the loop."""
    made = tracker("a", "b")
    events = [
        SimpleNamespace(key=b"ab"[n % 2 : n % 2 + 1], value=b'{"quantity":%d,"at":%d}' % (n % 7, T + n), timestamp=0)
        for n in range(500)
    ]

    assert (500, 0) == keep_plain_levels(made, events, 0)
    assert (500, 498) == keep_plain_levels(made, events, 0)  # again: the last of each says what is known
    assert {"a": (Level(498 % 7, T + 498), True), "b": (Level(499 % 7, T + 499), True)} == kept(made)


levels = st.builds(Level, st.sampled_from([None, 0.0, 1.0, 5.0, 6.0, 80.0]), st.integers(T, T + 6))
steps = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d"]), levels), max_size=25)


class Truths:
    """The stock truths of a tracker: the last message of each item, without its count."""

    def __init__(self) -> None:
        self.last: dict[str, bytes] = {}
        self.counts: list[int] = []

    def write(self, effects: Effects) -> None:
        """Keep a round's messages."""
        for item_id, stock in effects.stocks:
            self.counts.append(stock.written.count)
            without = msgspec.structs.replace(stock, written=type(stock.written)())
            self.last[item_id] = write_message(without)


@given(steps, st.data())
@settings(max_examples=150, deadline=None)
def test_rounds_of_any_size_end_in_the_same_truths(events: list[tuple[str, Level]], data: st.DataObject) -> None:
    """The last truth of each item has the same bytes, whatever was handled together and taken in whatever pieces."""
    single, rounds = tracker("a", "b", "c"), tracker("a", "b", "c")
    expected, got = Truths(), Truths()
    for item_id, level in events:
        single.stock(item_id, level)
        expected.write(single.take(T))

    cuts = sorted(data.draw(st.sets(st.integers(0, len(events)))) | {0, len(events)})
    for begin, end in itertools.pairwise(cuts):
        for item_id, level in events[begin:end]:
            rounds.stock(item_id, level)
        pieces = data.draw(st.sampled_from([None, 1, 2]))
        while effects := rounds.take(T, pieces):
            assert pieces is None or len(effects.stocks) <= pieces
            got.write(effects)

    assert expected.last == got.last
    assert got.counts == sorted(set(got.counts)), "counts only go up"
    assert {k: s.level for k, s in single.items.items()} == {k: s.level for k, s in rounds.items.items()}
    assert [single.flags_of(s, T) for s in single.items.values()] == [
        rounds.flags_of(s, T) for s in rounds.items.values()
    ]
    for item_id, value in got.last.items():
        read = read_item_stock(value)
        assert Level(read.quantity, read.at) == rounds.items[item_id].level
