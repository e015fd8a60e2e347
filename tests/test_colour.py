"""Colour: what the numbers say of a picture, and what it counts in answers, against a plain evaluation."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexes.seeds import Seeds
from indexes.shard import EMBEDDINGS, RECORDS, Shard
from indexes.shard_settings import ShardSettings
from indexes.shortlist import units
from models.colour import NUMBERS, colours, shares, spread
from models.parts import TINT, are_raw_rows, means_apart, part_cosines, rows_of, unit_parts, weighing
from models.truth_messages import Facts, ImageEmbedding, ItemEmbedding, ItemRecord, Written, write_message
from models.vectors import centre, pack_half, unit, unpack_half
from tests.look_catalog import NOW_MS, Catalog, apply

D, C = 8, 4
"""Numbers of a look and of a colour."""
Floats = NDArray[np.float32]


# What a picture's colour is


def plain(*colour: int) -> NDArray[np.uint8]:
    return np.broadcast_to(np.array(colour, np.uint8), (1, 16, 16, 3))


def test_a_colour_is_where_a_picture_has_it_anywhere() -> None:
    """Turned, mirrored, shuffled or larger, a picture has the same colour; in another colour it has not."""
    numbers = np.random.default_rng(0)
    picture = numbers.integers(0, 256, (1, 16, 16, 3), np.uint8)
    shuffled = numbers.permutation(picture.reshape(-1, 3)).reshape(picture.shape)
    same = [picture[:, ::-1], picture.transpose(0, 2, 1, 3), shuffled, picture.repeat(2, 1).repeat(2, 2)]

    for other in same:
        assert np.allclose(colours(picture), colours(other), atol=1e-6)


@pytest.mark.parametrize("ground", [None, (255, 255, 255), (0, 0, 0), (120, 110, 90)])
def test_near_colours_are_nearer_than_far_ones(ground: tuple[int, int, int] | None) -> None:
    """Strong colours, filling the picture or in its middle: neighbours on the wheel are more alike than opposites."""
    wheel = [tuple(int(255 * part) for part in colorsys.hsv_to_rgb(turn / 12, 0.8, 0.8)) for turn in range(12)]
    pictures = [plain(*colour) if ground is None else framed(colour, ground) for colour in wheel]
    found = np.concatenate([colours(each) for each in pictures])
    similarity = found @ found.T

    turns = np.arange(12)
    near, far = (similarity[turns, (turns + by) % 12].mean() for by in (1, 6))
    assert near > far + 0.1
    assert far < 0.75


def test_a_little_light_makes_no_other_colour() -> None:
    """Of a hundred pictures that are a little brighter most are nearest to themselves, also by colour alone."""
    numbers = np.random.default_rng(0)
    pictures = np.concatenate(
        [framed(numbers.integers(0, 230, 3).tolist(), numbers.integers(0, 230, 3).tolist()) for _ in range(100)]
    )
    before, after = colours(pictures), colours((pictures * 1.08).astype(np.uint8))

    nearest = (after @ before.T).argmax(axis=1)
    assert (nearest == np.arange(100)).mean() > 0.7


def framed(colour: Sequence[int], ground: Sequence[int]) -> NDArray[np.uint8]:
    """A square of a colour in the middle of a ground, a third of the picture."""
    picture = plain(*ground).copy()
    picture[:, 3:12, 3:12] = colour
    return picture


def test_the_boxes_are_counted_as_one_would_by_hand() -> None:
    """Each pixel in the box of its red, green and blue, 32 levels wide; what is made of it has unit length."""
    pixels = np.random.default_rng(1).integers(0, 256, (3, 5, 7, 3), np.uint8)
    expected = np.zeros((3, 8, 8, 8))
    for number, picture in enumerate(pixels.tolist()):
        for red, green, blue in [pixel for row in picture for pixel in row]:
            expected[number, red // 32, green // 32, blue // 32] += 1 / 35

    assert np.allclose(expected.reshape(3, -1), shares(pixels), atol=1e-6)
    assert np.allclose(1, np.linalg.norm(spread(shares(pixels)), axis=1), atol=1e-6)
    assert np.allclose(1, np.linalg.norm(colours(pixels), axis=1), atol=1e-6)
    assert colours(pixels).shape == (3, NUMBERS)


def test_a_colour_does_not_depend_on_its_batch() -> None:
    """To the bit; and no pictures have no colours."""
    pixels = np.random.default_rng(2).integers(0, 256, (20, 8, 8, 3), np.uint8)
    alone = np.concatenate([colours(each[None]) for each in pixels])

    assert colours(pixels).tobytes() == alone.tobytes()
    assert colours(pixels[:0]).shape == (0, NUMBERS)


# Two parts in one row


def raw_rows(numbers: np.random.Generator, count: int) -> Floats:
    rows = np.hstack((unit(numbers.standard_normal((count, D))), unit(numbers.standard_normal((count, C)))))
    return rows.astype(np.float16).astype(np.float32)


@given(st.integers(0, 2**32), st.floats(0, 1), st.booleans())
@settings(max_examples=60)
def test_a_query_of_any_weight_gives_the_weighed_cosines(seed: int, weight: float, centred: bool) -> None:
    """Rows are stored once; the query alone says what colour counts."""
    numbers = np.random.default_rng(seed)
    raw = raw_rows(numbers, 6)
    mean = raw.mean(axis=0) if centred else None
    rows = rows_of(raw, mean, C)
    weights = weighing(D + C, C, weight)
    looks, tints = raw[:, :D], raw[:, D:]
    if mean is None:
        looks, tints = unit(looks), unit(tints)
    else:
        looks, tints = centre(looks, mean[:D]), centre(tints, mean[D:])

    assert weights is not None
    expected = (1 - weight) * looks @ looks.T + weight * tints @ tints.T
    assert np.allclose(expected, (rows * weights) @ rows.T, atol=2e-6)
    assert np.allclose(expected, (rows * np.sqrt(weights)) @ (rows * np.sqrt(weights)).T, atol=2e-6)
    assert np.allclose((looks[0] @ looks[1], tints[0] @ tints[1]), part_cosines(rows[0], rows[1], C), atol=1e-6)
    assert np.allclose([1, TINT], [np.linalg.norm(unit_parts(raw[0], C)[part]) for part in (slice(D), slice(D, None))])


def test_a_part_without_a_direction_adds_nothing() -> None:
    """A colour that is not told stays zero, centred or not, and leaves the look alone."""
    numbers = np.random.default_rng(3)
    raw = raw_rows(numbers, 5)
    raw[2, D:] = 0

    for mean in (None, raw.mean(axis=0)):
        rows = rows_of(raw, mean, C)
        assert not rows[2, D:].any()
        assert np.allclose(1, np.linalg.norm(rows[:, :D], axis=1), atol=1e-6)


def test_queries_are_the_same_bytes_in_any_company() -> None:
    """Also their lengths, which similarities are told by: exactly 1 where colour does not count."""
    rows = rows_of(raw_rows(np.random.default_rng(2), 9), None, C)
    weights = [(0.0, 0.3, 1.0)[number % 3] for number in range(len(rows))]
    weighings = [weighing(rows.shape[1], C, weight) for weight in weights]
    questions: Any = [
        SimpleNamespace(seeds=Seeds(row, row * weigh, (), (), True, weight, weigh))
        for row, weight, weigh in zip(rows, weights, weighings, strict=True)
    ]
    together, lengths = units(questions)
    assert lengths is not None

    for number, question in enumerate(questions):
        query, length = units([question])
        assert together[number : number + 1].tobytes() == query.tobytes()
        assert lengths[number] == (1 if length is None else length[0])
        assert (length is None) == (weights[number] == 0)


def test_rows_are_the_same_bytes_in_any_company() -> None:
    """A row depends on its own raw row alone."""
    raw = raw_rows(np.random.default_rng(4), 50)
    mean = raw.mean(axis=0)

    alone = np.concatenate([rows_of(each[None], mean, C) for each in raw])
    assert alone.tobytes() == rows_of(raw, mean, C).tobytes()


def test_what_is_no_raw_row_is_told() -> None:
    """A look of another length, a colour of another length, numbers that are not finite; no colour at all is one."""
    raw = raw_rows(np.random.default_rng(5), 3)
    assert are_raw_rows(raw, C, 0.01)
    for place, value in ((slice(D), 2.0), (slice(D, None), 0.5), (slice(0, 1), np.nan)):
        bad = raw.copy()
        bad[1, place] *= value
        assert not are_raw_rows(bad, C, 0.01)
    raw[1, D:] = 0
    assert are_raw_rows(raw, C, 0.01)
    assert not are_raw_rows(raw, 0, 0.01)


def test_how_far_means_are_apart_counts_colour_as_rows_do() -> None:
    """A mean that moved in its colour alone moved by less."""
    one = np.zeros(D + C, np.float32)
    look, tint = one.copy(), one.copy()
    look[0] = tint[-1] = 1

    assert means_apart(one, look, C) == 1
    assert means_apart(one, tint, C) == pytest.approx(TINT)


# In answers


class Coloured(Catalog):
    """A catalog whose items have a look and a colour."""

    def __init__(self, folder: Path, weight: float = 0.0, **small: Any) -> None:
        super().__init__(folder, shards=0)
        self.settings = ShardSettings(dimension=D + C, colour=C, model="m@1", colour_weight=weight, **small)
        self.folder = folder
        self.shards = [self.open(number) for number in range(2)]
        self.rule("default", enabled=False)

    def open(self, number: int) -> Shard:
        return Shard.open(
            self.folder / str(number),
            number,
            self.settings,
            cluster_id="c",
            now_ms=NOW_MS,
            retention_ms=86_400_000,
            offsets=dict.fromkeys((RECORDS, EMBEDDINGS), (0, 1)),
        )

    def paint(self, item_id: str, *images: tuple[Floats, Floats | None]) -> None:
        """Puts an item with a look and a colour an image; None: its colour is not told."""
        shard = self.shard_of(item_id)
        names = [f"{item_id}-{number}.jpg" for number in range(len(images))]
        record = ItemRecord(
            msgspec.Raw(orjson.dumps({"objectID": item_id})), Facts(), tuple(names), 1, 0, Written(1, 1)
        )
        embedded = [
            ImageEmbedding(name, vector=pack_half(look), colour=None if tint is None else pack_half(tint))
            for name, (look, tint) in zip(names, images, strict=True)
        ]
        apply(shard, RECORDS, item_id, write_message(record))
        apply(shard, EMBEDDINGS, item_id, write_message(ItemEmbedding(1, "m@1", tuple(embedded))))
        rows = [
            np.concatenate(
                (unpack_half(pack_half(look), D), np.zeros(C) if tint is None else unpack_half(pack_half(tint), C))
            )
            for look, tint in images
        ]
        self.vectors[item_id] = np.array(rows, np.float32)

    def parts(self, rows: Floats) -> tuple[Floats, Floats]:
        """Looks and colours of raw rows, each centred and of unit length."""
        mean = np.zeros(D + C, np.float32) if self.mean is None else self.mean
        return centre(rows[:, :D], mean[:D]), centre(rows[:, D:], mean[D:])

    def expected(self, seeds: list[tuple[Floats, float]], weight: float) -> dict[str, float]:
        """By item the similarity that its best image has to raw rows that are asked for with weights."""
        total_look, total_tint = np.zeros(D), np.zeros(C)
        for rows, by in seeds:
            looks, tints = self.parts(rows)
            total_look += by * unit(looks.sum(axis=0))
            total_tint += by * unit(tints.sum(axis=0))
        look, tint = unit(total_look), unit(total_tint)
        found = {}
        for item_id, rows in self.vectors.items():
            looks, tints = self.parts(rows)
            found[item_id] = float(((1 - weight) * looks @ look + weight * tints @ tint).max())
        return found


def painted(folder: Path, seed: int, **options: Any) -> Coloured:
    numbers = np.random.default_rng(seed)
    catalog = Coloured(folder, **options)
    for number in range(40):
        rows = raw_rows(numbers, 2 if number % 4 == 1 else 1)
        catalog.paint(f"i{number}", *[(row[:D], None if number == 7 else row[D:]) for row in rows])
    catalog.use_mean(np.concatenate(list(catalog.vectors.values())).mean(axis=0))
    return catalog


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Coloured:
    return painted(tmp_path_factory.mktemp("painted"), 0)


def agrees(answer: dict[str, Any], expected: dict[str, float], sources: set[str]) -> None:
    """The hits are the best of all but the sources, in their order, equal ones by id, with their scores."""
    order = sorted(expected.keys() - sources, key=lambda item_id: (-expected[item_id], item_id))
    hits = answer["hits"]
    assert [hit["objectID"] for hit in hits] == order[: len(hits)]
    scores = [hit["_score"] for hit in hits]
    assert scores == pytest.approx([100 * max(0.0, expected[item_id]) for item_id in order[: len(hits)]], abs=0.02)


@given(
    st.lists(st.integers(0, 39), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(0, 39), max_size=2, unique=True),
    st.sampled_from([0.0, 0.1, 0.35, 0.5, 0.9, 1.0]),
)
@settings(max_examples=80, deadline=None)
def test_answers_are_those_of_a_plain_evaluation(
    catalog: Coloured, wanted: list[int], unwanted: list[int], weight: float
) -> None:
    """One seed or several, with what is unlike, for any weight of colour: exact."""
    unwanted = [number for number in unwanted if number not in wanted]
    like, unlike = [f"i{number}" for number in wanted], [f"i{number}" for number in unwanted]
    seeds = [(catalog.vectors[each], 1.0) for each in like] + [(catalog.vectors[each], -0.5) for each in unlike]

    answer = catalog.one(objectIDs=like, unlike=[{"objectID": each, "weight": 0.5} for each in unlike], colour=weight)

    agrees(answer, catalog.expected(seeds, weight), {*like, *unlike})


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_an_image_is_asked_for_by_its_colour_too(catalog: Coloured, weight: float) -> None:
    """A picture that is no item's."""
    row = raw_rows(np.random.default_rng(9), 1)

    answer = catalog.one({"x": row[0]}, image="x", colour=weight)

    agrees(answer, catalog.expected([(row, 1.0)], weight), set())


