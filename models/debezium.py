"""Change events of Debezium unwrapped: which row, and what it says.

A plain JSON value passes through untouched, so every event may go through here.  Known shapes, each with or without
Connect's `{"schema", "payload"}` around it:

* an envelope, `{"op", "before", "after", "source", ...}`: the row is `after`; `op` is c, u, r (a row), d (deleted) or
  t (truncated: it names no row and is refused);
* a flattened row (ExtractNewRecordState), with `__deleted` as text and what `add.fields` adds (`__op`,
  `__source_ts_ms`, ...), which is not the row's own and is taken off;
* a key, an object with one field.

Easy to get wrong:

* `before`, and the row of a flattened delete, hold defaults in all columns but the key's: never look at them.
* A large value that an update did not touch comes as a placeholder, and must not replace what is known.
* A `numeric` is base64; only the schema tells it from a text, and only the schema has its scale.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from models.errors import BadEvent
from models.field_values import decimal_number, shown, variable_decimal

_ENVELOPE = frozenset({"op", "before", "after", "source", "transaction", "ts_ms", "ts_us", "ts_ns", "message"})
_ADDED = frozenset(
    {
        "__deleted",
        "__op",
        "__table",
        "__db",
        "__schema",
        "__name",
        "__connector",
        "__version",
        "__lsn",
        "__txId",
        "__xmin",
        "__snapshot",
        "__sequence",
        "__ts_ms",
        "__ts_us",
        "__ts_ns",
        "__origin",
        "__origin_lsn",
    }
)
"""What `add.fields` adds to a flattened row; `__typename` or `__v` are a shop's own."""
_DECIMAL = "org.apache.kafka.connect.data.Decimal"
_VARIABLE_DECIMAL = "io.debezium.data.VariableScaleDecimal"
_DEPTH_MAX = 32
"""Levels of a schema that are followed; columns are two or three deep."""

_PLACEHOLDER = "__debezium_unavailable_value"
_PLACEHOLDER_BASE64 = base64.b64encode(_PLACEHOLDER.encode()).decode()
_PLACEHOLDERS = (
    _PLACEHOLDER,
    _PLACEHOLDER_BASE64,  # of a bytea
    [_PLACEHOLDER],  # of a text[]
    [_PLACEHOLDER_BASE64],  # of a bytea[]
    list(_PLACEHOLDER.encode()),  # of an array of integers or floats
    ["b68a35a7-17ad-35b3-af2a-ae46edb4545a"],  # of a uuid[]: version 3 of its bytes
    {_PLACEHOLDER: _PLACEHOLDER},  # of an hstore
    f'{{"{_PLACEHOLDER}":"{_PLACEHOLDER}"}}',  # of an hstore as JSON
)
"""As io.debezium.connector.postgresql.UnchangedToastedPlaceholder makes them; those of boolean[] and numeric[] are not
here, because such lists may be real."""


class Row(msgspec.Struct, frozen=True):
    """A row as an event tells it."""

    columns: dict[str, Any] | None
    """None: deleted."""
    unavailable: frozenset[str] = frozenset()
    """Columns that the event does not tell, because they did not change."""


DELETED = Row(None)


def unwrap(value: Any) -> Row:
    """The row of a decoded JSON value, from Debezium or plain.  Null is a deleted row.  Raises BadEvent."""
    value, schema = _without_schema(value)
    if value is None:
        return DELETED
    if not isinstance(value, dict):
        raise BadEvent(f"value: expected a JSON object or null, got {shown(value)}")
    if _is_envelope(value):
        return _of_envelope(value, _field_schemas(schema).get("after"))
    if ("__deleted" in value or "__op" in value) and _is_deleted(value):
        return DELETED
    return _told({name: column for name, column in value.items() if not _is_added(name)}, schema)


