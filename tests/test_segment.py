"""A segment's files: what they say, what opens them, what refuses them; and the process that builds them."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from msgspec.structs import replace

from indexes import sealing
from indexes.atomic_file import checksum
from indexes.delta import Delta, centred_rows
from indexes.half import floats_of
from indexes.sealing import Job, Source
from indexes.segment import Segment, Sidecar, recentred, write_segment
from models.errors import CorruptIndex
from models.vectors import centre, pack_mean, unit
from tests.shard_oracle import DIMENSION, MODEL, SMALL, unit_vectors

COUNT = 300


@pytest.fixture
def vectors() -> Any:
    return unit_vectors(np.random.default_rng(3), COUNT).astype(np.float16)


@pytest.fixture
def mean(vectors: Any) -> Any:
    return vectors.astype(np.float32).mean(axis=0)


@pytest.fixture
def segment(tmp_path: Path, vectors: Any, mean: Any) -> Segment:
    write(tmp_path, vectors, mean)
    return Segment.open(tmp_path, "segment-1", SMALL)


def write(folder: Path, vectors: Any, mean: Any, **changes: Any) -> None:
    ids = [f"i{number}" for number in range(len(vectors))]
    write_segment(folder, "segment-1", vectors, ids, **{"model": MODEL, "mean": mean, "trees": 4, "seed": 1} | changes)


def test_the_sidecar_says_what_annoy_does_not(tmp_path: Path, segment: Segment) -> None:
    """Metric, dimension, trees, seed, item ids, model, mean, count, checksums."""
    sidecar = msgspec.json.decode((tmp_path / "segment-1.json").read_bytes(), type=Sidecar)

    assert ("angular", DIMENSION, 4, 1, MODEL, COUNT) == (
        sidecar.metric,
        sidecar.dimension,
        sidecar.trees,
        sidecar.seed,
        sidecar.model,
        sidecar.count,
    )
    assert [f"i{number}" for number in range(COUNT)] == list(sidecar.item_ids)
    assert checksum(tmp_path / "segment-1.ann") == sidecar.trees_checksum
    assert checksum(tmp_path / "segment-1.f16") == sidecar.vectors_checksum
    assert segment.bytes > COUNT * DIMENSION * 2
    assert ["segment-1.ann", "segment-1.f16", "segment-1.json"] == sorted(path.name for path in tmp_path.iterdir())


def test_the_same_rows_give_the_same_files(tmp_path: Path, vectors: Any, mean: Any) -> None:
    """One seed, one job: two builds are equal byte by byte."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a", vectors, mean)
    write(tmp_path / "b", vectors, mean)

    assert checksum(tmp_path / "a/segment-1.ann") == checksum(tmp_path / "b/segment-1.ann")


def test_it_finds_the_nearest_under_another_mean(segment: Segment, vectors: Any) -> None:
    """Queries centred by the mean of today are turned into the space of the trees; scores are of today."""
    other = np.full(DIMENSION, 0.2, np.float32)
    for mean in (None, other, segment._built_mean):
        segment.use_mean(mean)
        rows = centred_rows(vectors, mean)
        assert segment.fetch(np.arange(COUNT)).tobytes() == rows.tobytes()
        for number in (0, 17, 200):
            assert segment.near(rows[number], 3)[0] == number
    assert segment.raw(np.array([5])).tobytes() == vectors[5].tobytes()


def test_the_distance_of_means_asks_for_a_new_build(tmp_path: Path, segment: Segment, vectors: Any) -> None:
    """Equal means: 0; a mean where there was none, or none where there was one: as far as can be."""
    segment.use_mean(segment._built_mean)
    assert segment.mean_distance == 0.0
    segment.use_mean(None)
    assert segment.mean_distance == 1.0
    write(tmp_path, vectors, None)
    bare = Segment.open(tmp_path, "segment-1", SMALL)
    assert bare.mean_distance == 0.0
    bare.use_mean(np.zeros(DIMENSION, np.float32))
    assert bare.mean_distance == 1.0
    assert bare.near(unit(vectors[3].astype(np.float32)), 1).tolist() == [3]


