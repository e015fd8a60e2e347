"""The demo's pictures: shapes, patterns, kinds; its catalogs, drawn and from folders."""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.embedder import Embedder
from models.errors import BadEvent
from models.image import decode, encode_jpeg
from models.record import parse_record
from models.vectors import centre
from streams.demo import shapes
from streams.demo.canvas import Canvas
from streams.demo.catalog import data_link, drawn_items, file_links, folder_items
from streams.demo.drawing import KINDS, draw
from streams.demo.offers import OFFERS
from streams.demo.palette import COLOURS, HARMONIES
from streams.demo.patterns import PATTERNS, WHOLE, within
from streams.demo.products import LINE_LENGTH, product
from streams.demo.revolved import Revolved
from streams.demo.scenes import SCENES, TONES
from streams.demo.style import FORMS, MATERIALS, Style

unit = st.floats(0, 1)
place = st.floats(-0.8, 0.8)
length = st.floats(0.05, 0.7)
styles = st.builds(
    Style,
    kind=st.sampled_from(tuple(KINDS)),
    form=st.tuples(*[unit] * FORMS),
    colour=st.sampled_from(tuple(COLOURS)),
    accent=st.sampled_from(tuple(COLOURS)),
    second=st.sampled_from(tuple(COLOURS)),
    pattern=st.sampled_from(("plain", *PATTERNS, *WHOLE)),
    period=st.floats(0.08, 0.4),
    material=st.sampled_from(tuple(MATERIALS)),
    scene=st.sampled_from(SCENES),
    tone=st.integers(0, len(TONES) - 1),
    seed=st.integers(0, 2**32),
)


def grid(side: int = 41) -> tuple[np.ndarray, np.ndarray]:
    at = np.linspace(-1, 1, side, dtype=np.float32)
    return at[None, :], at[::-1, None]


def winding(points: list[tuple[float, float]], x: float, y: float) -> int:
    """How often a closed line goes around a point: the sum of the angles under which its sides are seen."""
    total = 0.0
    for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
        turn = math.atan2(by - y, bx - x) - math.atan2(ay - y, ax - x)
        total += (turn + math.pi) % (2 * math.pi) - math.pi
    return round(total / (2 * math.pi))


@given(place, place, length)
def test_a_disc_is_as_far_as_its_middle_less_its_radius(x: float, y: float, radius: float) -> None:
    """The distance of a disc is exact everywhere."""
    u, v = grid()

    assert np.allclose(np.hypot(u - x, v - y) - radius, shapes.disc(x, y, radius).distance(u, v), atol=1e-5)


@given(place, place, length, length, st.floats(-3.2, 3.2))
def test_a_box_turned_is_the_box_in_turned_coordinates(x: float, y: float, w: float, h: float, angle: float) -> None:
    """A turned box has inside it just the points that lie between its sides, and lies within its bounds."""
    u, v = grid()
    shape = shapes.box(x - w, y - h, x + w, y + h).turned(angle, (x, y))
    a = (u - x) * math.cos(angle) + (v - y) * math.sin(angle)
    b = (v - y) * math.cos(angle) - (u - x) * math.sin(angle)
    margin = np.maximum(np.abs(a) - w, np.abs(b) - h)
    clear = np.abs(margin) > 1e-4
    inside = shape.distance(u, v) < 0
    left, bottom, right, top = shape.bounds

    assert np.array_equal((margin < 0)[clear], inside[clear])
    assert not (inside & ((u < left - 1e-5) | (u > right + 1e-5) | (v < bottom - 1e-5) | (v > top + 1e-5))).any()


# Two corners that float32 cannot tell apart have no direction between them, so corners lie on a fine grid.
corner = place.map(lambda at: round(at, 4))


