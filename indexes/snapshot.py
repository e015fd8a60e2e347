"""The snapshot: everything of a shard that is not in its segments, so that it need not read the topics from the start.

Three files: `.items` (frames of items in MessagePack, each frame with its length before it), `.rows` (where each row
is), `.delta` (the delta's raw vectors).  Items name their rows by row id, as in memory.

What is captured is copied or immutable, so the files can be written in another thread while the shard goes on.  They
are written frame by frame, and each write lets go of the GIL.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.atomic_file import checksum
from indexes.join import Join
from indexes.stored import StoredEmbedding, StoredRecord
from models.errors import CorruptIndex
from models.stock import Level

ITEMS_FILE, ROWS_FILE, DELTA_FILE = ".items", ".rows", ".delta"
SUFFIXES = (ITEMS_FILE, ROWS_FILE, DELTA_FILE)
FRAME_ITEMS = 128
"""About 0.1 ms of encoding, for which a request may have to wait."""
_LENGTH = struct.Struct("<I")


class StoredItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is stored of one item; parts that it has not are None."""

    item_id: str
    record: StoredRecord | None
    level: Level | None
    embedding: StoredEmbedding | None


class Snapshot:
    """A shard at one moment.  Making it copies arrays and dictionaries; `write` may run in any thread."""

    def __init__(self, join: Join) -> None:
        rows = join.rows
        self.records = join.records.copy()
        self.levels = join.levels.copy()
        self.embeddings = join.embeddings.copy()
        self.slot = rows.slot[: rows.size].copy()
        self.position = rows.position[: rows.size].copy()
        self.delta = rows.delta.raw_rows[: rows.delta.size].copy()

    def write(self, folder: Path, name: str) -> dict[str, str]:
        """Write the files; their checksums by suffix."""
        table = self.slot.tobytes() + self.position.astype("<i4").tobytes()
        vectors = self.delta.astype("<f2", copy=False).tobytes()
        return {
            ITEMS_FILE: _write(folder / (name + ITEMS_FILE), self._frames()),
            ROWS_FILE: _write(folder / (name + ROWS_FILE), iter((table,))),
            DELTA_FILE: _write(folder / (name + DELTA_FILE), iter((vectors,))),
        }

    def _frames(self) -> Iterator[bytes]:
        encode = msgspec.msgpack.Encoder().encode
        item_ids = chain(  # not the union of the three, which would be made in one go under the GIL
            self.records,
            (item_id for item_id in self.levels if item_id not in self.records),
            (item_id for item_id in self.embeddings if item_id not in self.records and item_id not in self.levels),
        )
        while chunk := list(islice(item_ids, FRAME_ITEMS)):
            items = [
                StoredItem(item_id, self.records.get(item_id), self.levels.get(item_id), self.embeddings.get(item_id))
                for item_id in chunk
            ]
            frame = encode(items)
            yield _LENGTH.pack(len(frame)) + frame


class OpenSnapshot:
    """A snapshot on disk, verified."""

    def __init__(self, folder: Path, name: str, checksums: dict[str, str], dimension: int) -> None:
        """CorruptIndex if the files are not what the checksums say."""
        for suffix in SUFFIXES:
            try:
                actual = checksum(folder / (name + suffix))
            except OSError as error:
                raise CorruptIndex(f"snapshot {name}: {error}") from error
            if actual != checksums.get(suffix):
                raise CorruptIndex(f"snapshot {name}{suffix} has checksum {actual}, expected {checksums.get(suffix)}")
        table = (folder / (name + ROWS_FILE)).read_bytes()
        count = len(table) // 5
        self.slot: NDArray[np.int8] = np.frombuffer(table, np.int8, count).copy()
        self.position: NDArray[np.int32] = np.frombuffer(table, "<i4", count, count).astype(np.int32)
        delta = np.fromfile(folder / (name + DELTA_FILE), "<f2").astype(np.float16)
        self.delta: NDArray[np.float16] = delta.reshape(-1, dimension)
        self._items = folder / (name + ITEMS_FILE)

    def items(self) -> Iterator[StoredItem]:
        """The items, each once, in no order that matters."""
        decode = msgspec.msgpack.Decoder(list[StoredItem]).decode
        with self._items.open("rb") as file:
            while head := file.read(_LENGTH.size):
                yield from decode(file.read(_LENGTH.unpack(head)[0]))


def remove_snapshot(folder: Path, name: str) -> None:
    """Delete the files of a snapshot."""
    for suffix in SUFFIXES:
        (folder / (name + suffix)).unlink(missing_ok=True)


def _write(path: Path, pieces: Iterator[bytes]) -> str:
    """Write the pieces one by one and sync them; the BLAKE2b-128 of all."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("wb", buffering=0) as file:
        for piece in pieces:
            digest.update(piece)
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]
        os.fsync(file.fileno())
    return digest.hexdigest()