def test_the_worker_says_what_colour_counts_unless_the_request_does(tmp_path: Path) -> None:
    """The setting is the default of a request and nothing else: 0 in a request is 0."""
    of_weight, without = painted(tmp_path / "a", 1, weight=0.6), painted(tmp_path / "b", 1)

    for weight in (0.6, 0.0, 0.2):
        assert of_weight.one(objectID="i3", colour=weight) == without.one(objectID="i3", colour=weight)
    assert of_weight.one(objectID="i3") == without.one(objectID="i3", colour=0.6)
    assert without.one(objectID="i3") == without.one(objectID="i3", colour=0)
    assert of_weight.one(objectID="i3") != without.one(objectID="i3")


def test_many_requests_of_different_weights_are_answered_together(catalog: Coloured) -> None:
    """A batch gives each what it would have had alone, to the byte."""
    bodies: list[dict[str, Any]] = [
        {"objectID": f"i{number}", "colour": weight} for number in range(6) for weight in (0, 0.3, 1)
    ] + [{"objectID": "i9"}]

    together = [result.body for result in catalog.ask(*bodies)]

    assert together == [catalog.ask(body)[0].body for body in bodies]


def test_an_item_of_one_colour_is_found_by_it(tmp_path: Path) -> None:
    """With 1 the look does not count, with 0 the colour does not; a hit's own picture scores 100 with any."""
    catalog = Coloured(tmp_path)
    looks, tints = np.eye(D, dtype=np.float32), np.eye(C, dtype=np.float32)
    catalog.paint("s", (looks[0], tints[0]))
    catalog.paint("look", (looks[0], tints[1]))
    catalog.paint("tint", (looks[1], tints[0]))
    catalog.paint("twin", (looks[0], tints[0]))
    catalog.paint("none", (looks[0], None))

    def scores(weight: float) -> dict[str, float]:
        return {hit["objectID"]: hit["_score"] for hit in catalog.one(objectID="s", colour=weight)["hits"]}

    assert scores(0) == {"look": 100, "twin": 100, "none": 100, "tint": 0}
    assert scores(1) == {"twin": 100, "tint": 100, "look": 0, "none": 0}
    assert scores(0.25) == {"twin": 100, "look": 75, "none": 75, "tint": 25}


