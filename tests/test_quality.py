"""How good Kindred finds what looks alike, on the shared test splits: the floor, and the definition's own figures.

Takes a minute of one core: the test splits only.  `make quality` has all of it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.quality import card, colour, queries
from bench.quality.definitions import definitions, figures_of
from bench.quality.packs import TEST, Judged, Split, load_split
from bench.quality.pipeline import Catalog, Embed, compared, embedding
from models.embedder import SHIPPED, Embedder
from models.vectors import centre, pack_half, unit, unpack_half

FALL_MAX = 0.01
APART_MAX = 0.005
MOBILENET_V2 = {
    TEST[0]: {"p10": 0.553, "x_map10": 0.392, "rprec": 0.403},
    TEST[1]: {"p10": 0.745, "map10": 0.701, "rprec": 0.529},
}
"""What eval_quality.py itself gives, with Pillow and onnxruntime alone (three digits)."""


@pytest.fixture(scope="session")
def quality(shared_folder: Path) -> Any:
    return definitions(shared_folder)


@functools.cache
def judged(shared: Path, split: Split, kinds: tuple[str, ...]) -> Judged:
    return load_split(shared, split, definitions(shared), kinds)


def figures(quality: Any, pictures: Judged, embed: Embed, centred: bool) -> dict[str, float]:
    similarity, again = compared(pictures, embed, centred)
    return figures_of(quality, similarity, pictures.categories, pictures.senders, again, pictures.picked)


def test_the_card_is_of_the_model_that_ships() -> None:
    """Its id stands in the card, and a row of every mode in both tables."""
    assert f"`{Embedder().model}`" == card.part("model", card.CARD.read_text())
    for table in ("test", "val"):
        told = card.read_figures(table)
        for mode in (*card.MODES, card.DEFAULT):
            assert set(card.COLUMNS[table]) == set(told[card.SHIPPED_ROW, mode])


@pytest.mark.parametrize("split", TEST, ids=str)
def test_the_quality_floor(shared_folder: Path, quality: Any, split: Split) -> None:
    """No figure of the shipped model falls more than .01 below its card, whichever way it is compared."""
    pictures = judged(shared_folder, split, (*quality.CHANGES, quality.HARD))
    vectors = {id(files): embedding(Embedder())(files) for files in (pictures.whole, *pictures.again.values())}
    told = card.read_figures("test")
    ways = {
        mode: figures(quality, pictures, lambda files: vectors[id(files)], mode == "centred") for mode in card.MODES
    } | {card.DEFAULT: colour.by_default(quality, pictures, colour.rows_of_pack(pictures, Embedder()))}
    for mode, found in ways.items():
        expected = {
            name: value
            for (where, name), value in told[card.SHIPPED_ROW, mode].items()
            if where == split and name in found
        }
        assert {"p10", "rprec", "mrr", "mrr_hard"} < set(expected)
        assert len(expected) == 5
        assert {} == {name: found[name] for name, value in expected.items() if found[name] < value - FALL_MAX}


@pytest.mark.parametrize("split", TEST, ids=str)
def test_kindreds_own_way_gives_the_figures_of_the_definition(shared_folder: Path, quality: Any, split: Split) -> None:
    """MobileNetV2's raw figures come out of decoding, resizing, model and search within .005."""
    pictures = judged(shared_folder, split, ())
    embedder = Embedder(shared_folder / "models" / "mobilenet_v2_1.0_224.onnx")
    found = figures(quality, pictures, embedding(embedder), centred=False)
    expected = MOBILENET_V2[split]

    assert expected == pytest.approx({name: found[name] for name in expected}, abs=APART_MAX)


def test_a_changed_picture_is_judged_by_its_rank(quality: Any) -> None:
    """The original first among all is 1, second is a half; a tie counts against."""
    similarity = np.eye(12, dtype=np.float32)
    again = np.zeros((3, 12), np.float32)
    again[0, :2] = 0.9, 0.1
    again[1, :2] = 0.5, 0.4
    again[2, :4] = 0.2
    found = figures_of(quality, similarity, np.array(list("aabbccddeeff")), None, {"hard": again}, [0, 1, 2])

    assert found["mrr_hard"] == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)


