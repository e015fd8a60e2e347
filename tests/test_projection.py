"""Projection: wide vectors become 256 numbers, the same on every worker, after a restart and after a rebuild."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.quality.definitions import definitions, figures_of
from bench.quality.packs import Split, load_split
from bench.quality.pipeline import embedding
from indexes.item_changes import ItemChanges
from indexes.shard import EMBEDDINGS, RECORDS, Shard
from indexes.shard_settings import ShardSettings
from indexes.watches import Watches
from models.embedder import Embedder
from models.errors import BadEvent
from models.projection import PROJECTED, SAMPLE_MIN, Projection, fitted, is_wide
from models.request import RequestLimits
from models.rules import RuleBook
from models.truth_messages import (
    MEAN,
    PROJECTION,
    CatalogProjection,
    Facts,
    ImageEmbedding,
    ItemEmbedding,
    ItemRecord,
    Written,
    read_catalog_projection,
    write_message,
)
from models.vectors import centre, pack_half, unit
from models.watch import parse_watch
from streams.track.catalog_statistics import CatalogMean
from tests.look_catalog import NOW_MS

W, C = 300, 4
"""Numbers of a wide vector and of a colour."""
Floats = NDArray[np.float32]


def wide(seed: int, count: int, spread: int = 40) -> Floats:
    """float32[count, W] unit vectors, most of whose differences lie in `spread` directions."""
    numbers = np.random.default_rng(seed)
    directions = np.random.default_rng(99).standard_normal((spread, W))
    rows = 3 + numbers.standard_normal((count, spread)) @ directions + 0.3 * numbers.standard_normal((count, W))
    return unit(rows).astype(np.float16).astype(np.float32)


# The projection itself


@given(st.integers(0, 99), st.sampled_from([1, 3, 255, 256, 290, 299, 301, 700]))
@settings(max_examples=25, deadline=None)
def test_no_other_directions_keep_more(seed: int, count: int) -> None:
    """It keeps as much of the sample as the best 256 directions do, with more rows than numbers and with fewer."""
    rows = wide(seed, count)
    kept = float((fitted(rows).of(rows).astype(np.float64) ** 2).sum())
    best = float((np.linalg.svd(rows.astype(np.float64), compute_uv=False)[:PROJECTED] ** 2).sum())

    assert kept == pytest.approx(best, rel=2e-3)  # directions are rounded to float16


@pytest.mark.parametrize("count", [1, 10, 400])
def test_directions_are_at_right_angles_also_those_that_fill_up(count: int) -> None:
    """A sample of a few pictures, each many times, leaves 256 directions all the same."""
    repeated = wide(0, count)[np.arange(1_000) % count]
    basis = fitted(repeated).of(np.eye(W, dtype=np.float32))

    assert basis.shape == (W, PROJECTED)
    assert np.allclose(np.eye(PROJECTED), basis.T @ basis, atol=5e-3)


def test_what_comes_later_and_differs_otherwise_is_not_lost() -> None:
    """Fitted on ten pictures, it tells others apart about as well as directions do that know nothing."""
    few, later = wide(0, 10), wide(5, 200, spread=W)
    found = unit(fitted(few[np.arange(1_000) % 10]).of(later - later.mean(axis=0)))
    whole = unit(later - later.mean(axis=0))

    assert abs(found @ found.T - whole @ whole.T).mean() < 0.06


def test_the_same_rows_give_the_same_projection() -> None:
    """To the bit; and by its message it is the same."""
    rows = wide(1, 500)
    one, two = fitted(rows), fitted(rows.copy())

    assert one.packed() == two.packed()
    assert Projection.unpack(one.packed(), W) == one
    assert one != fitted(wide(2, 500))
    assert Projection.unpack(one.packed(), W).of(rows).tobytes() == one.of(rows).tobytes()


def test_a_projected_vector_does_not_depend_on_its_company() -> None:
    """Rounded to float16, as rows are stored, one by one and all together are the same bytes."""
    rows = wide(3, 5_000)
    projection = fitted(rows[:1_000])
    together = projection.of(rows).astype(np.float16)
    alone = np.array([projection.of(row) for row in rows]).astype(np.float16)

    assert together.tobytes() == alone.tobytes()


def test_centring_before_and_after_is_the_same() -> None:
    """The projected mean is the mean of the projected."""
    rows = wide(4, 600)
    projection, mean = fitted(rows), rows.mean(axis=0)

    before = unit(projection.of(rows - mean))
    after = centre(projection.of(rows), projection.of(mean))
    assert np.allclose(before, after, atol=1e-4)


@pytest.mark.parametrize(("width", "expected"), [(128, False), (256, False), (257, True), (1_280, True)])
def test_who_is_wide(width: int, expected: bool) -> None:
    """More than 256 numbers; others are kept as they are."""
    assert is_wide(width) is expected


def test_what_cannot_be_projected_is_told() -> None:
    """Nothing, or vectors that are not wide; and a message that is none."""
    for rows in (wide(0, 0), np.ones((3, 256), np.float32)):
        with pytest.raises(ValueError, match="more than 256 numbers and at least one"):
            fitted(rows)
    with pytest.raises(BadEvent, match="bytes"):
        Projection.unpack(fitted(wide(0, 5)).packed(), W + 1)


# In a shard

MODEL = "wide@1"


def opened(folder: Path, projection: Projection | None, small: bool = False) -> Shard:
    dimension = (W if projection is None else PROJECTED) + C
    policy: dict[str, Any] = {"delta_rows_max": 30, "segment_rows_min": 20, "nice": 0, "exact_rows": 0} if small else {}
    return Shard.open(
        folder,
        0,
        ShardSettings(dimension=dimension, colour=C, model=MODEL, **policy),
        cluster_id="c",
        now_ms=NOW_MS,
        retention_ms=86_400_000,
        offsets=dict.fromkeys((RECORDS, EMBEDDINGS), (0, 10_000)),
        projection=projection,
    )


class Log:
    """Changes of items of one or two pictures, as they stand on the truths."""

    def __init__(self, seed: int) -> None:
        self.numbers = random.Random(seed)
        self.vectors = wide(seed, 400)
        self.tints = unit(np.random.default_rng(seed).standard_normal((400, C)))
        self.told: list[tuple[str, str, bytes | None]] = []

    def go_on(self, shards: list[Shard], steps: int) -> None:
        """Apply further changes to all of the shards."""
        for _ in range(steps):
            item_id = f"i{self.numbers.randrange(60)}"
            if self.numbers.random() < 0.15:
                changes: list[tuple[str, str, bytes | None]] = [(RECORDS, item_id, None), (EMBEDDINGS, item_id, None)]
            else:
                pictures = self.numbers.sample(range(400), self.numbers.choice([1, 1, 2]))
                names = tuple(f"{picture}.jpg" for picture in pictures)
                body = msgspec.Raw(orjson.dumps({"objectID": item_id}))
                images = tuple(
                    ImageEmbedding(name, vector=pack_half(self.vectors[at]), colour=pack_half(self.tints[at]))
                    for name, at in zip(names, pictures, strict=True)
                )
                record = ItemRecord(body, Facts(), names, 1, NOW_MS, Written(1, 1))
                changes = [
                    (RECORDS, item_id, write_message(record)),
                    (EMBEDDINGS, item_id, write_message(ItemEmbedding(1, MODEL, images))),
                ]
            self.told += changes
            for shard in shards:
                take(shard, changes)

    def replayed(self, folder: Path, projection: Projection | None) -> Shard:
        """A shard that has read everything from the beginning."""
        shard = opened(folder, projection)
        take(shard, self.told)
        return shard


def take(shard: Shard, changes: list[tuple[str, str, bytes | None]]) -> None:
    for truth, item_id, value in changes:
        assert not shard.apply(truth, [(item_id, value)], shard.next_offsets.get(truth, 0) + 1, NOW_MS)


def alike(one: Shard, other: Shard) -> None:
    """The same items with the same vectors, to the byte, and the same answers."""
    ids = sorted(item_id for item_id in one.item_ids if item_id)
    assert ids == sorted(item_id for item_id in other.item_ids if item_id)
    for item_id in ids:
        assert one.vectors(item_id).tobytes() == other.vectors(item_id).tobytes()
    queries = np.concatenate(
        [one.look(ordinal).vectors for item_id in ids if (ordinal := one.ordinal(item_id)) is not None]
    )
    nothing = [None] * len(queries)
    for mine, theirs in zip(
        one.search(queries, 5, nothing, nothing), other.search(queries, 5, nothing, nothing), strict=True
    ):
        assert [one.item_ids[at] for at in mine.ordinals] == [other.item_ids[at] for at in theirs.ordinals]
        assert mine.similarity.tobytes() == theirs.similarity.tobytes()


def settled(shard: Shard) -> None:
    while shard.sealing or shard.seal_due:
        shard.tend(NOW_MS)


@pytest.mark.parametrize("seed", range(4))
def test_projecting_what_is_there_is_as_reading_it_anew(tmp_path: Path, seed: int) -> None:
    """In the middle of a shard's life, with segments and without, and then a restart: always what a rebuild has."""
    log, projection = Log(seed), fitted(wide(7, 400))
    shard = opened(tmp_path / "a", None, small=seed % 2 == 1)
    log.go_on([shard], 150)
    settled(shard)
    assert bool(shard.statistics()["segments"]) is (seed % 2 == 1)
    wide_mean = log.vectors.mean(axis=0)
    tint = log.tints.mean(axis=0)
    shard.use_mean(np.concatenate((wide_mean, tint)))

    shard.use_projection(projection)
    mean = np.concatenate((projection.of(wide_mean), tint))
    shard.use_mean(mean)
    rebuilt = log.replayed(tmp_path / "b", projection)
    rebuilt.use_mean(mean)
    alike(shard, rebuilt)

    log.go_on([shard, rebuilt], 60)
    alike(shard, rebuilt)
    shard.caught_up(NOW_MS)
    shard.close()
    again = opened(tmp_path / "a", projection, small=seed % 2 == 1)
    assert again.next_offsets == shard.next_offsets, "its checkpoint was not trusted"
    again.use_mean(mean)
    alike(again, rebuilt)
    again.close()
    rebuilt.close()