def test_reasons_tell_the_parts(catalog: Coloured) -> None:
    """How alike look and colour are, each by itself, and what colour counted; with 0 the colour is told, too."""
    for weight in (0.0, 0.3, 1.0):
        answer = catalog.one(objectID="i0", colour=weight, explain=True)
        look, tint = (part[0] for part in catalog.parts(catalog.vectors["i0"]))
        for hit in answer["hits"]:
            reasons = hit["_explain"]
            image = int(hit["_matchedImage"].removesuffix(".jpg").split("-")[1])
            looks, tints = catalog.parts(catalog.vectors[hit["objectID"]])
            parts = reasons["parts"]
            assert parts["colourWeight"] == weight
            assert parts["look"] == pytest.approx(float(looks[image] @ look), abs=1e-4)
            assert parts["colour"] == pytest.approx(float(tints[image] @ tint), abs=1e-4)
            mixed = (1 - weight) * parts["look"] + weight * parts["colour"]
            assert reasons["similarity"] == pytest.approx(mixed, abs=2e-4)
            assert reasons["matched"]["similarity"] == pytest.approx(mixed, abs=2e-4)


def test_a_walk_goes_by_colour_where_colour_counts(catalog: Coloured) -> None:
    """Each hop leads to one of the five nearest by the asked weight, and the leash is measured by it."""
    for weight in (0.0, 0.5, 1.0):
        answer = catalog.one(objectID="i0", colour=weight, walk={"steps": 6, "leash": 5}, explain=True)
        at, visited = "i0", {"i0"}
        from_source = catalog.expected([(catalog.vectors["i0"], 1.0)], weight)
        assert answer["hits"]
        for hit in answer["hits"]:
            from_here = catalog.expected([(catalog.vectors[at], 1.0)], weight)
            near = sorted(
                (each for each in from_here if each not in visited and from_source[each] >= 0.0499),
                key=lambda each: -from_here[each],
            )
            assert hit["objectID"] in near[:5]
            assert hit["_score"] == pytest.approx(100 * from_source[hit["objectID"]], abs=0.02)
            at = hit["objectID"]
            visited.add(at)


