"""Events in the shapes in which Debezium writes them, for tests."""

from __future__ import annotations

import json
from typing import Any

from models.change_events import read_catalog_change

ENVELOPE = {"before": None, "source": {"ts_ms": 1}, "transaction": None, "ts_ms": 2, "ts_us": 3, "ts_ns": 4}


def written(value) -> bytes:
    return json.dumps(value).encode()


def attributes_of(key: bytes | None, value: bytes | None) -> dict[str, Any]:
    """What a change tells of an item that is there."""
    attributes = read_catalog_change(key, value).attributes
    assert attributes is not None
    return attributes


def enveloped(after, op="u", **more):
    return ENVELOPE | {"op": op, "after": after} | more


def with_schema(payload, *fields):
    """As JsonConverter writes with `schemas.enable=true`."""
    return {"schema": {"type": "struct", "fields": list(fields), "optional": False}, "payload": payload}


def decimal_field(name, scale="2"):
    parameters = {"scale": scale, "connect.decimal.precision": "10"}
    kind = "org.apache.kafka.connect.data.Decimal"
    return {"type": "bytes", "name": kind, "version": 1, "parameters": parameters, "field": name}


def struct_field(name, *fields):
    return {"type": "struct", "fields": list(fields), "optional": True, "field": name}
