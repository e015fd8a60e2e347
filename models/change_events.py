"""What a change says: of an item in the catalog, of a stock level, plain or as Debezium writes it.

Bytes in, meaning out; whether a record can be used is for `record.parse_record` to say.  Easy to get wrong:

* Stock levels come by the hundred thousand a second: for a plain one there is a short way, `read_plain_level`, which
  must never say anything else than the long way would.
* A key is any UTF-8 text.  One that begins with `{"` is an object or an error; `{6B29FC40-...}` is text.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import orjson

from models.debezium import key_field, unwrap
from models.errors import BadEvent
from models.field_values import instant_ms, number, shown
from models.outside_json import count_keys, key_twice
from models.stock import Level

ITEM_ID_BYTES_MAX = 512
_KEY_BYTES_MAX = 65_536
"""A key with its schema; Debezium's have some 200 bytes."""
_DEPTH_MAX = 600
"""Of objects and lists in each other: a schema has two for each of the record's, which may have 254."""
_BRACE = ord("{")


class CatalogChange(msgspec.Struct, frozen=True):
    """What an event of `catalog-changes` says."""

    item_id: str
    attributes: dict[str, Any] | None
    """The whole record; None: the item is gone."""
    unavailable: frozenset[str] = frozenset()
    """Attributes that the event does not tell: what was known of them still holds."""


class StockChange(msgspec.Struct, frozen=True, gc=False):
    """What an event of `stock-levels` says.  The level's quantity is None when it is not known any more."""

    item_id: str
    level: Level


def read_catalog_change(key: bytes | None, value: bytes | None) -> CatalogChange:
    """An event of `catalog-changes`.  Raises BadEvent."""
    row = unwrap(_parse_json("value", value))
    return CatalogChange(read_item_id(key), row.columns, row.unavailable)


def read_stock_change(key: bytes | None, value: bytes | None, timestamp_ms: int) -> StockChange:
    """An event of `stock-levels`; `timestamp_ms`, Kafka's, is when the level held if the event says nothing else.

    Raises BadEvent.
    """
    try:
        level = read_plain_level(value or b"")
        plain = value is not None and value.count(b":") == PLAIN_COLONS
    except PLAIN_ERRORS:
        plain = False
    if not plain:
        level = _level(_parse_json("value", value), timestamp_ms)
    return StockChange(read_item_id(key), level)


read_plain_level = msgspec.json.Decoder(Level).decode
"""A level from an object with `quantity` and `at`, numbers both, and nothing else; else raises `PLAIN_ERRORS`."""
PLAIN_COLONS = 2
"""Of a plain level; with more of them it has a key twice."""
PLAIN_ERRORS = (msgspec.DecodeError, UnicodeDecodeError)


def read_item_id(key: bytes | None) -> str:
    """An event's key as an item id, 1 to 512 bytes of UTF-8.  Raises BadEvent.

    An object with one field (with or without `schema` and `payload`), as Debezium's keys are, means that field.
    """
    if not key:
        raise BadEvent(f"key: expected an item id, got {'null' if key is None else 'an empty key'}")
    if key[0] == _BRACE:
        item_id = _field_of_object(key)
        if item_id is not None:
            return item_id
    if len(key) > ITEM_ID_BYTES_MAX:
        raise BadEvent(f"key: expected an item id of at most {ITEM_ID_BYTES_MAX} bytes, got {len(key):,}")
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise BadEvent(f"key: expected UTF-8, got {key[:32]!r}: {error.reason} at byte {error.start}") from error


def _field_of_object(key: bytes) -> str | None:
    """The id in a key that is a JSON object; None if it is text that begins with a brace."""
    if len(key) > _KEY_BYTES_MAX:
        raise BadEvent(f"key: expected at most {_KEY_BYTES_MAX:,} bytes, got {len(key):,}")
    try:
        value = orjson.loads(key)
    except orjson.JSONDecodeError as error:
        if key.startswith(b'{"'):
            raise BadEvent(f"key: expected text or a JSON object with one field, got {key[:64]!r}: {error}") from error
        return None
    check_keys("key", key, value)
    told = key_field(value)
    if isinstance(told, int) and not isinstance(told, bool):
        told = str(told)
    if not isinstance(told, str):
        raise BadEvent(f"key: expected an id that is text or a whole number, got {shown(told)}")
    size = len(told.encode())
    if not 1 <= size <= ITEM_ID_BYTES_MAX:
        raise BadEvent(f"key: expected an item id of 1 to {ITEM_ID_BYTES_MAX} bytes, got {size:,}")
    return told


def _parse_json(name: str, data: bytes | None) -> Any:
    if data is None:
        return None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadEvent(f"{name}: expected JSON, got {data[:32]!r}: {error}") from error
    check_keys(name, data, value)
    return value


def check_keys(name: str, data: bytes, value: Any) -> None:
    """BadEvent, beginning with `name`, if a key stands twice in an object of `data`, of which decoding kept `value`."""
    with contextlib.suppress(orjson.JSONEncodeError):
        if orjson.dumps(value) == data:  # most serializers write as this one does, and it writes each once
            return
    keys = count_keys(value, _DEPTH_MAX)
    if keys is None:
        raise BadEvent(f"{name}: expected JSON nested at most {_DEPTH_MAX} deep")
    if twice := key_twice(data, keys):
        raise BadEvent(f"{name}: expected each key once, but {twice} stands twice in one object")


def _level(body: Any, timestamp_ms: int) -> Level:
    columns = unwrap(body).columns
    if columns is None:
        return Level(None, timestamp_ms)
    if "quantity" not in columns:
        raise BadEvent(f"value: expected quantity, got an object with {shown(', '.join(columns))}")
    at = instant_ms("at", columns.get("at"))
    return Level(number("quantity", columns["quantity"]), timestamp_ms if at is None else at)