@pytest.mark.parametrize("centred", [False, True])
def test_the_catalogs_similarities_are_those_of_its_vectors(centred: bool) -> None:
    """What the shard's search says of every item is the plain product, whichever way it is compared."""
    rng = np.random.default_rng(3)
    vectors, asked = (unit(rng.standard_normal((count, 24)) + 0.5) for count in (50, 7))
    stored = np.stack([unpack_half(pack_half(vector), 24) for vector in vectors])
    mean = stored.mean(axis=0)
    expected = centre(asked, mean) @ centre(stored, mean).T if centred else asked @ unit(stored).T
    with Catalog(vectors, centred) as catalog:
        found = catalog.similarities(asked)

    assert np.abs(expected - found).max() < 1e-3


def pictures_of(categories: str, senders: str | None = None) -> Judged:
    count = len(categories)
    names = [f"n{number}" for number in range(count)]
    told = None if senders is None else np.array(list(senders))
    return Judged(TEST[0], names, [b""] * count, np.array(list(categories)), told, {}, [])


@pytest.mark.parametrize("senders", [None, "xyzxyzxyzxyzxyzxyzxyzxyzxyzxyz"])
def test_single_queries_are_judged_as_their_mean_is(quality: Any, senders: str | None) -> None:
    """The mean of all queries' AP@10 is the definition's map10; with contributors, its x_map10."""
    rng = np.random.default_rng(5)
    pictures = pictures_of("aaabbbbbccccccddddeeeeeeeeeeef", senders)
    similarity = rng.random((30, 30)).astype(np.float32)
    expected = quality.label_scores(similarity, pictures.categories, pictures.senders)
    found = queries.found_by("m", pictures, similarity)

    assert float(np.nanmean(found.precision)) == pytest.approx(expected["map10"])
    assert expected["queries"] == int((~np.isnan(found.precision)).sum())


def test_the_best_and_the_worst_are_told_apart() -> None:
    """Ranked by AP@10, only categories with pictures enough; one of each category before a second."""
    pictures = pictures_of("a" * 12 + "b" * 12 + "c" * 3)
    similarity = np.random.default_rng(1).random((27, 27)).astype(np.float32) * 0.1
    similarity[:12, :12] += 1  # every a finds all others of a
    found = queries.found_by("m", pictures, similarity)
    order = queries.ranked(found)

    assert set(order[:12]) == set(range(12))
    assert set(order) == set(range(24))
    assert {"a", "b"} == {str(pictures.categories[number]) for number in queries.apart(found, order, 2)}
    name, category, precision, what = queries.in_words(found, order[:1])[0]
    assert (name[0], category, precision, what) == ("n", "a", 1.0, "10 a")


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    """What is put into a part comes out of it; other parts and text stay."""
    figures = {(card.SHIPPED_ROW, "plain"): {split: {"p10": 0.5, "mrr_hard": 0.25} for split in TEST}}
    text = "before\n<!-- test -->\nold\n<!-- /test -->\nafter\n"
    path = tmp_path / "model.md"
    path.write_text(card.with_part("test", card.markdown(card.headings("test"), card.rows("test", figures)), text))

    assert {(split, "p10"): 0.5 for split in TEST} | {(split, "mrr_hard"): 0.25 for split in TEST} == card.read_figures(
        "test", path
    )[card.SHIPPED_ROW, "plain"]
    assert path.read_text().startswith("before\n")
    assert path.read_text().endswith("\nafter\n")
    with pytest.raises(ValueError, match="expected a part between <!-- val -->"):
        card.part("val", text)


def test_the_table_of_colour_is_of_the_same_model() -> None:
    """Where colour counts nothing it tells what the table of the val splits tells."""
    lines = card.part("colour", card.CARD.read_text()).split("\n")
    heads, _, first, *_ = [line.strip("| ").split(" | ") for line in lines]
    of_weight_0 = dict(zip(heads[1:], map(float, first[1:]), strict=True))
    of_model = card.read_figures("val")[card.SHIPPED_ROW, "centred"]
    both = {f"{split.pack} {figure}": told for (split, figure), told in of_model.items()}
    both = {name: told for name, told in both.items() if name in of_weight_0}

    assert len(both) > 5
    assert both == pytest.approx({name: of_weight_0[name] for name in both}, abs=0.0015)  # two orders of additions


def test_colour_is_told_by_its_weight() -> None:
    """As the other tables: a row for each weight, figures of three digits."""
    found = {0.0: {"a map10": 0.5, "mean": 0.25}, 0.05: {"a map10": 0.1234, "mean": 1.0}}

    assert (["weight", "a map10", "mean"], [["0", ".500", ".250"], ["0.05", ".123", "1.000"]]) == colour.cells(found)


def test_the_shipped_model_lies_where_the_card_says() -> None:
    """The card's first line about files is true."""
    assert f"`models/{SHIPPED.name}`" in card.CARD.read_text()
