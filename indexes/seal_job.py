"""One sealing on its way: rows captured, another process building, a segment to be taken over.

`start` returns at once; files are written, the process awaited and its segment verified in a thread of its own, which
spends its time outside the GIL.  The shard asks `finished` from time to time.

Rows lie in a segment by item id and image, wherever they came from: what is built of the same rows by the same mean is
the same to the byte, and so are answers that its trees have a part in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.rows import DELTA, Captured
from indexes.sealing import IMAGES_FILE, JOB_FILE, PLACES_FILE, Job, Source
from indexes.segment import VECTORS_FILE, Segment, remove_segment
from indexes.shard_settings import ShardSettings
from models.vectors import pack_mean

PACKAGES = Path(__file__).resolve().parent.parent
JOB_PREFIX = "job-"


class SealJob:
    """Builds one segment from captured rows.  `segment` is set when it has been built, `failure` when it has not."""

    def __init__(
        self,
        folder: Path,
        name: str,
        settings: ShardSettings,
        captured: Sequence[Captured],
        item_ids: Sequence[str],
        mean: NDArray[np.float32] | None,
    ) -> None:
        self.name = name
        self.captured = captured
        self.segment: Segment | None = None
        self.failure: str | None = None
        self.places: NDArray[np.intp] = np.zeros(0, np.intp)
        """Where the captured rows lie in the segment, in their order."""
        self._folder = folder
        self._settings = settings
        self._item_ids = list(item_ids)
        self._mean = mean
        self._delta = next((one.part.raw(one.positions) for one in captured if one.slot == DELTA), None)
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"seal {name}", daemon=True)

    @property
    def merges(self) -> bool:
        """Whether rows of a segment are built anew."""
        return any(one.slot != DELTA for one in self.captured)

    @property
    def process_id(self) -> int | None:
        """Of the building process, once there is one."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Begin, and return at once."""
        self._thread.start()

    def finished(self) -> bool:
        """Whether `segment` or `failure` is there."""
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Stop the process and leave nothing behind."""
        with self._lock:
            self._cancelled = True
            if self._process is not None:
                self._process.kill()
        self._thread.join()
        if self.segment is not None:
            self.segment = None
            remove_segment(self._folder, self.name)

    def _run(self) -> None:
        job_folder = self._folder / (JOB_PREFIX + self.name)
        try:
            self._write(job_folder)
            self._build(job_folder)
            if self.failure is None:
                self.places = np.load(job_folder / PLACES_FILE, allow_pickle=False)
                self.segment = Segment.open(self._folder, self.name, self._settings)
        except Exception as error:  # whatever it is, the shard goes on with what it has and tells it
            self.failure = f"{type(error).__name__}: {error}"
        if self.segment is None:
            remove_segment(self._folder, self.name)
        shutil.rmtree(job_folder, ignore_errors=True)

    def _write(self, job_folder: Path) -> None:
        """The job's folder, as `sealing.py` reads it."""
        job_folder.mkdir()
        np.save(job_folder / IMAGES_FILE, np.concatenate([one.images for one in self.captured]))
        sources = []
        for number, one in enumerate(self.captured):
            positions = job_folder / f"positions-{number}.npy"
            if isinstance(one.part, Segment):
                vectors = (self._folder / one.part.name).with_suffix(VECTORS_FILE)
                np.save(positions, one.positions.astype(np.int32))
            else:
                assert self._delta is not None
                vectors = job_folder / "delta.f16"
                self._delta.astype("<f2", copy=False).tofile(vectors)
                np.save(positions, np.arange(len(one.positions), dtype=np.int32))
            sources.append(Source(str(vectors.absolute()), str(positions.absolute())))
        job = Job(
            folder=str(self._folder.absolute()),
            name=self.name,
            dimension=self._settings.dimension,
            colour=self._settings.colour,
            model=self._settings.model,
            mean=None if self._mean is None else pack_mean(self._mean),
            trees=self._settings.trees,
            seed=self._settings.seed,
            nice=self._settings.nice,
            sources=tuple(sources),
            item_ids=tuple(self._item_ids[owner] for one in self.captured for owner in one.owners.tolist()),
            parent=os.getpid(),
        )
        (job_folder / JOB_FILE).write_bytes(msgspec.json.encode(job))
        self._item_ids.clear()
        self._delta = None

    def _build(self, job_folder: Path) -> None:
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGES)}
        with (job_folder / "output").open("w+b") as output:
            with self._lock:
                if self._cancelled:
                    self.failure = "sealing was cancelled"
                    return
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "indexes.sealing", str(job_folder.absolute())],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    cwd=PACKAGES,
                )
            status = self._process.wait()
            if status:
                output.seek(0)
                told = output.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
                self.failure = f"the sealing process ended with status {status}: {told[-1] if told else 'no output'}"
