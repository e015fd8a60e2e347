"""Change events of Debezium: as recorded from a real PostgreSQL, and as nobody should send them."""

from __future__ import annotations

import base64
from hashlib import md5
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from models.change_events import CatalogChange, read_catalog_change
from models.errors import BadEvent
from models.record import parse_record
from tests.debezium_events import attributes_of, decimal_field, enveloped, struct_field, with_schema, written

SHAPES = ("3.6-envelope.jsonl", "3.6-envelope-with-schema.jsonl", "3.6-unwrapped-rewrite.jsonl")


def samples(folder: Path, name: str) -> list[tuple[bytes, bytes | None]]:
    """Recorded keys and values; the recording is one JSON object a line."""
    lines = (folder / "data" / "debezium" / name).read_text().splitlines()
    records = [orjson.loads(line) for line in lines]
    return [
        (orjson.dumps(each["key"]), None if each["value"] is None else orjson.dumps(each["value"])) for each in records
    ]


@pytest.mark.parametrize("name", SHAPES)
def test_recorded_events_say_the_same_in_every_shape(shared_folder, name):
    """Snapshot, create, update, sold out, changed key, delete: item by item as it happened."""
    changes = [read_catalog_change(*event) for event in samples(shared_folder, name)]
    happened = [(change.item_id, change.attributes is not None) for change in changes]

    first = [("sku-1001", True), ("größe-42", True), ("sku-2001", True), ("sku-2001", True), ("größe-42", True)]
    gone = [("sku-1001", False), ("sku-1002", True), ("sku-2001", False)]
    with_tombstones = [gone[0], gone[0], gone[1], gone[2], gone[2]]
    assert first + (gone if "rewrite" in name else with_tombstones) == happened
    told = attributes_of(*samples(shared_folder, name)[0])
    assert ("Trail Runner 3", 12, True, ["running", "men"]) == (
        told["title"],
        told["stock"],
        told["in_stock"],
        told["tags"],
    )
    assert '{"color": "rot", "sizes": [41, 42]}' == told["attributes"]
    assert (20_513, 1_772_265_600_000_000) == (told["released"], told["created_at"])
    assert not any(column.startswith("__") for column in told)
    assert [frozenset({"description"} if n == 3 else ()) for n in range(len(changes))] == [
        change.unavailable for change in changes
    ]
    assert [True, True, True, False, True] == ["description" in (change.attributes or {}) for change in changes[:5]]


def test_recorded_decimals_are_numbers_where_the_schema_is(shared_folder):
    """`Ix4=` is 89.90 at scale 2; the sale that the update tells is seen."""
    told = [attributes_of(*event) for event in samples(shared_folder, "3.6-envelope-with-schema.jsonl")[:4]]

    assert [89.9, 129.0, 49.95, 39.95] == [row["price"] for row in told]
    assert [None, None, None, 34.95] == [row["sale_price"] for row in told]
    record = parse_record("sku-2001", told[3])
    assert record.facts.sale
    assert pytest.approx(1 - 34.95 / 39.95) == record.facts.discount
    assert ("https://img.example.com/sku-2001.jpg",) == record.images
    assert 7.0 == record.stock


@pytest.mark.parametrize("name", ["3.6-envelope.jsonl", "3.6-unwrapped-rewrite.jsonl"])
def test_recorded_decimals_without_schema_name_the_setting(shared_folder, name):
    """The scale is lost: no price is guessed, and the dead letter says which setting to change."""
    told = attributes_of(*samples(shared_folder, name)[0])

    with pytest.raises(BadEvent, match="price: expected .* got 'Ix4='.*decimal.handling.mode"):
        parse_record("sku-1001", told)


@pytest.mark.parametrize("name", SHAPES)
def test_recorded_events_end_in_the_same_state(shared_folder, name):
    """Whatever the shape, what is left in the end is the same two items."""
    items = {}
    for event in samples(shared_folder, name):
        change = read_catalog_change(*event)
        items[change.item_id] = change.attributes
    left = {item_id: (told["title"], told["stock"]) for item_id, told in items.items() if told is not None}

    assert {"größe-42": ("Laufschuh „Größe 42“", 0), "sku-1002": ("Trail Runner 3", 12)} == left


