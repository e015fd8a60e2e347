"""The folder of one shard: its checkpoint, its segments, names for new ones, and what is rubbish.

Names count up, over restarts too, so that nothing is ever written under a name that was in use.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from indexes.join import Join
from indexes.manifest import FILE, FORMAT, Manifest, distrust, read_manifest, write_manifest
from indexes.seal_job import JOB_PREFIX
from indexes.segment import Segment, remove_segment
from indexes.shard_settings import ShardSettings
from indexes.snapshot import OpenSnapshot, Snapshot, remove_snapshot
from models.errors import CorruptIndex

log = logging.getLogger(__name__)

SEGMENT_PREFIX, SNAPSHOT_PREFIX = "segment-", "snapshot-"


class Reopened(NamedTuple):
    """What is left of a checkpoint."""

    manifest: Manifest
    join: Join
    lost: tuple[str, ...]
    """Segments that were corrupt and have been dropped."""


class ShardFiles:
    """Files of shard `number` in `folder`."""

    def __init__(self, folder: Path, number: int, settings: ShardSettings, cluster_id: str) -> None:
        self.folder = folder
        self._number = number
        self._settings = settings
        self._cluster_id = cluster_id
        folder.mkdir(parents=True, exist_ok=True)
        self._next = 1 + max((_number_of(path) for path in folder.iterdir()), default=0)

    def anew(self, settings: ShardSettings) -> ShardFiles:
        """The same folder for vectors of other settings; the checkpoint in it is not trusted any more."""
        return ShardFiles(self.folder, self._number, settings, self._cluster_id)

    def new_name(self, prefix: str) -> str:
        """A name that nothing in this folder has or had."""
        name = f"{prefix}{self._next:08d}"
        self._next += 1
        return name

    def reopen(self, *, now_ms: int, retention_ms: int, offsets: Mapping[str, tuple[int, int]]) -> Reopened | None:
        """The shard of the checkpoint; None, with the reason in the log: it must be built anew."""
        settings = self._settings
        try:
            manifest = read_manifest(self.folder)
            if manifest is None:
                self._start_anew("there is no checkpoint")
                return None
            reason = distrust(
                manifest,
                cluster_id=self._cluster_id,
                shard=self._number,
                model=settings.model,
                dimension=settings.dimension,
                now_ms=now_ms,
                retention_ms=retention_ms,
                margin_ms=settings.clock_margin_ms,
                offsets=offsets,
            )
            if reason is not None:
                self._start_anew(f"its checkpoint is not trusted: {reason}")
                return None
            snapshot = OpenSnapshot(self.folder, manifest.snapshot, manifest.snapshot_checksums, settings.dimension)
        except CorruptIndex as error:
            self._start_anew(f"its checkpoint is corrupt: {error}")
            return None
        segments: dict[int, Segment] = {}
        lost = []
        for slot, name in manifest.segments.items():
            try:
                segments[slot] = Segment.open(self.folder, name, settings)
            except CorruptIndex as error:
                log.warning("shard %d: dropped, its vectors are read again: %s", self._number, error)
                lost.append(name)
        join = Join(settings)
        join.columns.advance(now_ms)
        join.rows.reopen(snapshot.slot, snapshot.position, snapshot.delta, segments)
        for item in snapshot.items():
            join.restore(item.item_id, item.record, item.level, item.embedding)
        join.rows.reopened()
        self._next = max(self._next, manifest.next_number)
        self.clean(manifest, [])
        return Reopened(manifest, join, tuple(lost))

    def _start_anew(self, reason: str) -> None:
        log.info("shard %d is built from the topics: %s", self._number, reason)
        (self.folder / FILE).unlink(missing_ok=True)
        self.clean(None, [])

    def checkpoint(
        self,
        snapshot: Snapshot | Manifest,
        *,
        segments: dict[int, str],
        next_offsets: dict[str, int],
        caught_up_ms: int,
        watermark: dict[str, int],
        name: str,
        next_number: int,
    ) -> Manifest:
        """Write a checkpoint; of a Manifest, its snapshot is used once more.

        OSError if it fails; what was written of it by then is removed, or a disk that is nearly full would stay full.
        """
        if isinstance(snapshot, Manifest):
            name, checksums = snapshot.snapshot, snapshot.snapshot_checksums
        else:
            try:
                checksums = snapshot.write(self.folder, name)
            except OSError:
                with contextlib.suppress(OSError):  # a folder that nothing can be written to may hold nothing of it
                    remove_snapshot(self.folder, name)
                raise
        manifest = Manifest(
            FORMAT,
            self._cluster_id,
            self._number,
            self._settings.model,
            self._settings.dimension,
            next_offsets,
            caught_up_ms,
            watermark,
            segments,
            name,
            checksums,
            next_number,
        )
        try:
            write_manifest(self.folder, manifest)
        except OSError:
            if not isinstance(snapshot, Manifest):
                self._give_up(name)
            raise
        return manifest

    def _give_up(self, name: str) -> None:
        """Remove a snapshot, unless the manifest that could not be written did take the former one's place."""
        try:
            valid = read_manifest(self.folder)
        except CorruptIndex:  # it cannot be told now; what is rubbish goes with the next checkpoint
            return
        if valid is None or valid.snapshot != name:
            with contextlib.suppress(OSError):
                remove_snapshot(self.folder, name)

    @property
    def next_number(self) -> int:
        """Of the next name."""
        return self._next

    def clean(self, manifest: Manifest | None, in_use: Sequence[str]) -> None:
        """Remove what neither the manifest names nor `in_use`, unless it is newer than the manifest."""
        keep = {*in_use}
        before = self._next
        if manifest is not None:
            keep |= {*manifest.segments.values(), manifest.snapshot}
            before = manifest.next_number
        for path in self.folder.iterdir():
            number, name = _number_of(path), path.name.split(".")[0]
            if not number or number >= before or name.removeprefix(JOB_PREFIX) in keep:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif name.startswith(SEGMENT_PREFIX):
                remove_segment(self.folder, name)
                path.unlink(missing_ok=True)
            else:
                remove_snapshot(self.folder, name)
                path.unlink(missing_ok=True)


def _number_of(path: Path) -> int:
    """The number in the name of a file or folder of ours; 0: it is none."""
    name = path.name.split(".")[0].removeprefix(JOB_PREFIX)
    for prefix in (SEGMENT_PREFIX, SNAPSHOT_PREFIX):
        digits = name.removeprefix(prefix)
        if digits != name and digits.isdigit():
            return int(digits)
    return 0