@settings(max_examples=60)
@given(st.lists(st.tuples(corner, corner), min_size=3, max_size=7, unique=True))
def test_a_polygon_tells_inside_by_the_even_odd_rule(points: list[tuple[float, float]]) -> None:
    """A point is inside where the outline goes around it an odd number of times, and as far as the nearest side is."""
    xs, ys = np.array(points).T
    assume(abs(xs @ np.roll(ys, 1) - ys @ np.roll(xs, 1)) > 1e-3)  # a line has no inside
    u, v = grid(9)
    found = shapes.polygon(points).distance(u, v)
    ends = [*points[1:], points[0]]
    sides = [np.linspace(a, b, 400) for a, b in zip(points, ends, strict=True)]
    line = np.concatenate(sides)
    for row, y in enumerate(v[:, 0]):
        for column, x in enumerate(u[0]):
            far = float(np.hypot(line[:, 0] - x, line[:, 1] - y).min())
            if far < 1e-2:
                continue

            assert far == pytest.approx(abs(found[row, column]), abs=6e-3)
            assert (winding_parity(points, float(x), float(y)) == 1) == (found[row, column] < 0)


def winding_parity(points: list[tuple[float, float]], x: float, y: float) -> int:
    return winding(points, x, y) % 2


@given(st.lists(st.tuples(st.floats(0.05, 0.4), st.floats(0.02, 0.8)), min_size=2, max_size=7))
def test_a_profile_never_overshoots(steps: list[tuple[float, float]]) -> None:
    """Between two given heights a body is nowhere wider or narrower than at both of them."""
    heights = np.cumsum([rise for rise, _ in steps])
    profile = [(float(y), width) for y, (_, width) in zip(heights, steps, strict=True)]
    body = Revolved(profile)
    for (low, one), (high, other) in pairwise(profile):
        widths = body.width(np.linspace(low, high, 50, dtype=np.float32))

        assert widths.min() >= min(one, other) - 1e-2
        assert widths.max() <= max(one, other) + 1e-2


def test_an_edge_is_smooth() -> None:
    """The pixels that an outline crosses are covered in part: a disc's covered area is its area."""
    canvas = Canvas(64, np.random.default_rng(0))
    cover = canvas.cover(shapes.disc(0.11, -0.07, 0.5))

    assert math.pi * 0.25 == pytest.approx(float(cover.sum()) * canvas.pixel**2, rel=2e-3)
    assert np.isin(cover, (0, 1)).mean() < 1


def test_what_lies_outside_the_picture_paints_nothing() -> None:
    """A shape beyond the picture's edge, or half beyond it, is no error."""
    canvas = Canvas(32, np.random.default_rng(0))
    before = canvas.colours.copy()
    for shape in (shapes.disc(5, 0, 0.5), shapes.disc(-5, 0, 0.5), shapes.disc(0, 5, 0.5), shapes.disc(0, -5, 0.5)):
        canvas.fill(shape, (0, 0, 0))
        canvas.shadow(shape, 0.1, 1.0)

    assert np.array_equal(before, canvas.colours)
    canvas.fill(shapes.disc(1, 1, 0.5), (0, 0, 0))
    assert not np.array_equal(before, canvas.colours)


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_repeats_and_stays_within_its_colours(name: str) -> None:
    """A repeating pattern's weights are 0..1 and the same two periods on."""
    u, v = grid(64)
    for one, other in zip(PATTERNS[name](u, v, 0.05), PATTERNS[name](u + 2, v + 2, 0.05), strict=True):
        assert np.min(one) >= 0
        assert np.max(one) <= 1
        if name != "speckles":  # flecks lie at hashed places
            assert np.allclose(one, other, atol=1e-3)


def test_coverage_is_a_ramp() -> None:
    """Full inside, none outside, half on the outline."""
    assert [1.0, 0.5, 0.0] == within(np.array([-1.0, 0.0, 1.0], np.float32), 0.1).tolist()


@settings(max_examples=150)
@given(styles)
def test_every_style_can_be_drawn(style: Style) -> None:
    """Whatever the numbers, a picture comes out: pixels, not one colour, without a number gone wrong."""
    with np.errstate(invalid="raise", divide="raise", over="raise"):
        pixels = draw(style, 48)

    assert (48, 48, 3) == pixels.shape
    assert np.uint8 == pixels.dtype
    assert pixels.std() > 4


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_style_gives_the_same_bytes(kind: str) -> None:
    """A picture is a function of its style."""
    _, style, _ = product(tuple(KINDS).index(kind), 3)

    assert encode_jpeg(draw(style)) == encode_jpeg(draw(style))
    assert encode_jpeg(draw(style)) != encode_jpeg(draw(replace(style, form=tuple(1 - v for v in style.form))))