@pytest.mark.parametrize("op", ["c", "u", "r"])
def test_an_envelope_is_its_after(op):
    """With and without a schema; what `before` says does not matter."""
    after = {"title": "x", "price": "89.90", "op": "not an envelope's"}
    plain = enveloped(after, op)

    for value in (plain, plain | {"before": {"title": "old"}}, with_schema(plain), {"op": op, "after": after}):
        assert CatalogChange("a", after) == read_catalog_change(b"a", written(value))


def test_a_delete_of_debezium_is_a_delete():
    """Its `before` holds defaults, and is not looked at."""
    false_values = {"id": "a", "title": "", "price": "AA==", "stock": 0}
    deleted = enveloped(None, "d", before=false_values)

    for value in (deleted, with_schema(deleted), {"op": "d", "before": None}):
        assert read_catalog_change(b"a", written(value)).attributes is None


@pytest.mark.parametrize("added", [{"__deleted": "true"}, {"__deleted": True}, {"__op": "d"}])
def test_a_flattened_delete_is_a_delete(added):
    """`__deleted` comes as text; the row beside it holds defaults."""
    row = {"id": "a", "title": "", "stock": 0} | added

    for value in (row, with_schema(row)):
        assert read_catalog_change(b"a", written(value)).attributes is None


@pytest.mark.parametrize("added", [{"__deleted": "false"}, {"__deleted": False}, {"__op": "u"}, {"__lsn": 5}, {}])
def test_what_flattening_adds_is_not_the_records(added):
    """Else no record would ever be the same twice; a shop's own `__typename` stays."""
    row = {"title": "x", "__typename": "Shoe", "_v": 1}
    value = row | added | {"__source_ts_ms": 5, "__transaction_id": 6}

    assert row == read_catalog_change(b"a", written(value)).attributes


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (enveloped(None, "t"), "got t; a truncate names no item"),
        (enveloped({"a": 1}, "m"), "op: expected c, u, d, r or t, got 'm'"),
        (enveloped(None, "u"), "after: expected an object for op u, got null"),
        (enveloped("{}", "c"), "after: expected an object for op c, got '{}'"),
        (enveloped([1], "r"), "got a list of 1"),
        ({"a": 1, "__deleted": "maybe"}, "__deleted: expected"),
        ({"a": 1, "__deleted": 2}, "__deleted: expected"),
        ([], "value: expected a JSON object or null, got a list of 0"),
        ([{}], "got a list of 1"),
        ("text", "got 'text'"),
        (5, "got 5"),
        (True, "got true"),
        (with_schema([1]), "got a list of 1"),
        (with_schema("x" * 100_000), "(100,000 characters)"),
    ],
)
def test_a_value_that_says_no_record_is_a_bad_event(value, message):
    """Truncates, unknown operations, and what is no object."""
    with pytest.raises(BadEvent) as caught:
        read_catalog_change(b"a", written(value))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_truncate_is_told_although_it_has_no_key():
    """Its key is null; the reason named is the truncate."""
    with pytest.raises(BadEvent, match="truncate"):
        read_catalog_change(None, written(enveloped(None, "t")))
    with pytest.raises(BadEvent, match="key: expected an item id, got null"):
        read_catalog_change(None, b"{}")


@pytest.mark.parametrize(
    "record",
    [
        {"op": "c"},
        {"op": "c", "after": "eight", "title": "x"},
        {"schema": 1, "payload": {"a": 1}, "title": "x"},
        {"payload": {"a": 1}},
        {"before": 1, "after": 2},
        {"op": 5, "after": {"a": 1}},
    ],
)
def test_a_shops_record_that_looks_like_an_envelope_is_a_record(record):
    """Only what has nothing but an envelope's fields is one."""
    assert record == read_catalog_change(b"a", written(record)).attributes


@pytest.mark.parametrize(
    "placeholder",
    [
        "__debezium_unavailable_value",
        ["__debezium_unavailable_value"],
        base64.b64encode(b"__debezium_unavailable_value").decode(),
        list(b"__debezium_unavailable_value"),
        [float(byte) for byte in b"__debezium_unavailable_value"],
        [base64.b64encode(b"__debezium_unavailable_value").decode()],
        [str(UUID(bytes=md5(b"__debezium_unavailable_value", usedforsecurity=False).digest(), version=3))],
        {"__debezium_unavailable_value": "__debezium_unavailable_value"},
        '{"__debezium_unavailable_value":"__debezium_unavailable_value"}',
    ],
)
def test_an_unavailable_value_is_not_told(placeholder):
    """Whatever the column's type; the attribute is named, so that what was known can be kept."""
    row = {"title": "x", "description": placeholder, "tags": ["a"]}
    expected = CatalogChange("a", {"title": "x", "tags": ["a"]}, frozenset({"description"}))

    for value in (row, enveloped(row), with_schema(enveloped(row)), row | {"__deleted": "false"}):
        assert expected == read_catalog_change(b"a", written(value))


