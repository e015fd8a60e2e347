"""Where an event came from, as its headers carry it; anybody may write headers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import BadEvent
from streams.kafka.origin import FORWARDED_BYTES_MAX, Origin, forwarded, origin_of

T = 1_700_000_000_000


def message(**fields: Any) -> Any:
    plain = {"topic": "stock-levels", "partition": 2, "offset": 7, "timestamp": T, "key": b"k", "value": b"{}"}
    return SimpleNamespace(**(plain | {"headers": ()} | fields))


def origin_headers(**told: bytes) -> list[tuple[str, bytes | None]]:
    place = {"topic": b"t", "partition": b"0", "offset": b"1", "timestamp_ms": b"1"}
    return [("kindred_origin_" + name, value) for name, value in (place | told).items()]


@pytest.mark.parametrize("key", [b"k", None, b'{"id":"k"}'])
def test_an_event_that_was_sent_on_tells_where_it_first_came(key: bytes | None) -> None:
    """Whatever its key was, and with its own headers."""
    first = origin_of(message(key=key, headers=[("own", b"1"), ("null", None)]))
    sent = forwarded(first, b"k")
    come = message(topic="item-changes", offset=99, key=sent.key, value=sent.value, headers=sent.headers)

    assert Origin("stock-levels", 2, 7, T, key, b"{}", [("own", b"1"), ("null", b"")]) == origin_of(come)


@pytest.mark.parametrize(
    "headers",
    [
        [("kindred_origin_topic", b"nothing else")],
        [("kindred_origin_key_is_null", b""), ("kindred_origin_", None)],
        origin_headers(partition=b"no number"),
        origin_headers(partition=b"%d" % (1 << 31)),
        origin_headers(offset=b"9" * 5_000),
        origin_headers(timestamp_ms=b"%d" % (1 << 63)),
        origin_headers(timestamp_ms=b"-2"),
        origin_headers(topic=b"\xff"),
    ],
)
def test_headers_that_only_look_like_ours_say_nothing(headers: list[tuple[str, bytes | None]]) -> None:
    """The event came from where it was read, also once it has been sent on."""
    origin = origin_of(message(headers=[*headers, ("own", b"1")]))
    assert Origin("stock-levels", 2, 7, T, b"k", b"{}", [("own", b"1")]) == origin

    sent = forwarded(origin, b"k")
    assert origin == origin_of(message(topic="item-changes", offset=99, headers=sent.headers))


@pytest.mark.parametrize(
    "fields",
    [
        {"value": bytes(FORWARDED_BYTES_MAX)},
        {"headers": [("own", bytes(FORWARDED_BYTES_MAX))]},
        {"headers": [("n", b"")] * (FORWARDED_BYTES_MAX // 10)},
        {"headers": [("\u4e00" * (FORWARDED_BYTES_MAX // 3), None)]},
        {"key": bytes(FORWARDED_BYTES_MAX)},
    ],
    ids=["value", "header", "headers", "name", "key"],
)
def test_what_no_topic_of_ours_accepts_is_not_sent_on(fields: dict[str, Any]) -> None:
    """Whatever is large about it: the broker would refuse it each time."""
    with pytest.raises(BadEvent, match=r"expected at most 3,900,000 bytes with all headers, got [34],[0-9,]+"):
        forwarded(origin_of(message(**fields)), b"k")