@pytest.mark.parametrize("kind", KINDS)
def test_near_styles_give_near_pictures(kind: str) -> None:
    """A small step of the form changes a picture less than another form does."""
    rng = np.random.default_rng(11)
    near, far = [], []
    for number in range(12):
        _, style, _ = product(tuple(KINDS).index(kind) + number * len(KINDS), 5)
        pixels = draw(style, 64).astype(float)
        step = tuple(float(np.clip(value + rng.normal(0, 0.02), 0, 1)) for value in style.form)
        other = tuple(float(value) for value in rng.random(FORMS))
        near.append(np.abs(draw(replace(style, form=step), 64) - pixels).mean())
        far.append(np.abs(draw(replace(style, form=other), 64) - pixels).mean())

    assert np.mean(near) < 0.6 * np.mean(far)


def test_colours_go_with_colours() -> None:
    """Every colour has its harmonies, of colours that there are and are others."""
    assert set(COLOURS) == set(HARMONIES)
    for colour, pairs in HARMONIES.items():
        assert all(accent in COLOURS and second in COLOURS and accent != colour for accent, second in pairs)


def test_offers_are_of_what_can_be_drawn() -> None:
    """Every kind is offered, of materials, prints and scenes that there are."""
    assert set(KINDS) == set(OFFERS)
    for offer in OFFERS.values():
        assert set(offer.materials) <= set(MATERIALS)
        assert set(offer.patterns) <= {"plain", *PATTERNS, *WHOLE}
        assert set(offer.scenes) <= set(SCENES)
        assert all(0 <= tone < len(TONES) for tone in offer.tones)


def test_drawn_records_are_a_shops() -> None:
    """Every drawn item has its own id and title, a record that is accepted, and a picture that can be read."""
    items = list(drawn_items(40, 1))

    assert len({item.item_id for item in items}) == len({item.record["title"] for item in items}) == 40
    for item in items:
        record = parse_record(item.item_id, item.record)
        assert record.images == (data_link(item.item_id, item.picture),)
        assert item.picture == base64.b64decode(str(item.record["image"]).partition(",")[2])
        assert (128, 128, 3) == decode(item.picture, 128).shape
        assert 0 < item.record["price"] <= item.record["list_price"]
        assert len(item.picture) < 40_000


def test_a_larger_catalog_begins_like_a_smaller_one() -> None:
    """The same seed gives the same items, whatever the count; another seed others."""
    assert list(drawn_items(15, 9, size=32)) == list(drawn_items(30, 9, size=32))[:15]
    assert list(drawn_items(15, 9, size=32)) != list(drawn_items(15, 8, size=32))


def test_titles_stay_apart_in_a_large_catalog() -> None:
    """Where names of lines come round again, ids are still different, and the collection says which it is."""
    many = [product(number, 2) for number in range(len(KINDS) * LINE_LENGTH * 32)]

    assert len(many) == len({item_id for item_id, _, _ in many})
    assert any(str(record["collection"]).endswith(" 2") for _, _, record in many)


def test_shops_have_sales_and_shortages() -> None:
    """Some items are reduced, some run low, some are sold out, and most are none of these."""
    records = [product(number, 7)[2] for number in range(600)]
    reduced = sum(record["price"] < record["list_price"] for record in records) / 600
    low = sum(0 < record["stock"] <= 5 for record in records) / 600
    out = sum(record["stock"] == 0 for record in records) / 600

    assert 0.08 < reduced < 0.18
    assert 0.02 < low < 0.12
    assert 0 < out < 0.05


