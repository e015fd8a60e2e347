"""Where an event came from: its topic, place, time, key, value and headers.

An event that travels by way of `item-changes` carries its first origin in headers, so that a dead letter and the time
of a stock level tell of the event and not of its journey.  Headers are anybody's to write: those of ours that say no
place are left out, and the event counts as having come from where it was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from models.errors import BadEvent
from streams import topics
from streams.kafka.outbox import Message

ORIGIN = "kindred_origin_"
FORWARDED_BYTES_MAX = topics.MESSAGE_BYTES_MAX - 100_000
"""Of an event that is sent on; beside it, a message has some bytes for itself."""
HEADER_BYTES_MAX = 10
"""For the two lengths of a header."""


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
    """The event as a message to its home partition, keyed by its item.

    Raises BadEvent where it is more than a topic of ours accepts, with its headers.
    """
    carried = [
        ("topic", origin.topic.encode()),
        ("partition", b"%d" % origin.partition),
        ("offset", b"%d" % origin.offset),
        ("timestamp_ms", b"%d" % origin.timestamp_ms),
    ]
    if origin.key != item_key:
        carried.append(("key", origin.key) if origin.key is not None else ("key_is_null", b""))
    headers = [(name, value or b"") for name, value in origin.headers]
    headers += [(ORIGIN + name, value) for name, value in carried]
    size = len(item_key) + len(origin.value or b"")
    size += sum(HEADER_BYTES_MAX + len(name.encode()) + len(value) for name, value in headers)
    if size > FORWARDED_BYTES_MAX:
        raise BadEvent(f"expected at most {FORWARDED_BYTES_MAX:,} bytes with all headers, got {size:,}")
    return Message(item_key, origin.value, headers, origin.timestamp_ms)
