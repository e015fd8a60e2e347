"""Events as producers write them: keys, records, levels."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.change_events import CatalogChange, StockChange, read_catalog_change, read_item_id, read_stock_change
from models.debezium import unwrap
from models.errors import BadEvent
from models.field_values import instant_ms, number
from models.stock import Level
from tests.debezium_events import decimal_field, enveloped, struct_field, with_schema, written

T = 1_700_000_000_000

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def outcome(read):
    """What is read, or the message of the refusal."""
    try:
        return read()
    except BadEvent as error:
        return str(error)


# Keys


@pytest.mark.parametrize(
    ("key", "item_id"),
    [
        (b"sku-1001", "sku-1001"),
        ("größe-42".encode(), "größe-42"),
        ("日本🛒".encode(), "日本🛒"),
        (b"42", "42"),
        (b" a ", " a "),
        (b'"quoted"', '"quoted"'),
        (b"[1]", "[1]"),
        (b"null", "null"),
        (b"{6B29FC40-CA47-1067-B31D-00DD010662DA}", "{6B29FC40-CA47-1067-B31D-00DD010662DA}"),
        (b"{", "{"),
        (b"k" * 512, "k" * 512),
        (b'{"id":"sku-1001"}', "sku-1001"),
        (b'{ "id" : "gr\\u00f6\\u00dfe-42" }', "größe-42"),
        (b'{"sku":42}', "42"),
        (b'{"sku":-42}', "-42"),
        (b'{"schema":null,"payload":{"id":"a"}}', "a"),
        (b'{"payload":{"id":"a"},"schema":{"type":"struct"}}', "a"),
        (b'{"schema":{"type":"string","optional":false},"payload":"a"}', "a"),
        (b'{"id":"' + b"k" * 512 + b'"}', "k" * 512),
        (b'{"payload":"a"}', "a"),
        (written(with_schema({"id": "Kg=="}, decimal_field("id", "0"))), "42"),
    ],
)
def test_a_key_is_text_or_an_object_with_one_field(key, item_id):
    """UTF-8 as it is, or Debezium's object with or without its schema."""
    assert item_id == read_item_id(key)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "got null"),
        (b"", "got an empty key"),
        (b"\xff\xfe", "UTF-8"),
        (b"ab\xc3", "UTF-8"),
        (b"\xed\xa0\x80", "UTF-8"),
        (b"k" * 513, "at most 512 bytes, got 513"),
        (b"k" * 1_000_000, "at most 512 bytes, got 1,000,000"),
        ("ö".encode() * 257, "got 514"),
        (b'{"id":"' + b"k" * 513 + b'"}', "1 to 512 bytes, got 513"),
        (b'{"id":"' + b"k" * 1_000_000 + b'"}', "at most 65,536 bytes"),
        (b"{" * 1_000_000, "at most 65,536 bytes"),
        (b"{" * 513, "at most 512 bytes"),
        (b'{"id":' * 5_000 + b"1" + b"}" * 5_000, "JSON object with one field"),
        (b'{"id":{"id":"a"}}', "got an object of 1 fields"),
        (b'{"id":["a"]}', "got a list of 1"),
        (b'{"id":null}', "got null"),
        (b'{"id":true}', "got true"),
        (b'{"id":1.5}', "got 1.5"),
        (b'{"id":""}', "got 0"),
        (b'{"id":NaN}', "JSON object with one field"),
        (b'{"id":"\\ud800"}', "JSON object with one field"),
        (b'{"id":"\xff"}', "JSON object with one field"),
        (b'{"id":"a"', "JSON object with one field"),
        (b"{}", "got an object of 0 fields"),
        (b'{"shop":1,"sku":2}', "got an object of 2 fields"),
        (b'{"schema":{},"payload":null}', "got null"),
        (b'{"schema":{},"payload":{"shop":1,"sku":2}}', "got an object of 2 fields"),
    ],
)
def test_any_other_key_is_a_bad_event(key, message):
    """The message says what was expected and shows little of what came."""
    with pytest.raises(BadEvent, match="key: expected ") as caught:
        read_item_id(key)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


@given(st.text(min_size=1, max_size=60))
def test_plain_and_wrapped_keys_are_the_same_item(item_id):
    """A shop's own producer and Debezium meet in one item."""
    wrapped = [written({"id": item_id}), written(with_schema({"id": item_id}))]

    assert [item_id, item_id] == [read_item_id(key) for key in wrapped]
    if not item_id.startswith('{"'):
        assert item_id == read_item_id(item_id.encode())


@given(st.binary(min_size=1, max_size=40) | st.binary(max_size=30).map(lambda tail: b'{"' + tail))
def test_any_bytes_are_a_key_or_a_bad_event(key):
    """An id is 1 to 512 bytes of UTF-8, or there is none."""
    try:
        item_id = read_item_id(key)
    except BadEvent:
        return
    assert 1 <= len(item_id.encode()) <= 512