def test_a_checkpoint_of_wide_vectors_is_not_trusted_later(tmp_path: Path) -> None:
    """Who was not there when vectors were projected builds its shard anew."""
    log = Log(0)
    shard = opened(tmp_path, None)
    log.go_on([shard], 20)
    shard.caught_up(NOW_MS)
    shard.close()
    assert opened(tmp_path, None).next_offsets

    assert opened(tmp_path, fitted(wide(7, 400))).next_offsets == {}


def test_while_a_segment_is_built(tmp_path: Path) -> None:
    """The other process is stopped: what it builds is of other vectors."""
    log = Log(1)
    shard = opened(tmp_path, None, small=True)
    log.go_on([shard], 100)
    shard.tend(NOW_MS)
    assert shard.sealing

    shard.use_projection(fitted(wide(7, 400)))
    assert not shard.sealing
    assert shard.statistics()["segments"] == 0
    settled(shard)
    assert shard.statistics()["segments"] == 1
    shard.close()


def test_it_is_done_once(tmp_path: Path) -> None:
    """What was left out is gone, so there is no other projection of the same rows."""
    shard = opened(tmp_path, fitted(wide(7, 400)))
    with pytest.raises(ValueError, match="not projected yet"):
        shard.use_projection(fitted(wide(8, 400)))


