"""Batches that unpack to much more than they came with are read up to a limit; beyond it one message stands in."""

from __future__ import annotations

import asyncio
import logging
import struct
from itertools import chain
from typing import Any

import cramjam
import pytest
from aiokafka import TopicPartition, codec
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams import unpacking
from streams.any_headers import read_any_headers

read_any_headers()

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
LIMIT = 1 << 20


def batch(packer: str, begin: int, sizes: list[int]) -> bytes:
    """Records of so many bytes that can be packed well."""
    builder = DefaultRecordBatchBuilder(2, CODECS[packer], 0, -1, -1, -1, 1 << 30)
    for place, size in enumerate(sizes):
        builder.append(place, 7, b"key", bytes(size), [])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, begin)
    return bytes(data)


def fetched(data: bytes, offset: int = 0) -> list[Any]:
    """What a consumer has of a fetch."""
    records = fetcher.MemoryRecords(data)
    if not records.has_next():
        return []
    return list(fetcher.PartitionRecords(TopicPartition("t", 0), records, None, offset, None, None, True, 0))


@pytest.mark.parametrize("packer", CODECS)
async def test_a_batch_that_unpacks_to_too_much_is_left_out(
    packer: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A message without a key says so in its place, and what is before and behind it is read."""
    monkeypatch.setattr(unpacking, "UNPACKED_BYTES_MAX", LIMIT)
    bomb = batch(packer, 2, [LIMIT // 4] * 5)
    data = batch(packer, 0, [10, 10]) + bomb + batch(packer, 7, [10, 10])
    reason = f"a batch of 5 messages in {len(bomb):,} bytes is left out: it unpacks to more than 1 MiB"
    for begin in (0, 4):
        found = {record.offset: record for record in fetched(data, begin)}

        assert [*range(begin, 2), 6, 7, 8] == list(found)
        assert (None, reason, 7) == (found[6].key, found[6].value.decode(), found[6].timestamp)
        assert {b"key"} == {record.key for offset, record in found.items() if offset != 6}
    assert f"at the offsets 2 to 6: {reason}" in caplog.records[0].getMessage()
    assert logging.WARNING == caplog.records[0].levelno


@pytest.mark.parametrize("packer", CODECS)
@pytest.mark.parametrize("size", [LIMIT // 2, 2 * LIMIT], ids=["below the limit", "left out"])
async def test_so_much_is_unpacked_in_a_turn_of_the_loop(
    packer: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many small batches, in however many partitions: what is behind is there when it is fetched again."""
    monkeypatch.setattr(unpacking, "UNPACKED_BYTES_MAX", LIMIT)
    monkeypatch.setattr(unpacking, "TURN_UNPACKED_BYTES_MAX", LIMIT)
    batches = [batch(packer, offset, [size]) for offset in range(3)]
    handed_out, turns = [0, 0], []
    while sum(handed_out) < 6:
        await asyncio.sleep(0)
        turn = [[record.offset for record in fetched(b"".join(batches[at:]), at)] for at in handed_out]
        turns.append(turn)
        handed_out = [at + len(part) for at, part in zip(handed_out, turn, strict=True)]

    at_once = 2 if size < LIMIT else 1
    assert [at_once] * (6 // at_once) == [sum(map(len, turn)) for turn in turns]
    assert [[0, 1, 2]] * 2 == [list(chain(*parts)) for parts in zip(*turns, strict=True)]


async def test_what_comes_while_there_is_no_room_is_not_taken_for_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a fetch has a batch is asked when it comes, where "no" would skip its first message for ever."""
    monkeypatch.setattr(unpacking, "TURN_UNPACKED_BYTES_MAX", LIMIT)
    assert [0] == [record.offset for record in fetched(batch("zstd", 0, [LIMIT]))]

    came = fetcher.MemoryRecords(batch("zstd", 0, [LIMIT]))
    assert came.has_next()
    assert not came.has_next()
    await asyncio.sleep(0)
    assert came.has_next()


@pytest.mark.parametrize("packer", CODECS)
async def test_what_packs_well_is_read(packer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the limit all of it, whether or not so few bytes could be more than that."""
    sizes = [LIMIT // 4] * 3 + [LIMIT // 4 - 1_000]
    for limit in (LIMIT, unpacking.UNPACKED_BYTES_MAX):
        monkeypatch.setattr(unpacking, "UNPACKED_BYTES_MAX", limit)

        assert sizes == [len(record.value) for record in fetched(batch(packer, 0, sizes))]


def test_snappy_without_javas_framing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As librdkafka packs."""
    packed = codec.snappy_encode(bytes(LIMIT), xerial_compatible=False)
    monkeypatch.setattr(unpacking, "UNPACKED_BYTES_MAX", LIMIT)
    assert bytes(LIMIT) == unpacking._snappy(packed)

    monkeypatch.setattr(unpacking, "UNPACKED_BYTES_MAX", LIMIT - 1)
    with pytest.raises(unpacking.UnpacksToTooMuch):
        unpacking._snappy(packed)


@pytest.mark.parametrize("unpack", [unpacking._gzip, unpacking._snappy, unpacking._lz4, unpacking._zstd])
def test_what_is_damaged_is_an_error(unpack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: only what is too much is left out."""
    monkeypatch.setattr(unpacking, "UNPACKED_BYTES_MAX", LIMIT)
    with pytest.raises((OSError, EOFError, cramjam.DecompressionError)):
        unpack(bytes(range(1, 256)) * 100)
