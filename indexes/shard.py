"""A shard: truths in, best rows out.  The one door of this folder; what answers read of it is `ShardView`.

Its state is a function of the logs of the truths: the last message of a key wins, exactly as compaction keeps it.  So a
message that cannot be read clears its part of the item, as null does: after compaction nothing older would be there to
keep.  What was refused is told, and the rest goes on.

Partition n of the three truths is shard n.  One thread calls; only what is said to run elsewhere does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.join import Join
from indexes.shard_files import Reopened, ShardFiles
from indexes.shard_settings import ShardSettings
from indexes.shard_view import ShardView
from indexes.truth_reading import deleted_at, read_embedding, read_level, read_record
from indexes.upkeep import Checkpoint, Upkeep
from models.errors import BadEvent
from models.projection import Projection

RECORDS, STOCKS, EMBEDDINGS = "item-records", "item-stocks", "item-embeddings"
TRUTHS = (RECORDS, STOCKS, EMBEDDINGS)


class Rejected(NamedTuple):
    """A message of a truth that could not be used."""

    key: str
    reason: str


class Shard(ShardView):
    """The items of one partition, searchable."""

    def __init__(self, files: ShardFiles, number: int, settings: ShardSettings, reopened: Reopened | None) -> None:
        """Use `open`."""
        super().__init__(Join(settings) if reopened is None else reopened.join, settings)
        self.number = number
        self.projection: Projection | None = None
        self.next_offsets: dict[str, int] = {}
        self.watermark: dict[str, int] = {}
        self._caught_up_ms = 0
        if reopened is not None:
            self.next_offsets |= reopened.manifest.next_offsets
            self.watermark |= reopened.manifest.watermark
            self._caught_up_ms = reopened.manifest.caught_up_ms
            if reopened.lost:
                # Reading from the beginning brings back what was deleted later, until its tombstone is read: a
                # checkpoint between the two must not be trusted.
                self.next_offsets.pop(EMBEDDINGS, None)
                self._caught_up_ms = 0
        self._upkeep = Upkeep(files, settings, self._join, None if reopened is None else reopened.manifest)
        self._opened_ms = 0
        self._ends: dict[str, int] = {}

    @classmethod
    def open(
        cls,
        folder: Path,
        number: int,
        settings: ShardSettings,
        *,
        cluster_id: str,
        now_ms: int,
        retention_ms: int,
        offsets: Mapping[str, tuple[int, int]],
        projection: Projection | None = None,
    ) -> Shard:
        """The shard of the checkpoint in `folder` if that is to be trusted, else an empty one.

        `offsets` are the beginning and end of this partition of each truth, `retention_ms` their `delete.retention.ms`.
        Read on from `next_offsets`; a truth that is not in it, from its beginning.
        """
        files = ShardFiles(folder, number, settings, cluster_id)
        reopened = files.reopen(now_ms=now_ms, retention_ms=retention_ms, offsets=offsets)
        shard = cls(files, number, settings, reopened)
        shard.projection = projection
        shard._join.columns.advance(now_ms)
        shard._opened_ms, shard._ends = now_ms, {truth: end for truth, (_, end) in offsets.items()}
        return shard

    # Changes

    def apply(
        self, truth: str, changes: Sequence[tuple[str, bytes | None]], next_offset: int, now_ms: int
    ) -> list[Rejected]:
        """Take in messages of a truth, in the order of its log; `next_offset` is that of the message after them.

        Of several messages of a key in one call only the last is looked at.  OtherModel if the worker must stop.
        """
        self._join.columns.advance(now_ms)
        put: Callable[[str, bytes | None], None] = {
            RECORDS: self._put_record,
            STOCKS: self._put_level,
            EMBEDDINGS: self._put_embedding,
        }[truth]
        rejected = []
        latest = dict(changes)
        if truth == RECORDS:
            self._see_deletes(changes, latest)
        for key, value in latest.items():
            try:
                put(key, value)
            except BadEvent as error:
                put(key, None)
                rejected.append(Rejected(key, str(error)))
        self._join.rows.delta.settle()
        self.next_offsets[truth] = next_offset
        self._upkeep.changes += 1
        if self._ends and all(self.next_offsets.get(name, 0) >= end for name, end in self._ends.items()):
            self._ends = {}  # all that was there when it was opened has been read
            self.caught_up(self._opened_ms)
        return rejected

    def _put_record(self, item_id: str, value: bytes | None) -> None:
        record = None if value is None else read_record(value)
        self._join.put_record(item_id, record)
        if value is not None and record is None and (at_ms := deleted_at(value)) is not None:
            self._see(RECORDS, at_ms)
        if record is not None:
            self._see(RECORDS, record.at)
            self._see_embedded(item_id)

    def _put_level(self, item_id: str, value: bytes | None) -> None:
        level = None if value is None else read_level(value)
        self._join.put_level(item_id, level)
        if level is not None:
            self._see(STOCKS, level.at)

    def _put_embedding(self, item_id: str, value: bytes | None) -> None:
        settings, embedding = self.settings, None
        if value is not None:
            embedding = read_embedding(value, settings.model, settings.dimension, settings.colour, self.projection)
        self._join.put_embedding(item_id, embedding)
        self._see_embedded(item_id)

    def _see(self, truth: str, at_ms: int) -> None:
        if at_ms > self.watermark.get(truth, -1):
            self.watermark[truth] = at_ms

    def _see_deletes(self, changes: Sequence[tuple[str, bytes | None]], latest: Mapping[str, bytes | None]) -> None:
        """A null has no time: it is that of the message with `gone` before it, which most often comes with it."""
        if None in latest.values():
            for key, value in changes:
                if value is not None and latest[key] is None and (at_ms := deleted_at(value)) is not None:
                    self._see(RECORDS, at_ms)

    def _see_embedded(self, item_id: str) -> None:
        """An embedding has no time of its own: it is as fresh as the record whose images it has."""
        record, embedding = self._join.records.get(item_id), self._join.embeddings.get(item_id)
        if record is not None and embedding is not None and embedding.image_version >= record.image_version:
            self._see(EMBEDDINGS, record.at)

    @property
    def changes(self) -> int:
        """Counts up with every call of `apply`."""
        return self._upkeep.changes

    def advance(self, now_ms: int) -> None:
        """Let time go on (Unix ms): sale windows open and close.  Cheap when nothing is due."""
        self._join.columns.advance(now_ms)

    def use_mean(self, mean: NDArray[np.float32] | None) -> None:
        """Centre by this mean float32[D] from now on; None: by none.  Queries must be centred by the same."""
        self._join.rows.use_mean(mean)

    def use_projection(self, projection: Projection) -> None:
        """Bring all vectors to fewer numbers, those that are here and those to come; then tell the mean again.

        Rows are what they would be if all was read anew with the projection.  Once in the life of an index.
        """
        if self.projection is not None:
            raise ValueError("expected vectors that are not projected yet")
        self._upkeep.stop()
        self.projection = projection
        self.settings = msgspec.structs.replace(self.settings, dimension=projection.dimension + self.settings.colour)
        self._join.project(projection, self.settings)
        self._upkeep = self._upkeep.anew(self.settings)

    # Upkeep

    def caught_up(self, now_ms: int) -> None:
        """All that the truths held at `now_ms` (Unix ms) has been applied.

        To be said from time to time: a checkpoint is trusted for the topics' `delete.retention.ms` from then on.  A
        time before the last one is of a clock that was set back: the former was wrong, and would be trusted too long.
        """
        self._caught_up_ms = now_ms

    def tend(self, now_ms: int) -> bool:
        """Begin a sealing that is due, or take over a segment that is built; never waits for either.

        To be called every second or so, with the time of a clock that is never set back, in ms.  True if segments have
        changed, so that a checkpoint is worth its while.
        """
        return self._upkeep.tend(now_ms)

    @property
    def sealing(self) -> bool:
        """Whether the other process is at work, or its segment waits to be taken over by `tend`."""
        return self._upkeep.job is not None

    @property
    def seal_due(self) -> bool:
        """Whether the policy asks for a step now."""
        return self._upkeep.due() is not None

    def capture(self) -> Checkpoint:
        """A checkpoint of this moment, to be written by its `write` in any thread.

        Quick: it copies the delta's vectors and pointers to immutable parts of items.
        """
        return self._upkeep.capture(dict(self.next_offsets), self._caught_up_ms, dict(self.watermark))

    def checkpoint(self) -> None:
        """Write a checkpoint now, and wait for it."""
        self.capture().write()

    def close(self, *, checkpoint: bool = True) -> None:
        """Stop sealing and write a last checkpoint.  Nothing of the shard may be used afterwards."""
        self._upkeep.stop()
        if checkpoint:
            self.checkpoint()

    def statistics(self) -> dict[str, int]:
        """Numbers for metrics and `kindred status`."""
        return self._upkeep.statistics() | {"caught_up_ms": self._caught_up_ms}