# Catalog


@pytest.mark.parametrize("value", [None, b"null", b" null ", written({"schema": None, "payload": None})])
def test_null_is_a_delete(value):
    """A tombstone, however it is written."""
    assert CatalogChange("a", None) == read_catalog_change(b"a", value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"{",
        b"{}{}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":"\xff"}',
        b'{"\xff":1}',
        b'{"a":"\\ud800"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":01}',
        b"{'a':1}",
        b'{"a":' + b"[" * 100_000,
        b"[" * 5_000 + b"]" * 5_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"a":"' + b"x" * 1_000_000,
    ],
)
def test_what_is_not_json_is_a_bad_event(value):
    """Not UTF-8, not finite, cut off, nested to hurt: for records and for levels alike."""
    for read in (lambda: read_catalog_change(b"a", value), lambda: read_stock_change(b"a", value, T)):
        with pytest.raises(BadEvent, match="value: expected JSON, got") as caught:
            read()
        assert len(str(caught.value)) < 400


def test_json_is_read_as_json_is():
    """An integer beyond 64 bits is the nearest number, and an empty name is one."""
    change = read_catalog_change(
        b"a", b'{"price":2,"":{"":[]},"n":123456789012345678901234,"big":18446744073709551615}'
    )

    assert {"price": 2, "": {"": []}, "n": 1.2345678901234568e23, "big": 2**64 - 1} == change.attributes


@pytest.mark.parametrize(
    "value",
    [
        b'{"quantity":1,"at":5,"quantity":2}',
        b'{"quantity":1,"at":5,"x":{"size":41,"size":42}}',
        b'{"quantity":1,"at":5,"x":[{"link":"https://a.example/1","size":41},[{"size":41, "size" : 42}]]}',
        b'{"quantity":1,"at":5,"\\u0061":1,"a":2}',
        b'{"quantity":1,"at":5,"a":1,"a":' + b"9" * 300 + b"}",
        b'{"op":"c","after":{"quantity":1,"at":5,"at":6}}',
        b'{"op":"c","after":null,"after":{"quantity":1}}',
        b'{"schema":null,"payload":{"quantity":1,"quantity":2}}',
        b'{"quantity":1,"at":5,"x":' + b"[" * 250 + b'{"b":1,"b":2}' + b"]" * 250 + b"}",
    ],
)
def test_a_key_that_stands_twice_is_a_bad_event(value):
    """Wherever it stands, in records and in levels: nobody can know which of the two was meant."""
    for read in (lambda: read_catalog_change(b"a", value), lambda: read_stock_change(b"a", value, T)):
        with pytest.raises(BadEvent, match="value: expected each key once, but '(quantity|size|a|at|after|b)' stands"):
            read()
    with pytest.raises(BadEvent, match="key: expected each key once, but 'id' stands twice"):
        read_item_id(b'{"id":"a","id":"b"}')


@pytest.mark.parametrize(
    "value",
    [b'{"a": {"b" : 1, "c": "\\":\\": x:y"}}', b'{"":":","a":{"":"\\"a\\":1"}, "b" :"::"}', b'{"a":1.50,"b":"a:b"}'],
)
def test_colons_in_texts_are_no_keys(value):
    """However JSON is written."""
    assert orjson.loads(value) == read_catalog_change(b"a", value).attributes


@given(json_values, st.sampled_from([None, 1]), st.booleans())
def test_json_with_each_key_once_is_never_refused_for_a_key(value, indent, ascii_only):
    """Whatever stands in its texts, compact or not."""
    body = json.dumps({"x": value}, indent=indent, ensure_ascii=ascii_only).encode()

    assert "each key once" not in str(outcome(lambda: read_catalog_change(b"a", body)))


@given(
    json_values
    | st.dictionaries(st.sampled_from(["op", "before", "after", "schema", "payload", "__deleted"]), json_values)
)
def test_any_json_is_a_change_or_a_bad_event(value):
    """Nothing else is ever raised."""
    for read in (lambda: read_catalog_change(b"a", orjson.dumps(value)), lambda: read_item_id(orjson.dumps(value))):
        try:
            read()
        except BadEvent:
            continue


# Stock