def test_a_text_that_mentions_the_placeholder_is_a_text():
    """Only the whole value is a placeholder, and only at the top."""
    row = {"a": "x __debezium_unavailable_value", "b": {"c": "__debezium_unavailable_value"}}

    assert CatalogChange("a", row) == read_catalog_change(b"a", written(row))


def test_decimals_are_read_by_their_schema():
    """Numeric columns with and without a scale of their own, in lists and structs, in envelopes and flattened rows."""
    variable = {"type": "struct", "name": "io.debezium.data.VariableScaleDecimal", "field": "weight"}
    fields = [
        decimal_field("price"),
        decimal_field("sale_price"),
        decimal_field("list_price", "-2"),
        variable,
        {"type": "array", "items": decimal_field("x", "1"), "field": "sizes"},
        struct_field("inner", decimal_field("price")),
        {"type": "string", "field": "title"},
        {"type": "double", "field": "double"},
    ]
    row = {
        "price": "Ix4=",
        "sale_price": None,
        "list_price": "AQ==",
        "weight": {"scale": 3, "value": "AaQ="},
        "sizes": ["AZo=", None, "Aa4="],
        "inner": {"price": "/w==", "note": "Ix4="},
        "title": "Ix4=",
        "double": 1.5,
    }
    expected = row | {
        "price": 89.9,
        "list_price": 100,
        "weight": 0.42,
        "sizes": [41.0, None, 43.0],
        "inner": {"price": -0.01, "note": "Ix4="},
    }

    for value in (with_schema(enveloped(row), struct_field("after", *fields)), with_schema(row, *fields)):
        assert expected == read_catalog_change(b"a", written(value)).attributes


@pytest.mark.parametrize("told", ["89.90", 89.9, 90])
def test_decimals_that_are_text_or_number_already_stay(told):
    """`decimal.handling.mode` string and double say it in the schema; Connect's own NUMERIC format does not."""
    kind = {"type": "string"} if isinstance(told, str) else decimal_field("price")
    value = with_schema({"price": told}, kind | {"field": "price"})

    row = attributes_of(b"a", written(value))
    assert told == row["price"]
    assert parse_record("a", row | {"list_price": 179.8}).facts.discount in (0.5, 1 - 90 / 179.8)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (decimal_field("price", "two"), "Ix4="),
        (decimal_field("price", "99999999999"), "Ix4="),
        (decimal_field("price", 2), "Ix4="),
        (decimal_field("price") | {"parameters": None}, "Ix4="),
        (decimal_field("price", "1001"), "Ix4="),
        (decimal_field("price"), "19.99"),
        (decimal_field("price"), ""),
        (decimal_field("price") | {"name": "io.debezium.data.VariableScaleDecimal"}, {"scale": None, "value": "Ix4="}),
        (decimal_field("price") | {"name": "io.debezium.data.VariableScaleDecimal"}, {"value": "Ix4="}),
    ],
)
def test_a_decimal_that_contradicts_its_schema_is_a_bad_event(field, told):
    """The column is named."""
    with pytest.raises(BadEvent, match="price: expected"):
        read_catalog_change(b"a", written(with_schema({"price": told}, field)))


@pytest.mark.parametrize(
    "schema", [None, 5, "x", [], {}, {"fields": 5}, {"fields": [5, {}, {"field": 5}, {"field": "price"}]}]
)
def test_a_strange_schema_says_nothing(schema):
    """The row is then what it says itself."""
    value = {"schema": schema, "payload": {"price": "19.99", "list": [1], "inner": {"a": 1}}}

    assert value["payload"] == read_catalog_change(b"a", written(value)).attributes


def test_a_nesting_bomb_in_value_and_schema_ends_nothing():
    """Schema and value are followed only so far."""
    schema: dict[str, Any] = decimal_field("a")
    payload: Any = "Ix4="
    for _ in range(200):
        schema, payload = struct_field("a", schema), {"a": payload}
    value = with_schema({"a": payload}, schema)

    assert {"a": payload} == read_catalog_change(b"a", written(value)).attributes