def test_watched_lists_go_on_after_it(tmp_path: Path) -> None:
    """What comes between the projection and the lists' next turn touches none; then all are asked in the new width."""
    log = Log(2)
    shard = opened(tmp_path, None)
    log.go_on([shard], 80)
    item_id = next(item_id for item_id in shard.item_ids if item_id and shard.look(shard.ordinal(item_id) or 0).images)
    ticks = itertools.count(0, 3_600_000)
    watches, rules = Watches(W + C, lambda: next(ticks)), RuleBook()
    watches.put(parse_watch(item_id, b'{"maxRecommendations": 3}', RequestLimits(), "items"), {"event": "watch"})

    def ask(now_ms: int) -> bytes:
        assert watches.due(9) == [item_id]
        (asked,) = watches.ask([item_id], [shard], rules, now_ms, mean=None)
        return asked.result.body

    assert b'"hits":[{' in ask(NOW_MS)
    changes = ItemChanges([shard])
    shard.use_projection(fitted(wide(7, 400)))
    log.go_on([shard], 5)
    for truth, changed, _ in log.told[-10:]:
        changes.note(0, truth, [changed])
    watches.see(changes.take(), [shard], NOW_MS)
    watches.touch_all({"event": "mean"})

    assert b'"hits":[{' in ask(NOW_MS + 3_600_000)
    log.go_on([shard], 5)
    for truth, changed, _ in log.told[-10:]:
        changes.note(0, truth, [changed])
    watches.see(changes.take(), [shard], NOW_MS)
    shard.close()


