"""Records with headers of any names can be read.

Kafka takes any bytes for the name of a header; aiokafka wants UTF-8, and a record of another name fails every poll that
comes to it, for ever.  So anybody who may write to a topic could stop all who read it.

A batch that aiokafka cannot decode is decoded once more by its own slower reader, with a backslash and two hexadecimal
digits for a byte that is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from streams.unpacking import UnpacksToTooMuch, in_its_place, limit_unpacking, may_unpack

_LENGTH_AT, _HEAD_BYTES = 8, 12
"""Where a batch says how long it is, and how many bytes come before those that it counts."""


def read_any_headers() -> None:
    """Let all consumers of this process read them; of packed batches as much as `unpacking.py` allows."""
    limit_unpacking()
    fetcher.MemoryRecords = _Records


class _Records:
    """In place of aiokafka's batches of a partition: remembers the bytes of each."""

    def __init__(self, data: bytes) -> None:
        self._batches = MemoryRecords(data)
        self._data = memoryview(data)
        self._is_handed_out = False
        self.size_in_bytes = self._batches.size_in_bytes

    def has_next(self) -> bool:
        """Whether there is a batch more; if not so for the limit alone, the fetcher asks for that one again.

        It first asks when a fetch comes, and without a batch would skip what it takes for one that is cut off.
        """
        may_hand_out, self._is_handed_out = may_unpack() or not self._is_handed_out, True
        return may_hand_out and self._batches.has_next()

    def next_batch(self) -> _Batch | None:
        batch = self._batches.next_batch()
        if batch is None:
            return None
        end = _HEAD_BYTES + int.from_bytes(self._data[_LENGTH_AT:_HEAD_BYTES], "big")
        data, self._data = self._data[:end], self._data[end:]
        return _Batch(batch, data)


class _Batch:
    """A batch of aiokafka's; in its place, from the record on that it cannot decode, the slower one."""

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        """Records in their order; some come twice, of which the fetcher takes the first."""
        try:
            records = iter(self._batch)
        except UnpacksToTooMuch as error:
            records = iter([in_its_place(self._batch, self._data, error)])
        try:
            yield from records
        except UnicodeDecodeError:
            yield from _AnyBatch(bytearray(self._data))


class _AnyBatch(_DefaultRecordBatchPy):
    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Text(self._buffer)


class _Text(bytearray):
    """Bytes of which each part can be decoded."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Text(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return super().decode(encoding, "backslashreplace")