def test_hits_are_spread_by_what_counts(tmp_path: Path) -> None:
    """With `diversity` two hits of one colour are alike where colour is what is asked for."""
    catalog = Coloured(tmp_path)
    looks = np.eye(D, dtype=np.float32)
    angles = {"s": 0.0, "red": 0.2, "red again": 0.21, "orange": -0.9}
    for number, (item_id, angle) in enumerate(angles.items()):
        catalog.paint(item_id, (looks[number], np.array([np.cos(angle), np.sin(angle), 0, 0], np.float32)))

    near = [hit["objectID"] for hit in catalog.one(objectID="s", colour=1)["hits"]]
    spread = [hit["objectID"] for hit in catalog.one(objectID="s", colour=1, diversity=0.7)["hits"]]

    assert near == ["red", "red again", "orange"]
    assert spread == ["red", "orange", "red again"]


def test_segments_answer_every_weight(tmp_path: Path) -> None:
    """Sealed, merged and reopened, by trees that look at everything: the answers of the plain evaluation."""
    small: dict[str, Any] = {
        "delta_rows_max": 12, "segment_rows_min": 8, "exact_rows": 0, "exact_share": 0.0, "search_k": 100_000,
        "nice": 0, "oversample": 100.0,
    }  # fmt: skip
    catalog = painted(tmp_path, 2, **small)
    for number, shard in enumerate(catalog.shards):
        while shard.sealing or shard.seal_due:
            shard.tend(NOW_MS)
        assert shard.statistics()["segments"] >= 1
        for moved in (None, np.full(D + C, 0.1, np.float32)):
            shard.use_mean(moved)
        shard.close()
        catalog.shards[number] = catalog.open(number)
        assert catalog.shards[number].statistics()["segment_rows"] >= 8
    catalog.use_mean(catalog.mean)

    for weight in (0.0, 0.3, 1.0):
        for item_id in ("i0", "i1", "i17"):
            answer = catalog.one(objectID=item_id, colour=weight)
            agrees(answer, catalog.expected([(catalog.vectors[item_id], 1.0)], weight), {item_id})
    for shard in catalog.shards:
        shard.close()


def test_a_colour_that_cannot_be_hides_the_item(tmp_path: Path) -> None:
    """Too few numbers, another length, no base64: refused with the reason, as any part of a truth is."""
    catalog = Coloured(tmp_path)
    shard, look = catalog.shards[0], pack_half(np.eye(D)[0])
    for colour, reason in (
        (pack_half(np.eye(C)[0][:-1]), "vector has 6 bytes, expected 8"),
        (pack_half(np.eye(C)[0] * 2), "a vector of length 1, got 2"),
        ("?", "not base64"),
    ):
        message = write_message(ItemEmbedding(1, "m@1", (ImageEmbedding("x", vector=look, colour=colour),)))
        (rejected,) = shard.apply(EMBEDDINGS, [("a", message)], 1, NOW_MS)
        assert reason in rejected.reason