@given(
    arrays.arrays(np.float64, (3, 6), elements=st.floats(-1, 1)),
    st.booleans(),
    st.booleans(),
)
def test_recentring_is_exact_for_one_seed(numbers: Any, with_mean: bool, with_other: bool) -> None:
    """A unit vector centred by one mean and turned to another is the vector centred by the other."""
    vector = unit(numbers[0])
    if not vector.any():
        return
    means = [
        (row * 0.4 / max(1.0, float(np.linalg.norm(row)))).astype(np.float32) if wanted else None
        for row, wanted in zip(numbers[1:], (with_mean, with_other), strict=True)
    ]
    one, two = (vector if mean is None else centre(vector[None], mean)[0] for mean in means)

    np.testing.assert_allclose(recentred(one, means[0], means[1]), two, atol=2e-5)


def test_recentring_what_is_the_mean_itself_gives_the_query_back() -> None:
    """A direction that is lost cannot be turned."""
    query = np.array([1, 0], np.float32)

    assert recentred(query, None, query).tolist() == query.tolist()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("suffix", [".json", ".ann", ".f16"])
@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_file_is_refused(tmp_path: Path, segment: Segment, suffix: str, damage: Any) -> None:
    """A flipped bit, a cut end, an empty or missing file: CorruptIndex, never wrong neighbours."""
    file = tmp_path / f"segment-1{suffix}"
    if suffix == ".json" and damage is _flip:
        file.write_bytes(file.read_bytes().replace(b'"count":300', b'"count":301'))
    else:
        damage(file)

    with pytest.raises(CorruptIndex, match="segment-1"):
        Segment.open(tmp_path, "segment-1", SMALL)


@pytest.mark.parametrize(
    ("name", "value"),
    [("dimension", 8), ("colour", 1), ("metric", "dot"), ("format", 99), ("model", "other"), ("count", 0)],
)
def test_another_index_is_refused(tmp_path: Path, segment: Segment, name: str, value: Any) -> None:
    """Files of another format, metric, dimension or model do not open, though Annoy would open them."""
    file = tmp_path / "segment-1.json"
    file.write_bytes(msgspec.json.encode(msgspec.json.decode(file.read_bytes()) | {name: value}))

    with pytest.raises(CorruptIndex, match="segment-1"):
        Segment.open(tmp_path, "segment-1", SMALL)


def test_trees_of_another_number_of_items_are_refused(tmp_path: Path, vectors: Any, mean: Any) -> None:
    """Checksums that fit are not enough: the count must fit too."""
    write(tmp_path, vectors[:200], mean)
    trees = (tmp_path / "segment-1.ann").read_bytes()
    write(tmp_path, vectors, mean)
    (tmp_path / "segment-1.ann").write_bytes(trees)
    file = tmp_path / "segment-1.json"
    told = msgspec.json.decode(file.read_bytes()) | {"trees_checksum": checksum(tmp_path / "segment-1.ann")}
    file.write_bytes(msgspec.json.encode(told))

    with pytest.raises(CorruptIndex, match="200 items, expected 300"):
        Segment.open(tmp_path, "segment-1", SMALL)


def test_what_cannot_be_a_segment_is_not_written(tmp_path: Path, vectors: Any) -> None:
    """No rows, other ids than rows, numbers that are not finite: an error, and no files."""
    kept: dict[str, Any] = {"model": MODEL, "mean": None, "trees": 1, "seed": 1}
    with pytest.raises(ValueError, match="at least one, got 0 and 0"):
        write_segment(tmp_path, "s", vectors[:0], [], **kept)
    with pytest.raises(ValueError, match="got 1 and 300"):
        write_segment(tmp_path, "s", vectors, ["a"], **kept)
    with pytest.raises(ValueError, match="length 1 at most, got lengths from nan"):
        write_segment(tmp_path, "s", np.full((1, DIMENSION), np.nan, np.float16), ["a"], **kept)
    with pytest.raises(ValueError, match="length 1 at most, got lengths from"):
        write_segment(tmp_path, "s", vectors * np.float16(1.1), ["a"] * COUNT, **kept)
    write(tmp_path, vectors, None, wanted=lambda: False)

    assert not list(tmp_path.iterdir())