def key_field(value: Any) -> Any:
    """The one value of a decoded key: `{"id": "sku-1"}`, or a bare value in a schema's payload.  Raises BadEvent."""
    payload, schema = _without_schema(value)
    if not isinstance(payload, dict):
        return _converted("key", payload, schema)
    if len(payload) != 1:
        raise BadEvent(f"key: expected text or a JSON object with one field, got {shown(payload)}")
    [(name, field)] = payload.items()
    return _converted(name, field, _field_schemas(schema).get(name))


def _without_schema(value: Any) -> tuple[Any, Any]:
    if isinstance(value, dict) and len(value) == 2 and "schema" in value and "payload" in value:
        return value["payload"], value["schema"]
    return value, None


def _is_envelope(value: dict[str, Any]) -> bool:
    """All its fields are an envelope's, so a shop's record that has an attribute `op` is none."""
    return isinstance(value.get("op"), str) and len(value) > 1 and _ENVELOPE.issuperset(value)


def _of_envelope(envelope: dict[str, Any], schema: Any) -> Row:
    op, after = envelope["op"], envelope.get("after")
    if op == "d":
        return DELETED
    if op == "t":
        raise BadEvent("op: expected c, u, d or r, got t; a truncate names no item: delete the rows instead")
    if op not in ("c", "u", "r"):
        raise BadEvent(f"op: expected c, u, d, r or t, got {shown(op)}")
    if not isinstance(after, dict):
        raise BadEvent(f"after: expected an object for op {op}, got {shown(after)}")
    return _told(after, schema)


def _is_added(name: str) -> bool:
    return name.startswith("__") and (name in _ADDED or name.startswith(("__source_", "__transaction_")))


def _is_deleted(row: dict[str, Any]) -> bool:
    deleted = row.get("__deleted")
    if deleted in (None, "false", False):
        return row.get("__op") == "d"
    if deleted in ("true", True):
        return True
    raise BadEvent(f'__deleted: expected "true" or "false", got {shown(deleted)}')


def _told(row: dict[str, Any], schema: Any) -> Row:
    unavailable = frozenset(name for name, column in row.items() if column in _PLACEHOLDERS)
    if unavailable:
        row = {name: column for name, column in row.items() if name not in unavailable}
    schemas = _field_schemas(schema)
    if schemas:
        row = {name: _converted(name, column, schemas.get(name)) for name, column in row.items()}
    return Row(row, unavailable)


def _field_schemas(schema: Any) -> dict[str, Any]:
    """A struct's fields' schemas by name; empty for anything else."""
    fields = schema.get("fields") if isinstance(schema, Mapping) else None
    if not isinstance(fields, list):
        return {}
    named = (field for field in fields if isinstance(field, dict))
    return {field["field"]: field for field in named if isinstance(field.get("field"), str)}


def _converted(name: str, value: Any, schema: Any, depth: int = 0) -> Any:
    """The value with its decimals as numbers, as far down as schema and value agree."""
    if value is None or not isinstance(schema, dict) or depth > _DEPTH_MAX:
        return value
    kind = schema.get("name")
    if kind == _DECIMAL and isinstance(value, str):
        return decimal_number(name, value, _scale(name, schema))
    if kind == _VARIABLE_DECIMAL and isinstance(value, dict):
        return variable_decimal(name, value)
    if isinstance(value, list):
        return [_converted(name, element, schema.get("items"), depth + 1) for element in value]
    if isinstance(value, dict):
        fields = _field_schemas(schema)
        return {inner: _converted(inner, field, fields.get(inner), depth + 1) for inner, field in value.items()}
    return value


def _scale(name: str, schema: dict[str, Any]) -> int:
    parameters = schema.get("parameters")
    scale = parameters.get("scale") if isinstance(parameters, dict) else None
    if isinstance(scale, str) and re.fullmatch("-?[0-9]{1,4}", scale):
        return int(scale)
    raise BadEvent(f"{name}: expected a decimal's scale in its schema, as text, got {shown(scale)}")