@pytest.mark.parametrize(
    ("value", "level"),
    [
        ({"quantity": 12, "at": T - 5}, Level(12.0, T - 5)),
        ({"quantity": 12}, Level(12.0, T)),
        ({"quantity": 0}, Level(0.0, T)),
        ({"quantity": -2}, Level(-2.0, T)),
        ({"quantity": 0.5}, Level(0.5, T)),
        ({"quantity": "12"}, Level(12.0, T)),
        ({"quantity": 12, "at": "2023-11-14T22:13:20.001Z"}, Level(12.0, T + 1)),
        ({"quantity": 12, "at": T * 1000 + 1_001}, Level(12.0, T + 1)),
        ({"quantity": 12, "at": None}, Level(12.0, T)),
        ({"quantity": 12, "at": 5}, Level(12.0, 5)),
        ({"quantity": 12, "at": 20_513}, Level(12.0, 20_513)),
        ({"quantity": 12, "at": 1e12}, Level(12.0, 10**12)),
        ({"quantity": 12, "at": -1}, Level(12.0, -1)),
        ({"quantity": None, "at": T - 5}, Level(None, T - 5)),
        ({"quantity": 12, "sku": "a", "warehouse": {"op": "d"}}, Level(12.0, T)),
        ({"quantity": 2**64 - 1}, Level(float(2**64), T)),
        ({"quantity": {"scale": 1, "value": "eA=="}}, Level(12.0, T)),
        (None, Level(None, T)),
        ({"sku": "a", "quantity": 12, "__deleted": "false", "__source_ts_ms": 1}, Level(12.0, T)),
        ({"sku": "a", "quantity": 0, "__deleted": "true"}, Level(None, T)),
        ({"quantity": 0, "__op": "d"}, Level(None, T)),
        (enveloped({"sku": "a", "quantity": 12}), Level(12.0, T)),
        (enveloped({"sku": "a", "quantity": 12, "at": T - 5}, "r"), Level(12.0, T - 5)),
        (enveloped(None, "d", before={"sku": "a", "quantity": 0}), Level(None, T)),
        (
            with_schema(enveloped({"quantity": "eA=="}), struct_field("after", decimal_field("quantity", "1"))),
            Level(12.0, T),
        ),
    ],
)
def test_a_level_is_a_quantity_and_its_time(value, level):
    """Plain, flattened, in an envelope; `at` is the Kafka timestamp where nothing is said; null is not known."""
    assert StockChange("a", level) == read_stock_change(b"a", written(value), T)


def test_a_levels_key_is_an_items_key():
    """Plain or Debezium's; null has no item."""
    assert StockChange("a", Level(1.0, T)) == read_stock_change(b'{"sku":"a"}', b'{"quantity":1}', T)
    assert StockChange("a", Level(None, T)) == read_stock_change(b"a", None, T)
    for key in (None, b"", b"\xff", b"k" * 513):
        for value in (b'{"quantity":1}', None):
            with pytest.raises(BadEvent, match="key: expected"):
                read_stock_change(key, value, T)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "value: expected quantity, got an object with ''"),
        ({"stock": 5}, "value: expected quantity, got an object with 'stock'"),
        ({"quantity": True}, "quantity: expected a number, got true"),
        ({"quantity": "a few"}, "quantity: expected a number, got 'a few'"),
        ({"quantity": "Ix4="}, "decimal.handling.mode"),
        ({"quantity": [12]}, "quantity: expected a number, got a list of 1"),
        ({"quantity": "1e999"}, "quantity: expected a finite number"),
        ({"quantity": 12, "at": True}, "at: expected"),
        ({"quantity": 12, "at": "now"}, "at: expected"),
        ({"quantity": 12, "at": 1e300}, "at: expected"),
        ({"quantity": 12, "at": -(10**18)}, "at: expected"),
        (12, "value: expected a JSON object or null, got 12"),
        ([12], "value: expected a JSON object or null"),
        (enveloped(None, "t"), "truncate"),
        (enveloped({"quantity": "__debezium_unavailable_value"}), "expected quantity"),
    ],
)
def test_what_is_no_level_is_a_bad_event(value, message):
    """Said with the field's name."""
    with pytest.raises(BadEvent) as caught:
        read_stock_change(b"a", written(value), T)
    assert message in str(caught.value)


told_quantities = (
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
told_moments = told_quantities | st.integers(T, T + 10**6) | st.integers(-(10**19), 10**19)
marks = st.sampled_from(
    [{}, {}, {"sku": "a"}, {"__deleted": "true"}, {"__deleted": "false"}, {"__op": "d"}, {"op": "d"}]
)


@given(told_quantities, told_moments, st.booleans(), marks)
def test_the_short_way_says_what_the_long_way_says(quantity, at, timed, marks):
    """A plain level is read by a short cut, which never says anything else."""
    body = orjson.loads(written({"quantity": quantity} | ({"at": at} if timed else {}) | marks))

    def long_way() -> StockChange:
        row = unwrap(body).columns
        if row is None:
            return StockChange("a", Level(None, T))
        moment = instant_ms("at", row.get("at"))
        return StockChange("a", Level(number("quantity", row["quantity"]), T if moment is None else moment))

    assert outcome(long_way) == outcome(lambda: read_stock_change(b"a", written(body), T))


@given(st.binary(max_size=40) | st.text('{}[]:,"0123456789quantity.-e ', max_size=40).map(str.encode))
def test_any_bytes_are_an_event_or_a_bad_event(value):
    """For levels and for records: nothing else is ever raised."""
    for read in (lambda: read_stock_change(b"a", value, T), lambda: read_catalog_change(b"a", value)):
        try:
            read()
        except BadEvent:
            continue