def test_a_job_gathers_its_sources(tmp_path: Path, vectors: Any, mean: Any) -> None:
    """Rows of several files become one segment, by item and image; a job nobody waits for leaves nothing."""
    folder = tmp_path / "job-segment-1"
    folder.mkdir()
    sources = []
    for number, positions in enumerate(([5, 3], [0])):
        vectors.tofile(folder / f"{number}.f16")
        np.save(folder / f"{number}.npy", np.array(positions, np.int32))
        sources.append(Source(str(folder / f"{number}.f16"), str(folder / f"{number}.npy")))
    np.save(folder / sealing.IMAGES_FILE, np.array([0, 1, 0], np.int16))
    job = Job(
        folder=str(tmp_path),
        name="segment-1",
        dimension=DIMENSION,
        colour=0,
        model=MODEL,
        mean=pack_mean(mean),
        trees=2,
        seed=1,
        nice=0,
        sources=tuple(sources),
        item_ids=("c", "a", "a"),
        parent=1 << 30,
    )
    (folder / sealing.JOB_FILE).write_bytes(msgspec.json.encode(job))
    sealing.main(folder)
    assert not list(tmp_path.glob("segment-*"))
    (folder / sealing.JOB_FILE).write_bytes(msgspec.json.encode(replace(job, parent=os.getpid())))
    sealing.main(folder)
    segment = Segment.open(tmp_path, "segment-1", SMALL)

    assert ("a", "a", "c") == segment.sidecar.item_ids
    assert segment.raw(np.arange(3)).tobytes() == vectors[[0, 3, 5]].tobytes()
    assert [2, 1, 0] == np.load(folder / sealing.PLACES_FILE).tolist()
    assert segment.sidecar.mean == base64.b64encode(mean.astype("<f4").tobytes()).decode()


def test_every_finite_half_becomes_its_float() -> None:
    """All 63,488 finite float16 numbers, to the bit."""
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]

    assert floats_of(finite).tobytes() == finite.astype(np.float32).tobytes()
    assert floats_of(finite.reshape(2, -1)[:, ::3]).tobytes() == finite.reshape(2, -1)[:, ::3].astype("f4").tobytes()


@pytest.mark.parametrize("dimension", [1, 7, 16, 128, 200])
def test_a_row_is_centred_the_same_alone_and_among_others(dimension: int) -> None:
    """The bytes of a centred row do not depend on how many are centred with it: two layouts could not agree else."""
    rng = np.random.default_rng(0)
    raw = unit_vectors(rng, 50, dimension).astype(np.float16)
    for mean in (None, raw.astype(np.float32).mean(axis=0)):
        together = centred_rows(raw, mean)
        alone = np.concatenate([centred_rows(raw[number : number + 1], mean) for number in range(50)])

        assert together.tobytes() == alone.tobytes()


def test_a_delta_moves_up_and_keeps_what_stays() -> None:
    """After many rows went, the rest lie together, with their vectors, owners and images; new ones follow."""
    delta = Delta(DIMENSION)
    raw = unit_vectors(np.random.default_rng(0), 3000).astype(np.float16)
    for row in range(2000):
        delta.show(delta.append(raw[row], row, row % 50), row % 50, row % 3 - 1)
    delta.drop(7)
    delta.settle()
    delta.drop_many(np.array([position for position in range(2000) if position % 10 and position != 7]))

    assert list(range(0, 2000, 10)) == delta.row[: delta.size].tolist()
    assert raw[::10][:200].tobytes() == delta.raw(np.arange(200)).tobytes()
    assert [row % 50 for row in range(0, 2000, 10)] == delta.owner[:200].tolist()
    assert [float(row % 3 - 1 >= 0) for row in range(0, 2000, 10)] == delta.shown[:200].tolist()
    delta.append(raw[2999], 9, 0)
    delta.settle()
    assert delta.fetch(np.array([200])).tobytes() == centred_rows(raw[2999:], None).tobytes()
    assert (201, 201, 208) == (delta.size, delta.live, delta.width)


def test_columns_of_a_delta_are_its_rows() -> None:
    """Whatever became of them: appended, grown, another mean, moved up, appended many."""
    delta = Delta(DIMENSION)
    raw = unit_vectors(np.random.default_rng(0), 3000).astype(np.float16)

    def check() -> None:
        delta.settle()
        assert delta.across[:, : delta.size].T.tobytes() == delta.fetch(np.arange(delta.size)).tobytes()

    for row in range(1500):
        delta.append(raw[row], row, row)
        if row % 500 == 499:
            check()
    delta.use_mean(raw.astype(np.float32).mean(axis=0))
    check()
    delta.drop_many(np.arange(0, 1500, 2))
    check()
    rows = np.arange(1500, 3000, dtype=np.int32)
    delta.append_many(raw[1500:], rows, rows, np.zeros(1500, np.int16))
    check()
    assert not delta.across[:, delta.size :].any()