def test_mobilenet_keeps_its_figures(shared_folder: Path) -> None:
    """A network of 1,280 numbers, projected by its own catalog's pictures: within .01 where categories count."""
    quality = definitions(shared_folder)
    judged = load_split(shared_folder, Split("clothing", "test"), quality, [])
    embedder = Embedder(shared_folder / "models" / "mobilenet_v2_1.0_224.onnx")
    vectors = embedding(embedder)(judged.whole)
    projection, mean = fitted(vectors), vectors.mean(axis=0)
    senders = judged.senders
    assert senders is not None

    def figures(rows: Floats) -> dict[str, float]:
        return figures_of(quality, rows @ rows.T, judged.categories, senders, {}, judged.picked)

    wide_figures = figures(centre(vectors, mean))
    projected = figures(centre(projection.of(vectors), projection.of(mean)))
    for name in ("p10", "x_map10", "rprec"):
        assert projected[name] > wide_figures[name] - 0.01, (name, projected[name], wide_figures[name])


# Who fits it


class Said:
    """A message of `catalog-statistics`."""

    def __init__(self, key: bytes, value: bytes | None) -> None:
        self.key, self.value, self.offset = key, value, 0


def observed(mean: CatalogMean, rows: Floats, order: list[int], model: str = MODEL) -> None:
    for number in order:
        image = ImageEmbedding("x", vector=pack_half(rows[number]))
        mean.observe(f"i{number}", ItemEmbedding(1, model, (image,)))


async def projection_of(mean: CatalogMean) -> CatalogProjection | None:
    found = [message.value for message in await mean.messages(NOW_MS) if message.key == PROJECTION]
    assert len(found) <= 1
    return read_catalog_projection(found[0]) if found and found[0] is not None else None


async def test_it_is_fitted_once_there_are_enough_vectors() -> None:
    """Not before, not again; whoever takes over and finds one fits none."""
    rows = wide(0, SAMPLE_MIN + 50)
    mean = CatalogMean("w")
    observed(mean, rows, list(range(SAMPLE_MIN - 1)))
    assert await projection_of(mean) is None
    observed(mean, rows, [SAMPLE_MIN - 1])
    said = await projection_of(mean)
    observed(mean, rows, list(range(SAMPLE_MIN, SAMPLE_MIN + 50)))

    assert said is not None
    assert (said.model, said.count, said.width, said.writer) == (MODEL, SAMPLE_MIN, W, "w")
    assert Projection.unpack(said.basis, W) == fitted(
        rows[[int(i[1:]) for i in sorted(f"i{n}" for n in range(SAMPLE_MIN))]]
    )
    assert await projection_of(mean) is None
    successor = CatalogMean("v")
    successor.read([Said(PROJECTION, write_message(said)), Said(b"future", b"{}"), Said(MEAN, b"?")])
    observed(successor, rows, list(range(SAMPLE_MIN + 50)))
    assert await projection_of(successor) is None


async def test_it_is_fitted_anew_when_its_message_is_deleted() -> None:
    """By null, as compaction leaves it: by the owner that sees it, and by one that reads both later."""
    rows = wide(0, SAMPLE_MIN)
    mean = CatalogMean("w")
    observed(mean, rows, list(range(SAMPLE_MIN)))
    said = await projection_of(mean)
    assert said is not None
    assert await projection_of(mean) is None
    mean.read([Said(PROJECTION, None)])

    assert await projection_of(mean) == said
    later = CatalogMean("w")
    later.read([Said(PROJECTION, write_message(said)), Said(PROJECTION, None)])
    observed(later, rows, list(range(SAMPLE_MIN)))
    assert await projection_of(later) == said


async def test_two_owners_with_the_same_items_fit_the_same() -> None:
    """In whatever order they read them: one that died before it could tell is no loss."""
    rows = wide(0, SAMPLE_MIN)
    order = list(range(SAMPLE_MIN))
    told = []
    for seed in range(2):
        random.Random(seed).shuffle(order)
        mean = CatalogMean("w")
        observed(mean, rows, order)
        told.append(await projection_of(mean))

    assert told[0] is not None
    assert told[0] == told[1]


async def test_a_model_that_is_not_wide_is_left_alone() -> None:
    """However many vectors there are."""
    mean = CatalogMean("w")
    observed(mean, unit(np.random.default_rng(0).standard_normal((SAMPLE_MIN + 1, 32))), list(range(SAMPLE_MIN + 1)))

    assert await projection_of(mean) is None
