"""Headers of any names: what Kafka takes and aiokafka does not read."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streams.any_headers import read_any_headers

read_any_headers()

CRC_AT, CODEC_NONE = 17, 0
CODECS = range(1, 5)
"""gzip, snappy, lz4, zstd"""
ILLEGAL = b"\xff\xfeCDEFGH"


def batch(begin: int, count: int, odd: int | None = None, codec: int = CODEC_NONE) -> bytes:
    """Records of offsets from `begin` on; the header of the one at `odd` has no name in UTF-8."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
    for place in range(count):
        name = "ABCDEFGH" if place == odd else "name"
        builder.append(place, 7, b"key", b"value", [(name, b"%d" % (begin + place)), ("null", None)])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, begin)
    if odd is not None:
        at = data.index(b"ABCDEFGH")
        data[at : at + len(ILLEGAL)] = ILLEGAL
        struct.pack_into(">I", data, CRC_AT, calc_crc32c(bytes(data[CRC_AT + 4 :])))
    return bytes(data)


def fetched(data: bytes, offset: int = 0) -> list[Any]:
    """What a consumer has of a fetch."""
    records = fetcher.MemoryRecords(data)
    return list(fetcher.PartitionRecords(TopicPartition("t", 0), records, None, offset, None, None, True, 0))


@pytest.mark.parametrize("odd", [0, 1, 4])
def test_a_name_that_is_no_text_is_written_out(odd: int) -> None:
    """The record is read, once, and so are those before and after it, in their batch and in others."""
    records = fetched(batch(0, 3) + batch(3, 5, odd) + batch(8, 2))

    assert list(range(10)) == [record.offset for record in records]
    names = [record.headers[0][0] for record in records]
    assert names.pop(3 + odd) == "\\xff\\xfeCDEFGH"
    assert {"name"} == set(names)
    assert [(b"%d" % n, None, b"key", b"value", 7) for n in range(10)] == [
        (r.headers[0][1], r.headers[1][1], r.key, r.value, r.timestamp) for r in records
    ]


async def test_reading_begins_where_it_should() -> None:
    """Behind the odd record, and in the middle of a batch, however it was compressed."""
    assert [5, 6, 7] == [record.offset for record in fetched(batch(0, 8, 2), offset=5)]
    for codec in CODECS:
        assert [6, 7] == [record.offset for record in fetched(batch(0, 8, codec=codec), offset=6)]


def test_a_damaged_batch_is_an_error() -> None:
    """As it was."""
    data = bytearray(batch(0, 3))
    data[-1] ^= 1
    with pytest.raises(Exception, match="CRC"):
        fetched(bytes(data))
