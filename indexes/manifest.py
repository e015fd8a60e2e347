"""The manifest: what is live on disk, from which offsets to read on, and whether to believe it.

Replaced atomically; whatever it does not name is rubbish.  Not to be trusted are:

* another format, cluster, model, dimension or shard: it belongs to something else;
* offsets outside the topic's: the topic was made anew, or cut;
* too old: compaction may have removed tombstones that the shard never read, and deleted items would come back for
  good.  Tombstones stay `delete.retention.ms` after they were written, so all are still there as long as that has not
  passed since the shard had read to the end, with a margin for clocks and for the time that reading takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from indexes.atomic_file import write_whole
from models.errors import CorruptIndex

FORMAT = 1
FILE = "manifest.json"


class Manifest(msgspec.Struct, frozen=True):
    """A checkpoint of one shard."""

    format: int
    cluster_id: str
    shard: int
    model: str
    dimension: int
    next_offsets: dict[str, int]
    caught_up_ms: int
    """Unix ms at which the shard had last read all truths to their ends; 0: never yet."""
    watermark: dict[str, int]
    segments: dict[int, str]
    """Names of the live segments, by slot."""
    snapshot: str
    """Name of the snapshot of everything else."""
    snapshot_checksums: dict[str, str]
    """By suffix of the snapshot's files."""
    next_number: int
    """Of the next segment or snapshot to be named."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make this checkpoint the valid one."""
    write_whole(folder / FILE, msgspec.json.encode(manifest))


def read_manifest(folder: Path) -> Manifest | None:
    """The valid checkpoint; None: there is none.  CorruptIndex if it cannot be read."""
    try:
        content = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CorruptIndex(f"manifest: {error}") from error
    try:
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptIndex(f"manifest: expected a checkpoint of format {FORMAT}: {error}") from error


def distrust(
    manifest: Manifest,
    *,
    cluster_id: str,
    shard: int,
    model: str,
    dimension: int,
    now_ms: int,
    retention_ms: int,
    margin_ms: int,
    offsets: Mapping[str, tuple[int, int]],
) -> str | None:
    """Why the checkpoint must not be used; None: it may.  `offsets`: beginning and end by truth."""
    expected = {"format": FORMAT, "cluster_id": cluster_id, "shard": shard, "model": model, "dimension": dimension}
    for name, value in expected.items():
        if getattr(manifest, name) != value:
            return f"it is of {name} {getattr(manifest, name)!r}, expected {value!r}"
    age_ms = now_ms - manifest.caught_up_ms
    if -age_ms > margin_ms:
        return (
            f"its shard had last read everything {-age_ms / 1000:,.0f} s from now: a clock was wrong, then or now, "
            "so nobody knows how long ago that was"
        )
    if age_ms + margin_ms >= retention_ms:
        if not manifest.caught_up_ms:
            return "its shard had not read everything yet"
        return (
            f"its shard had last read everything {age_ms / 1000:,.0f} s ago; "
            f"with a margin of {margin_ms / 1000:,.0f} s that is not within "
            f"the topics' delete.retention.ms of {retention_ms / 1000:,.0f} s"
        )
    for truth, next_offset in manifest.next_offsets.items():
        begin, end = offsets.get(truth, (0, 0))
        if not begin <= next_offset <= end:
            return f"it reads on from offset {next_offset} of {truth}, which has {begin} to {end}"
    return None