def test_pictures_can_be_files(tmp_path: Path) -> None:
    """With file links every picture lies under the image root, and its record links to it relatively."""
    (tmp_path / "root").mkdir()
    for item in drawn_items(3, 1, file_links(tmp_path / "root"), size=32):
        assert item.picture == (tmp_path / "root" / str(item.record["image"])).read_bytes()


def test_what_is_drawn_alike_is_found_alike() -> None:
    """With the shipped model, nearest neighbours are of the same kind, and first of the same line."""
    items = list(drawn_items(len(KINDS) * LINE_LENGTH * 2, 7, size=128))
    embedder = Embedder()
    vectors = embedder.embed(np.stack([decode(item.picture, embedder.size) for item in items]))
    vectors = centre(vectors, vectors.mean(axis=0))
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1)
    kinds = np.array([str(item.record["category"]) for item in items])
    lines = np.array([f"{item.record['category']} {item.record['collection']}" for item in items])

    assert (kinds[order[:, :5]] == kinds[:, None]).mean() > 0.85
    assert (lines[order[:, 0]] == lines).mean() > 0.85


@pytest.fixture
def picture() -> bytes:
    return encode_jpeg(np.full((8, 8, 3), 200, np.uint8))


def test_a_folder_is_a_catalog(tmp_path: Path, picture: bytes) -> None:
    """Every picture is an item, its sub-folder its category, in the order of names; what is hidden or none is not."""
    for name in (
        "shoes/red boot.jpg",
        "shoes/b.PNG",
        "bags/a.jpeg",
        ".hidden/x.jpg",
        "shoes/.x.jpg",
        "notes.txt",
        "top.webp",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture)
    (tmp_path / "folder.jpg").mkdir()
    items = list(folder_items(tmp_path))

    assert ["bags/a.jpeg", "shoes/b.PNG", "shoes/red boot.jpg", "top.webp"] == [item.item_id for item in items]
    assert ["bags", "shoes", "shoes", None] == [item.record.get("category") for item in items]
    assert "red boot" == items[2].record["title"]
    assert "shoes/red boot.jpg" == items[2].record["image"]
    for item in items:
        assert picture == item.picture
        assert 0 < item.record["price"] == item.record["list_price"]
        assert item.record["stock"] > 5
        parse_record(item.item_id, item.record)
    assert items == list(folder_items(tmp_path))


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path, picture: bytes) -> None:
    """A link to a picture elsewhere, to a folder elsewhere, to nothing or to itself is no item; one within is."""
    shop, elsewhere = tmp_path / "shop", tmp_path / "elsewhere"
    shop.mkdir()
    elsewhere.mkdir()
    (elsewhere / "secret.jpg").write_bytes(picture)
    (shop / "mine.jpg").write_bytes(picture)
    (shop / "file.jpg").symlink_to(elsewhere / "secret.jpg")
    (shop / "folder").symlink_to(elsewhere)
    (shop / "gone.jpg").symlink_to(shop / "nothing.jpg")
    (shop / "round.jpg").symlink_to(shop / "round.jpg")
    (shop / "twin.jpg").symlink_to(shop / "mine.jpg")

    assert {"mine.jpg", "twin.jpg"} == {item.item_id for item in folder_items(shop)}


def test_a_folder_behind_a_link_is_a_folder(tmp_path: Path, picture: bytes) -> None:
    """The folder itself may be given by a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").write_bytes(picture)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert ["a.jpg"] == [item.item_id for item in folder_items(tmp_path / "link")]


def test_names_that_no_record_can_carry_are_left_out(tmp_path: Path, picture: bytes) -> None:
    """A path longer than an item id may be, and one with control characters, are no items."""
    deep = tmp_path / ("d" * 250) / ("e" * 250)
    deep.mkdir(parents=True)
    for path in (tmp_path / "line\nbreak.jpg", deep / ("f" * 40 + ".jpg"), tmp_path / "good.jpg"):
        path.write_bytes(picture)

    assert ["good.jpg"] == [item.item_id for item in folder_items(tmp_path)]
    with pytest.raises(BadEvent):
        parse_record("x" * 513, {})
