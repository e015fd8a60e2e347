"""A segment: an immutable Annoy file, the float16 vectors for reranking, and a sidecar that says what they are.

Annoy's file has no header and opens without complaint under any metric and dimension, so the sidecar names both, with
the checksums of the files; it is written last, so a segment without one does not exist.  Easy to get wrong:

* The trees stand on vectors centred by the mean at sealing, `Sidecar.mean`; candidates are scored by the mean of today.
* What is dead is known in memory only (`row` is -1): the checkpoint says which rows live, the files never change.
* Annoy's `add_item`, `save` and the list that `get_nns_by_vector` returns are made under the GIL.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from annoy import AnnoyIndex
from numpy.typing import NDArray

from indexes.atomic_file import checksum, publish, sync, write_whole
from indexes.delta import centred_rows
from indexes.placed_rows import PlacedRows
from indexes.shard_settings import ShardSettings
from models.errors import CorruptIndex
from models.parts import are_raw_rows, means_apart

FORMAT = 2
METRIC: Final = "angular"
TREES_FILE, VECTORS_FILE, SIDECAR_FILE = ".ann", ".f16", ".json"
LENGTH_TOLERANCE = 0.01
"""A unit vector in float16 is within 5e-4 of length 1; what is further off was not made by our embedder."""
_LENGTH_MIN = 1e-6

Index = NDArray[np.int32] | NDArray[np.intp]


class Sidecar(msgspec.Struct, frozen=True):
    """What Annoy's file does not say of itself."""

    format: int
    metric: str
    dimension: int
    colour: int
    """How many of the last numbers are colour."""
    trees: int
    seed: int
    model: str
    count: int
    mean: str | None
    """Mean that the trees' vectors are centred by: little-endian float32[D], base64.  None: not centred."""
    trees_checksum: str
    vectors_checksum: str
    item_ids: tuple[str, ...]
    """By position."""


