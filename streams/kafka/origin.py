"""Where an event came from: its topic, place, time, key, value and headers.

An event that travels by way of `item-changes` carries its first origin in headers, so that a dead letter and the time
of a stock level tell of the event and not of its journey.  Headers are anybody's to write: those of ours that say no
place are left out, and the event counts as having come from where it was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from streams.kafka.outbox import Message

ORIGIN = "kindred_origin_"


class Origin(NamedTuple):
    """An event as it first came."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def origin_of(message: Any, timestamp_ms: int | None = None) -> Origin:
    """The origin of a consumed record; that of a forwarded one is read from its headers.

    `timestamp_ms`: when it came, if `message` is not aiokafka's and tells that otherwise.
    """
    here = Origin(
        message.topic,
        message.partition,
        message.offset,
        message.timestamp if timestamp_ms is None else timestamp_ms,
        message.key,
        message.value,
        message.headers,
    )
    carried = {name[len(ORIGIN) :]: value or b"" for name, value in here.headers if name.startswith(ORIGIN)}
    if not carried:
        return here
    here = here._replace(headers=[pair for pair in here.headers if not pair[0].startswith(ORIGIN)])
    try:
        return here._replace(
            topic=carried["topic"].decode(),
            partition=_number(carried["partition"], 31),
            offset=_number(carried["offset"], 63),
            timestamp_ms=_number(carried["timestamp_ms"], 63),
            key=None if "key_is_null" in carried else carried.get("key", here.key),
        )
    except (KeyError, ValueError):
        return here


def _number(text: bytes, bits: int) -> int:
    """A number of Kafka's, which has so many bits; -1 is its word for none.  ValueError: it is not."""
    if len(text) > 20 or not -1 <= int(text) < 1 << bits:
        raise ValueError(f"expected a number of {bits} bits, got {text[:20]!r}")
    return int(text)


def forwarded(origin: Origin, item_key: bytes) -> Message:
    """The event as a message of `item-changes`, keyed by its item."""
    carried = [
        ("topic", origin.topic.encode()),
        ("partition", b"%d" % origin.partition),
        ("offset", b"%d" % origin.offset),
        ("timestamp_ms", b"%d" % origin.timestamp_ms),
    ]
    if origin.key != item_key:
        carried.append(("key", origin.key) if origin.key is not None else ("key_is_null", b""))
    own = [(ORIGIN + name, value) for name, value in carried]
    return Message(item_key, origin.value, [*((n, v or b"") for n, v in origin.headers), *own], origin.timestamp_ms)
