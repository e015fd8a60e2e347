"""The other process: builds a segment from the rows of a job, `python -m indexes.sealing FOLDER`.

1. The shard writes a job's folder: `job.json`, positions to take of each source, the delta's vectors, images.
2. This process gathers the vectors, puts them in order and says where each lies, builds the trees and writes the
   segment's files, its sidecar last.
3. The shard opens the segment and takes it over; whatever died meanwhile is a tombstone in it from the start.

It is another process because Annoy's `add_item` and `save` hold the GIL, and so does sorting.  It may be killed at any
moment: what it has written so far is removed with the job, and the shard still has every row.
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
IMAGES_FILE = "images.npy"
"""Which of its item's images each row is, -1: not shown; int16 in the order of the rows."""
PLACES_FILE = "places.npy"
"""Where each row lies in the segment; int in the order of the rows."""


class Source(msgspec.Struct, frozen=True):
    """Rows to take: positions (int32, `.npy`) of a file of float16 vectors."""

    vectors: str
    positions: str


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
    """Of the rows of all sources, in their order."""
    parent: int
    """Process that waits for the segment; without it nobody would take it over."""


def build(job: Job, folder: Path) -> None:
    """Write the segment of a job, and into its folder where the rows lie.  ValueError if parts do not fit each other.

    Rows lie by item id and image; those that are not shown have no image, and go by their vector.
    """
    parts = []
    for source in job.sources:
        flat = np.fromfile(source.vectors, "<f2").reshape(-1, job.dimension)
        parts.append(flat[np.load(source.positions, allow_pickle=False)])
    vectors = np.concatenate(parts)
    images = np.load(folder / IMAGES_FILE, allow_pickle=False).tolist()
    keys = [
        (item_id, image, b"" if image >= 0 else vectors[at].tobytes())
        for at, (item_id, image) in enumerate(zip(job.item_ids, images, strict=True))
    ]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.intp)
    places = np.empty(len(order), np.intp)
    places[order] = np.arange(len(order))
    np.save(folder / PLACES_FILE, places)
    write_segment(
        Path(job.folder),
        job.name,
        vectors[order],
        [job.item_ids[at] for at in order.tolist()],
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
    build(job, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