def write_segment(
    folder: Path,
    name: str,
    vectors: NDArray[np.float16],
    item_ids: Sequence[str],
    *,
    model: str,
    mean: NDArray[np.float32] | None,
    trees: int,
    seed: int,
    colour: int = 0,
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Build the files of a segment from raw unit vectors float16[N, D]; slow, and partly under the GIL.

    `wanted` is asked before the files get their names: if not, nothing is left behind.
    """
    count, dimension = vectors.shape
    if count == 0 or count != len(item_ids):
        raise ValueError(f"expected as many item ids as vectors and at least one, got {len(item_ids)} and {count}")
    if not are_raw_rows(vectors, colour, LENGTH_TOLERANCE):
        lengths = np.linalg.norm(vectors[:, : dimension - colour].astype(np.float32), axis=1)
        raise ValueError(
            f"expected looks of length 1 at most, got lengths from {lengths.min()} to {lengths.max()}, "
            f"and {colour} numbers of colour, also of length 1 or zero"
        )
    centred = centred_rows(vectors, mean, colour)
    index = AnnoyIndex(dimension, METRIC)
    index.set_seed(seed)
    for position, vector in enumerate(centred):
        index.add_item(position, vector)
    index.build(trees, n_jobs=1)  # one job: the same input gives the same file
    base = folder / name
    trees_file, vectors_file = base.with_suffix(TREES_FILE), base.with_suffix(VECTORS_FILE)
    beside = trees_file.with_name(trees_file.name + ".tmp")
    index.save(str(beside))
    if not wanted():
        beside.unlink()
        return
    sync(beside)
    publish(beside, trees_file)
    write_whole(vectors_file, np.ascontiguousarray(vectors, "<f2").tobytes())
    sidecar = Sidecar(
        FORMAT,
        METRIC,
        dimension,
        colour,
        trees,
        seed,
        model,
        count,
        None if mean is None else base64.b64encode(mean.astype("<f4").tobytes()).decode(),
        checksum(trees_file),
        checksum(vectors_file),
        tuple(item_ids),
    )
    write_whole(base.with_suffix(SIDECAR_FILE), msgspec.json.encode(sidecar))


def remove_segment(folder: Path, name: str) -> None:
    """Delete the files of a segment, the sidecar first."""
    for suffix in (SIDECAR_FILE, TREES_FILE, VECTORS_FILE):
        (folder / name).with_suffix(suffix).unlink(missing_ok=True)


class Segment(PlacedRows):
    """An open segment; at first all of its rows are dead.  One that is dropped is so for good: a tombstone."""

    def __init__(self, name: str, sidecar: Sidecar, trees: AnnoyIndex, vectors: NDArray[np.float16], search_k: int):
        self.name = name
        self.sidecar = sidecar
        self.size = sidecar.count
        self.live = 0
        self.owner = np.zeros(self.size, np.int32)
        self.image = np.full(self.size, -1, np.int16)
        self.shown = np.zeros(self.size, np.float32)
        self.row = np.full(self.size, -1, np.int32)
        self._search_k = search_k
        self._trees = trees
        self._vectors = vectors
        self._mean: NDArray[np.float32] | None = None
        packed = sidecar.mean
        self._built_mean = None if packed is None else np.frombuffer(base64.b64decode(packed), "<f4").astype(np.float32)

    @classmethod
    def open(cls, folder: Path, name: str, settings: ShardSettings) -> Segment:
        """The segment in these files.  CorruptIndex if they are not what their sidecar says, or not of this index."""
        base = folder / name
        try:
            sidecar = msgspec.json.decode(base.with_suffix(SIDECAR_FILE).read_bytes(), type=Sidecar)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptIndex(f"segment {name}: expected a sidecar: {error}") from error
        expected = (FORMAT, METRIC, settings.dimension, settings.colour, settings.model)
        found = (sidecar.format, sidecar.metric, sidecar.dimension, sidecar.colour, sidecar.model)
        if found != expected:
            raise CorruptIndex(
                f"segment {name}: expected format, metric, dimension, colour, model {expected}, got {found}"
            )
        if not 0 < sidecar.count == len(sidecar.item_ids):
            raise CorruptIndex(f"segment {name}: {sidecar.count} vectors but {len(sidecar.item_ids)} item ids")
        files = {TREES_FILE: sidecar.trees_checksum, VECTORS_FILE: sidecar.vectors_checksum}
        for suffix, expected_checksum in files.items():
            file = base.with_suffix(suffix)
            try:
                actual = checksum(file)
            except OSError as error:
                raise CorruptIndex(f"segment {name}: {error}") from error
            if actual != expected_checksum:
                raise CorruptIndex(f"segment {name}: {file.name} has checksum {actual}, expected {expected_checksum}")
        trees = AnnoyIndex(sidecar.dimension, METRIC)
        trees.load(str(base.with_suffix(TREES_FILE)))
        if trees.get_n_items() != sidecar.count:
            raise CorruptIndex(f"segment {name}: trees of {trees.get_n_items()} items, expected {sidecar.count}")
        shape = (sidecar.count, sidecar.dimension)
        vectors = np.memmap(base.with_suffix(VECTORS_FILE), "<f2", "r", shape=shape)
        return cls(name, sidecar, trees, vectors, settings.search_k)

    @property
    def bytes(self) -> int:
        """Bytes of the vectors and about those of the trees, on disk and shared by the processes of a host."""
        return self._vectors.nbytes * 3 + self._trees.get_n_trees() * self.size * 4

    @property
    def mean_distance(self) -> float:
        """How far the mean of today is from the one that the trees stand on (Euclidean)."""
        if self._mean is None or self._built_mean is None:
            return 0.0 if self._mean is self._built_mean else 1.0
        return means_apart(self._mean, self._built_mean, self.sidecar.colour)

    def use_mean(self, mean: NDArray[np.float32] | None) -> None:
        """Score by this mean from now on."""
        same = mean is not None and self._built_mean is not None and np.array_equal(mean, self._built_mean)
        self._mean = self._built_mean if same else mean

    def fetch(self, positions: Index) -> NDArray[np.float32]:
        """float32[K, D] rows centred by the mean of today."""
        return centred_rows(self._vectors[positions], self._mean, self.sidecar.colour)

    def raw(self, positions: Index) -> NDArray[np.float16]:
        """float16[K, D] raw unit vectors."""
        return np.asarray(self._vectors[positions])

    def near(self, query: NDArray[np.float32], count: int) -> NDArray[np.intp]:
        """Positions of about the nearest `count` rows, dead ones included, to a query centred by the mean of today."""
        if self._mean is not self._built_mean:
            query = recentred(query, self._mean, self._built_mean, self.sidecar.colour)
        search_k = max(self._search_k, count * self.sidecar.trees)
        return np.array(self._trees.get_nns_by_vector(query, count, search_k=search_k), np.intp)


def recentred(
    query: NDArray[np.float32], mean: NDArray[np.float32] | None, other: NDArray[np.float32] | None, colour: int = 0
) -> NDArray[np.float32]:
    """A query float32[D] that was centred by `mean`, centred by `other` instead; its parts are as long as before."""
    turned = np.zeros_like(query)
    split = len(query) - colour
    for place in (slice(0, split), slice(split, None)):
        length = float(np.linalg.norm(query[place]))
        if length > _LENGTH_MIN:
            ours, theirs = (None if each is None else each[place] for each in (mean, other))
            turned[place] = length * _turned(query[place] / np.float32(length), ours, theirs)
    return turned


def _turned(
    query: NDArray[np.float32], mean: NDArray[np.float32] | None, other: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """A unit query float32[D] that was centred by `mean`, centred by `other` instead; None stands for zero.

    The raw vector v had length 1, so `v = s * query + mean` for the one s >= 0 that makes it so.  Exact for one seed;
    for a query of several seeds it is the vector that would have given the same query.
    """
    if mean is None:
        raw = query
    else:
        along = float(query @ mean)
        s = -along + float(np.sqrt(max(along**2 + 1 - float(mean @ mean), 0.0)))
        raw = s * query + mean
    turned = raw if other is None else raw - other
    length = float(np.linalg.norm(turned))
    return (turned / length).astype(np.float32) if length > _LENGTH_MIN else query
