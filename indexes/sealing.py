"""The other process: builds a segment from the rows of a job, `python -m indexes.sealing FOLDER`.

1. The shard writes a job's folder: `job.json`, the positions to take of each source, the delta's vectors.
2. This process gathers the vectors, builds the trees and writes the segment's files, its sidecar last.
3. The shard opens the segment and takes it over; whatever died meanwhile is a tombstone in it from the start.

It is another process because Annoy's `add_item` and `save` hold the GIL.  It may be killed at any moment: what it has
written so far is removed with the job, and the shard still has every row.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import numpy as np

from indexes.segment import write_segment
from models.vectors import unpack_mean

JOB_FILE = "job.json"


class Source(msgspec.Struct, frozen=True):
    """Rows to take: positions (`.npy`) of a file of float16 vectors, and their places in the segment (`.npy`)."""

    vectors: str
    positions: str
    places: str


class Job(msgspec.Struct, frozen=True):
    """A segment to be built."""

    folder: str
    """Where the segment's files go."""
    name: str
    dimension: int
    colour: int
    model: str
    mean: str | None
    trees: int
    seed: int
    nice: int
    sources: tuple[Source, ...]
    item_ids: tuple[str, ...]
    """By place in the segment."""
    parent: int
    """Process that waits for the segment; without it nobody would take it over."""


def build(job: Job) -> None:
    """Write the segment of a job.  ValueError if its parts do not fit each other."""
    vectors = np.empty((len(job.item_ids), job.dimension), "<f2")
    for source in job.sources:
        flat = np.fromfile(source.vectors, "<f2").reshape(-1, job.dimension)
        positions, places = (np.load(each, allow_pickle=False) for each in (source.positions, source.places))
        vectors[places] = flat[positions]
    write_segment(
        Path(job.folder),
        job.name,
        vectors,
        job.item_ids,
        model=job.model,
        mean=None if job.mean is None else unpack_mean(job.mean, job.dimension),
        trees=job.trees,
        seed=job.seed,
        colour=job.colour,
        wanted=lambda: os.getppid() == job.parent or os.getpid() == job.parent,
    )


def main(folder: Path) -> None:
    """Do the job in `folder`, at low priority."""
    job = msgspec.json.decode((folder / JOB_FILE).read_bytes(), type=Job)
    os.nice(job.nice)
    build(job)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
