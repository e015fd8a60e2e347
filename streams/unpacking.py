"""Batches that a producer has compressed are unpacked to so much and no more.

Whoever may write to a topic can put a gigabyte of zeros into a message of some ten thousand bytes.  aiokafka unpacks a
batch in one go, so every worker that came to it would be killed for its memory, and again after each start.

A batch that unpacks to more than `UNPACKED_BYTES_MAX` is left out.  One message stands for all that are in it, without
a key and with the reason as its value: a stage sets it aside as it does any that it cannot use, and goes on.

Many batches that each stay below that fit into one fetch, and into the fetches of other partitions.  A consumer hands
out in one turn of the loop what it has of all its partitions.  When that has unpacked to more than
`TURN_UNPACKED_BYTES_MAX`, what is behind is fetched again, once what came before has been handed out.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import cramjam
import numpy as np
from aiokafka import codec
from aiokafka.record import default_records
from aiokafka.record.default_records import _DefaultRecordPy

try:
    from aiokafka.record._crecords import default_records as compiled_records
except ImportError:
    compiled_records = default_records

log = logging.getLogger(__name__)

UNPACKED_BYTES_MAX = 128 << 20
"""A message may have 1 MB unless the broker is told otherwise, and JSON rarely shrinks to less than a thirtieth."""
TURN_UNPACKED_BYTES_MAX = 64 << 20
"""A fetch of a partition has `connection.REQUEST_BYTES_MAX`: what packs to a sixteenth never comes to it in one."""
GZIP_RATIO_MAX, LZ4_RATIO_MAX, ZSTD_RATIO_MAX = 1_032, 255, 32_768
"""More they cannot pack into a byte (of zstd a block of 128 KiB takes four): most batches need no look."""
_COUNT_AT = 57
"""Where a batch says how many records it has."""


class UnpacksToTooMuch(Exception):
    """A batch that is left out."""

    def __init__(self) -> None:
        super().__init__(f"it unpacks to more than {UNPACKED_BYTES_MAX >> 20} MiB")


_unpacked_bytes = 0
"""In this turn of the loop; a batch that was left out counts with the limit."""


def limit_unpacking() -> None:
    """Let all consumers of this process unpack so much and no more."""
    for module in (default_records, compiled_records):
        module.gzip_decode = partial(_counted, _gzip)
        module.snappy_decode = partial(_counted, _snappy)
        module.lz4_decode = partial(_counted, _lz4)
        module.zstd_decode = partial(_counted, _zstd)


def may_unpack() -> bool:
    """Whether there is room for one more batch in this turn of the loop."""
    return _unpacked_bytes < TURN_UNPACKED_BYTES_MAX


def in_its_place(batch: Any, data: memoryview, why: UnpacksToTooMuch) -> Any:
    """The record that stands for a batch that is left out; `data` is the batch as it came."""
    count = int.from_bytes(data[_COUNT_AT : _COUNT_AT + 4], "big")
    reason = f"a batch of {count:,} messages in {len(data):,} bytes is left out: {why}"
    log.warning("at the offsets %d to %d: %s", batch.base_offset, batch.next_offset - 1, reason)
    return _DefaultRecordPy(batch.next_offset - 1, batch.max_timestamp, batch.timestamp_type, None, reason.encode(), [])


def _counted(unpack: Callable[[Any], bytes], payload: Any) -> bytes:
    size = UNPACKED_BYTES_MAX
    try:
        content = unpack(payload)
        size = len(content)
    finally:
        _count(size)
    return content


def _count(size: int) -> None:
    global _unpacked_bytes
    if not _unpacked_bytes:
        asyncio.get_running_loop().call_soon(_begin_turn)
    _unpacked_bytes += size


def _begin_turn() -> None:
    global _unpacked_bytes
    _unpacked_bytes = 0


def _gzip(payload: Any) -> bytes:
    if len(payload) * GZIP_RATIO_MAX <= UNPACKED_BYTES_MAX:
        return codec.gzip_decode(payload)
    with gzip.GzipFile(fileobj=io.BytesIO(payload)) as file:
        content = file.read(UNPACKED_BYTES_MAX + 1)
    if len(content) > UNPACKED_BYTES_MAX:
        raise UnpacksToTooMuch
    return content


def _snappy(payload: Any) -> bytes:
    """Each block says how long it is unpacked; in Java's framing there are several."""
    blocks, view = [memoryview(payload)], memoryview(payload)
    if codec._detect_xerial_stream(payload):
        blocks, at = [], 16
        while at < len(view):
            end = at + 4 + int.from_bytes(view[at : at + 4], "big")
            blocks.append(view[at + 4 : end])
            at = end
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > UNPACKED_BYTES_MAX:
        raise UnpacksToTooMuch
    return codec.snappy_decode(payload)


def _lz4(payload: Any) -> bytes:
    if len(payload) * LZ4_RATIO_MAX <= UNPACKED_BYTES_MAX:
        return codec.lz4_decode(payload)
    return _bounded(cramjam.lz4, payload)


def _zstd(payload: Any) -> bytes:
    if len(payload) * ZSTD_RATIO_MAX <= UNPACKED_BYTES_MAX:
        return codec.zstd_decode(payload)
    return _bounded(cramjam.zstd, payload)


def _bounded(codec_of: Any, payload: Any) -> bytes:
    room = np.empty(UNPACKED_BYTES_MAX, np.uint8)  # takes memory where it is written to
    try:
        size = codec_of.decompress_into(payload, room)
    except cramjam.DecompressionError as error:
        if "write whole buffer" in str(error):
            raise UnpacksToTooMuch from error
        raise
    return room[:size].tobytes()
