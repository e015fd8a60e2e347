"""Upkeep of a shard: sealing, merging, taking over, checkpoints.  It decides when; others know how.

1. `compaction.next_step` says what to do; a build runs in another process, one at a time.
2. When its segment is there, it takes the place of the rows it was built from in one assignment; what died or changed
   in the meantime is dead in it from the start, what came in the meantime stays in the delta.
3. Files of replaced segments go with the next checkpoint, not before: the last one still names them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from indexes.compaction import Build, Dissolve, SegmentFigures, next_step
from indexes.join import Join
from indexes.manifest import Manifest
from indexes.rows import DELTA
from indexes.seal_job import SealJob
from indexes.shard_files import SEGMENT_PREFIX, SNAPSHOT_PREFIX, ShardFiles
from indexes.shard_settings import ShardSettings
from indexes.snapshot import Snapshot

log = logging.getLogger(__name__)


class Checkpoint:
    """A checkpoint that has been captured, to be written."""

    def __init__(
        self,
        upkeep: Upkeep,
        snapshot: Snapshot | Manifest,
        next_offsets: dict[str, int],
        caught_up_ms: int,
        watermark: dict[str, int],
    ) -> None:
        self._upkeep = upkeep
        self._snapshot = snapshot
        self._changes = upkeep.changes
        self._next_offsets = next_offsets
        self._caught_up_ms = caught_up_ms
        self._watermark = watermark
        self._segments = upkeep.segment_names()
        self._in_use = [] if upkeep.job is None else [upkeep.job.name]
        self._name = upkeep.files.new_name(SNAPSHOT_PREFIX)
        self._next_number = upkeep.files.next_number
        self._place = upkeep.queue.captured()

    def write(self) -> None:
        """Write the files and make them the valid checkpoint; in any thread.  OSError if it fails.

        One at a time; one that was captured before another that is written is left out: its files may be gone.
        """
        self._upkeep.queue.write(self._place, self._write)

    def _write(self) -> None:
        files = self._upkeep.files
        manifest = files.checkpoint(
            self._snapshot,
            segments=self._segments,
            next_offsets=self._next_offsets,
            caught_up_ms=self._caught_up_ms,
            watermark=self._watermark,
            name=self._name,
            next_number=self._next_number,
        )
        self._upkeep.manifest = manifest
        self._upkeep.changes_saved = self._changes
        files.clean(manifest, self._in_use)


class _Queue:
    """Checkpoints of one shard, in the order of their capture."""

    def __init__(self) -> None:
        self._captured = self._written = 0
        self._writing = threading.Lock()

    def captured(self) -> int:
        """The place of one that is captured now."""
        self._captured += 1
        return self._captured

    def write(self, place: int, write: Callable[[], None]) -> None:
        """Write the one at a place, unless a later one is written: that may have removed what this one names."""
        with self._writing:
            if place > self._written:
                write()
                self._written = place


class Upkeep:
    """What is under way for one shard, and what has been done."""

    def __init__(self, files: ShardFiles, settings: ShardSettings, join: Join, manifest: Manifest | None) -> None:
        self.files = files
        self.manifest = manifest
        self.job: SealJob | None = None
        self.changes = 0
        """Counts up with every change, so that a checkpoint knows whether its snapshot still stands."""
        self.changes_saved = 0
        self.queue = _Queue()
        self.seals = self.merges = self.failures = 0
        self._settings = settings
        self._join = join
        self._not_before_ms = 0

    def anew(self, settings: ShardSettings) -> Upkeep:
        """The upkeep of the same rows from now on; what was written so far is of other vectors, and is not built on."""
        new = Upkeep(self.files.anew(settings), settings, self._join, None)
        new.changes, new.queue = self.changes + 1, self.queue
        new.seals, new.merges, new.failures = self.seals, self.merges, self.failures
        return new

    def due(self) -> Build | Dissolve | None:
        """What the policy asks for, while nothing is under way."""
        if self.job is not None:
            return None
        rows = self._join.rows
        figures = [
            SegmentFigures(slot, segment.live, segment.size - segment.live, segment.mean_distance)
            for slot, segment in rows.segments.items()
        ]
        return next_step(rows.delta.live, figures, self._settings)

    def tend(self, now_ms: int) -> bool:
        """Begin what is due, or take over what is built; True if segments have changed.

        `now_ms` is of a clock that is never set back.
        """
        if self.job is not None:
            return self.job.finished() and self._take_over(self.job, now_ms)
        step = self.due() if now_ms >= self._not_before_ms else None
        if isinstance(step, Dissolve):
            self._join.rows.dissolve(step.slot)
            self.changes += 1
            return True
        if step is not None:
            self._begin(step)
        return False

    def _begin(self, step: Build) -> None:
        rows = self._join.rows
        captured = rows.capture([*step.slots, *([DELTA] if step.with_delta else [])])
        name = self.files.new_name(SEGMENT_PREFIX)
        self.job = SealJob(self.files.folder, name, self._settings, captured, self._join.item_ids, rows.mean)
        self.job.start()

    def _take_over(self, job: SealJob, now_ms: int) -> bool:
        self.job = None
        if job.segment is None:
            self.failures += 1
            self._not_before_ms = now_ms + self._settings.seal_retry_ms
            log.warning("%s was not built, it will be tried again: %s", job.name, job.failure)
            return False
        self._join.rows.take_over(job.segment, job.captured, job.places)
        self.seals += not job.merges
        self.merges += job.merges
        self.changes += 1
        return True

    def statistics(self) -> dict[str, int]:
        """Numbers of the rows and of what was done with them."""
        rows = self._join.rows
        segments = rows.segments.values()
        return {
            "items": len(self._join.records),
            "items_searchable": rows.items_shown,
            "rows": rows.live,
            "rows_searchable": rows.rows_shown,
            "delta_rows": rows.delta.live,
            "segments": len(segments),
            "segment_rows": sum(segment.live for segment in segments),
            "tombstones": sum(segment.size - segment.live for segment in segments),
            "seals": self.seals,
            "merges": self.merges,
            "seal_failures": self.failures,
            "sealing": int(self.job is not None),
            "memory_bytes": rows.delta.bytes,
            "segment_bytes": sum(segment.bytes for segment in segments),
        }

    def segment_names(self) -> dict[int, str]:
        """Names of the live segments, by slot."""
        return {slot: segment.name for slot, segment in self._join.rows.segments.items()}

    def capture(self, next_offsets: dict[str, int], caught_up_ms: int, watermark: dict[str, int]) -> Checkpoint:
        """What is to be written; if nothing has changed since the last time, the manifest alone."""
        if self.manifest is not None and self.changes == self.changes_saved:
            return Checkpoint(self, self.manifest, next_offsets, caught_up_ms, watermark)
        return Checkpoint(self, Snapshot(self._join), next_offsets, caught_up_ms, watermark)

    def stop(self) -> None:
        """End the other process, if it is at work."""
        if self.job is not None:
            self.job.cancel()
            self.job = None
