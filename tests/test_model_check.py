"""Models of one's own: what graph and .json say together, what is asked for, what a check finds, and the pictures."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from models.embedder import SHIPPED, Embedder, read_graph
from models.errors import BadRequest
from models.image import decode, encode_jpeg, encode_png, lettering
from models.preprocessing import BadModel, Graph, Said, Tensor, Unsaid, preprocessing
from models.projection import fitted
from models.vectors import centre, unit
from streams.commands.__main__ import main
from streams.commands.model import show_check
from streams.commands.model_check import Picture, Tried, agreement, drawn_pictures, folder_pictures, look_alikes, tried
from streams.reports.contact_sheet import TONES, Badge, Card, Row, contact_sheet
from streams.reports.terminal import Terminal
from tests.test_embedder import HALF, UINT8, as_written, field, graph, model, pictures, tensor

FLOAT = "tensor(float)"
PATH = Path("net.onnx")
WHOLE = Said(size=8, mean=(1, 2, 3), std=(4, 5, 6), channels="RGB")


def of(shape: tuple[Any, ...], *outputs: str, kind: str = FLOAT) -> Graph:
    names = outputs or ("out",)
    return Graph((Tensor("in", kind, shape),), tuple(Tensor(name, FLOAT, ("n", 4)) for name in names))


# What graph and .json say together.


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (("n", 3, 8, 8), "NCHW"),
        ((1, 3, None, None), "NCHW"),
        (("n", 8, 8, 3), "NHWC"),
        (("n", "h", "w", 3), "NHWC"),
        (("n", "c", 8, 8), "NCHW"),
        (("n", 8, 8, None), "NHWC"),
    ],
)
def test_the_layout_is_the_graphs(shape: tuple[Any, ...], layout: str) -> None:
    """Three channels, or the side that may be three, are found where they stand."""
    found = preprocessing(PATH, of(shape), WHOLE)

    assert (layout, 8) == (found.layout, found.size)


@pytest.mark.parametrize("said", [Said(mean=(0, 0, 0), std=(1, 1, 1), channels="BGR"), WHOLE])
def test_the_size_is_the_graphs_unless_it_is_open(said: Said) -> None:
    """A fixed side need not be said, a fixed batch is kept."""
    found = preprocessing(PATH, of((4, 3, 8, 8)), said)

    assert (8, 4, "out", "in", "float32") == (found.size, found.batch, found.output, found.input, found.dtype)


@pytest.mark.parametrize(
    ("shape", "outputs", "said", "lacking"),
    [
        (("n", 3, 8, 8), ("out",), None, "mean, std, channels"),
        (("n", 3, 8, 8), ("out",), Said(mean=(0, 0, 0), std=(1, 1, 1)), "channels"),
        (("n", 3, "h", "w"), ("out",), Said(mean=(0, 0, 0), std=(1, 1, 1), channels="RGB"), "size"),
        (("n", None, None, None), ("out",), Said(size=8, mean=(0, 0, 0), std=(1, 1, 1), channels="RGB"), "layout"),
        (("n", 3, 3, 3), ("out",), Said(mean=(0, 0, 0), std=(1, 1, 1), channels="RGB", size=3), "layout"),
        ((), ("out",), Said(mean=(0, 0, 0), std=(1, 1, 1), channels="RGB"), "size, layout"),
        (("n", 3, 8, 8), ("classes", "pooled"), WHOLE, "output"),
        (("n", 3, None, 8), ("a", "b"), Said(), "mean, std, channels, output"),
    ],
)
def test_what_nobody_says_is_asked_for(
    shape: tuple[Any, ...], outputs: tuple[str, ...], said: Said | None, lacking: str
) -> None:
    """All that is lacking is named at once, and the example with it is one that is taken."""
    with pytest.raises(Unsaid) as asked:
        preprocessing(PATH, of(shape, *outputs), said)
    example = json.loads(asked.value.example_text)

    assert lacking == ", ".join(asked.value.lacking)
    assert asked.value.example_text in str(asked.value)
    assert ("is missing: it must say " if said is None else "does not say ") + lacking in str(asked.value)
    assert preprocessing(PATH, of(shape, *outputs), Said(**example)) is not None


@pytest.mark.parametrize(
    ("found", "said", "reason"),
    [
        (of(("n", 3, 8, 16)), WHOLE, "expected square pictures, the graph's input is"),
        (of(("n", 1, 8, 8)), WHOLE, "its .json says N x 3 x 8 x 8, the graph's input is"),
        (of(("n", 4, 8, 8)), None, "expected N x 3 x S x S, the graph's input is"),
        (of(("n", 3, 8)), WHOLE, "the graph's input is"),
        (of(("n", 3, 8, 8)), Said(size=9, layout="NCHW"), "says N x 3 x 9 x 9"),
        (of(("n", 3, 8, 8)), Said(layout="NHWC"), "says N x S x S x 3"),
        (of(("n", 3, 8, 8), kind="tensor(int64)"), WHOLE, "expected one input of tensor"),
        (of(("n", 3, 8, 8), kind="tensor(uint8)"), WHOLE, "takes bytes, so mean must be 0 and std 1"),
        (of(("n", 3, 8, 8), "a", "b"), Said(8, (0, 0, 0), (1, 1, 1), output="c", channels="RGB"), "'c' is none of"),
    ],
)
def test_what_contradicts_itself_is_refused(found: Graph, said: Said | None, reason: str) -> None:
    """With what was expected and what came."""
    with pytest.raises(BadModel, match=reason) as refused:
        preprocessing(PATH, found, said)

    assert not isinstance(refused.value, Unsaid)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_graph_that_takes_bytes_is_given_them(tmp_path: Path, layout: str) -> None:
    """No mean and no std need be said; channels are put into their order."""
    shape: list[int | str] = ["N", 3, 2, 2] if layout == "NCHW" else ["N", 2, 2, 3]
    path = tmp_path / "bytes.onnx"
    path.write_bytes(graph("Flatten", shape=shape, kind=UINT8))
    path.with_suffix(".json").write_text('{"channels": "BGR"}')
    given = pictures(5, 2)
    expected = given[..., ::-1].transpose(0, 3, 1, 2) if layout == "NCHW" else given[..., ::-1]

    assert np.allclose(unit(expected.reshape(5, 12)), Embedder(path).embed(given), atol=1e-6)


def test_a_graph_of_half_floats_is_given_halves(tmp_path: Path) -> None:
    """(pixel - mean) / std is made in whole floats and rounded once."""
    path = model(tmp_path, graph("Flatten", kind=HALF), mean=[10, 20, 30], std=[3, 7, 11])
    given = pictures(3, 2)
    expected = ((given - np.array([10, 20, 30])) / [3, 7, 11]).transpose(0, 3, 1, 2).astype(np.float16)

    assert np.allclose(unit(expected.reshape(3, 12)), Embedder(path).embed(given), atol=1e-6)


# How equal vectors are.


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"]


def of_mode(mode: str) -> Image.Image:
    """A picture of shades and colours; the transparent modes are opaque, half seen through, and not there at all."""
    y, x = np.mgrid[0:64, 0:96]
    rgb = Image.fromarray(np.stack([255 * x / 96, 255 * y / 64, 255 * (x + y < 50)], -1).astype(np.uint8))
    alpha = Image.fromarray(np.select([x < 32, x < 64], [255, 128], 0).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray((np.asarray(rgb.convert("L")).astype(np.uint16) << 8) + 77)
    if mode in ("LA", "RGBA"):
        picture = rgb.convert(mode)
        picture.putalpha(alpha)
        return picture
    if mode == "PA":
        picture = rgb.quantize(32)
        picture.info["transparency"] = 3
        return picture
    return rgb.quantize(32) if mode == "P" else rgb.convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_preprocessing_is_the_references(tmp_path: Path, mode: str) -> None:
    """For every picture mode the network's input is that of plain Pillow and NumPy, within 1e-3.

    Seen through a network that changes nothing, so up to its length.  Where pixels are seen through, the reference
    weighs them by what is there of them, shrinks that, and lets white shine through by what is not; put on white before
    they are shrunk they are the same within a grey level, by which the two are rounded apart.
    """
    size, mean, std = 36, np.array([103.0, 116, 123]), np.array([58.0, 57, 56])
    kind = "TIFF" if mode in ("CMYK", "YCbCr", "LA", "I;16") else "PNG"
    content = io.BytesIO()
    of_mode(mode).save(content, kind)
    stored: Image.Image = Image.open(content)
    if mode == "I;16":
        stored = Image.fromarray((np.asarray(stored) >> 8).astype(np.uint8))
    on_white = stored
    if seen_through := stored.has_transparency_data:
        on_white = Image.alpha_composite(Image.new("RGBA", stored.size, "white"), stored.convert("RGBA"))
    pixels = within(on_white.convert("RGB"), size)
    if seen_through:
        rgba = np.asarray(stored.convert("RGBA"), np.float64)
        there = Image.fromarray(np.rint(rgba[..., :3] * rgba[..., 3:] / 255).astype(np.uint8))
        alpha = within(Image.fromarray(rgba[..., 3].astype(np.uint8)), size)
        before, pixels = pixels, within(there, size) + 255 - alpha[..., None]
        assert np.abs(before - pixels).max() <= 1.5
    path = model(
        tmp_path, graph("Flatten", shape=["N", 3, size, size]), size=size, mean=mean.tolist(), std=std.tolist()
    )
    expected = ((pixels - mean) / std).transpose(2, 0, 1).ravel()
    found = Embedder(path).embed(decode(content.getvalue(), size)[None])[0] * np.linalg.norm(expected)

    assert seen_through == (mode in ("LA", "PA", "RGBA"))
    assert np.abs(found - expected).max() < 1e-3


def within(picture: Image.Image, size: int) -> np.ndarray:
    """float64[S, S, ...] of a picture squashed into a square."""
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR), np.float64)


@pytest.mark.parametrize("name", ["shipped", "mobilenet_v1_0.25_224"])
def test_vectors_do_not_depend_on_batch_or_threads(request: pytest.FixtureRequest, name: str) -> None:
    """In batches of 1, 4 and 9, with one thread and two, alone and beside others: equal within 1e-6.

    On one processor they have been equal to the bit; another may add in another order.
    """
    path = SHIPPED
    if name != "shipped":
        path = request.getfixturevalue("shared_folder") / "models" / f"{name}.onnx"
    one, two = Embedder(path), Embedder(path, threads=2)
    given = pictures(9, one.size)
    expected = one.embed(given)
    for embedder in (one, two):
        for batch in (1, 4, 9):
            found = np.concatenate([embedder.embed(given[start : start + batch]) for start in range(0, 9, batch)])
            assert np.abs(expected - found).max() < 1e-6
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(one.embed, [given] * 2))
    assert max(np.abs(expected - found).max() for found in beside) < 1e-6


def drawn(count: int) -> list[Picture]:
    """Pictures that differ in colour by steps, so that it is known which are nearest."""
    made = []
    for number in range(count):
        pixels = np.zeros((12, 12, 3), np.uint8)
        pixels[..., 0], pixels[..., 1] = 20 + 200 * number // count, 220 - 200 * number // count
        pixels[: 1 + number % 5] = 128
        made.append(Picture(f"kind{number % 2}/{number}.png", encode_png(pixels)))
    return made


def linear(folder: Path, name: str, noise: float = 0.0) -> Path:
    """A model of another content each: the pixels themselves, with another mean."""
    path = folder / f"{name}.onnx"
    path.write_bytes(graph("Flatten", shape=["N", 3, 4, 4]))
    said = {"size": 4, "mean": [127 + noise] * 3, "std": [64] * 3, "channels": "RGB"}
    path.with_suffix(".json").write_text(json.dumps(said))
    return path


def test_agreement_is_that_of_vectors_and_neighbours() -> None:
    """Equal models agree wholly; others by the cosines and neighbours that they share."""
    rng = np.random.default_rng(2)
    pictures = [Picture(f"{number}", b"") for number in range(30)]
    vectors = unit(rng.standard_normal((30, 8)))
    near = unit(vectors + 0.02 * rng.standard_normal((30, 8)))
    near[4] = unit(near[4] + 1.0)
    one, other = Tried("one", pictures, vectors, ()), Tried("other", pictures, near, ())
    same, apart = agreement(one, one), agreement(one, other)
    cosines = (vectors * near).sum(axis=1)

    assert same.neighbours_kept == 1
    assert same.cosine_min == pytest.approx(1.0)
    assert apart.cosine_mean == pytest.approx(float(cosines.mean()))
    assert apart.cosine_min == pytest.approx(float(cosines.min()))
    assert apart.worst == "4"
    assert 0.5 < apart.neighbours_kept < 1
    wide = Tried("wide", pictures, unit(rng.standard_normal((30, 9))), ())
    assert (agreement(one, wide).cosine_min, agreement(one, wide).pictures) == (None, 30)


def test_a_wide_model_is_judged_by_what_is_served() -> None:
    """Its vectors are projected as in the index; what is lost there is lost in neighbours and on the sheet, too."""
    rng = np.random.default_rng(3)
    pictures = [Picture(f"{number}", b"") for number in range(400)]
    vectors = unit(rng.standard_normal((400, 512)) + 0.5)
    found = Tried("wide", pictures, vectors, ())
    projected = fitted(vectors).of(vectors)
    centred = centre(projected, projected.mean(axis=0))
    expected = centred @ centred.T
    np.fill_diagonal(expected, -np.inf)

    assert found.searched.shape == (400, 256)
    assert np.array_equal(expected, found.similarities)
    report: dict[str, Any] = {
        "model": "wide",
        "dimension": 512,
        "searchedBy": 256,
        "input": {"dtype": "uint8", "layout": "NCHW", "size": 4, "channels": "RGB", "output": "o"},
        "cost": {"pictures_per_s": 1, "clock_pictures_per_s": 1, "memory_bytes": 1, "load_s": 1},
        "unusable": [],
        "companyCosine": 1.0,
        "against": None,
        "sheet": "s.png",
    }
    for count, more in ((400, False), (200, True)):
        shown = io.StringIO()
        show_check(Terminal(shown), report | {"pictures": count})
        assert f"256 of them, from 1,024 pictures on; what follows, too, fitted on these {count}" in shown.getvalue()
        assert more == ("it is seen what is lost" in shown.getvalue())


def test_int8_against_float() -> None:
    """The shipped int8 network gives the vectors and neighbours that exact arithmetic with its weights gives."""
    shop = list(drawn_pictures(30))
    embedder = Embedder()
    found = tried(embedder, shop)
    pixels = np.stack([decode(picture.content, embedder.size) for picture in shop])
    told = json.loads(SHIPPED.with_suffix(".json").read_text())
    mean, std = (np.array(told[name], np.float32) for name in ("mean", "std"))
    exact = as_written(SHIPPED, ((pixels - mean) / std).transpose(0, 3, 1, 2))
    compared = agreement(found, Tried("exact", shop, unit(exact), ()))

    assert compared.cosine_min is not None
    assert compared.cosine_min > 0.999
    assert compared.neighbours_kept > 0.95


def test_pictures_that_cannot_be_used_are_left_out_and_told(tmp_path: Path) -> None:
    """The others are compared; too few of them are a refusal that says why."""
    (tmp_path / "a").mkdir()
    for picture in drawn(6):
        path = tmp_path / "a" / picture.name.replace("/", "-")
        path.write_bytes(picture.content)
    (tmp_path / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xffnothing")
    (tmp_path / "empty").mkdir()
    embedder = Embedder(linear(tmp_path, "net"))
    found = tried(embedder, list(folder_pictures(tmp_path / "a", 100)))

    assert 6 == len(found.pictures) == len(found.vectors)
    assert ["broken.jpg"] == [name for name, _ in found.unusable]
    assert len(list(folder_pictures(tmp_path / "a", 4))) == 4
    with pytest.raises(BadRequest, match="has no pictures"):
        list(folder_pictures(tmp_path / "empty", 9))
    with pytest.raises(BadRequest, match=r"at least 3 pictures that can be used, got 2"):
        tried(embedder, drawn(2))


# The command.


def check(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["model", "check", *map(str, arguments)])


def test_check_tells_what_it_finds(tmp_path: Path) -> None:
    """Dimension, input, speed, memory, agreement, and a sheet that is a picture; as JSON the same."""
    for picture in drawn(12):
        path = tmp_path / "shop" / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.content)
    one, other = linear(tmp_path, "one"), linear(tmp_path, "other", noise=9)
    sheet = tmp_path / "sheet.png"
    told = check(one, "--images", tmp_path / "shop", "--against", other, "--sheet", sheet, "--json")
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)

    assert (48, 12, []) == (report["dimension"], report["pictures"], report["unusable"])
    assert (4, "NCHW", "float32") == tuple(report["input"][name] for name in ("size", "layout", "dtype"))
    assert report["cost"]["pictures_per_s"] > 0
    assert report["cost"]["memory_bytes"] > 0
    assert 0 < report["against"]["cosine_min"] < 1
    assert Image.open(sheet).size[0] > 500
    shown = io.StringIO()
    show_check(Terminal(shown), report)
    assert "48 numbers a picture, from 't0'" in shown.getvalue()
    assert "(pixel - 127) / 64" in shown.getvalue()
    assert "of the 10 nearest are the same; cosine of a picture's two vectors" in shown.getvalue()


def test_a_sheet_that_cannot_be_drawn_costs_no_findings(tmp_path: Path) -> None:
    """All is told that was found out, then the error."""
    for picture in drawn(12):
        path = tmp_path / "shop" / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.content)
    sheet = tmp_path / "no folder" / "sheet.png"
    told = check(linear(tmp_path, "one"), "--images", tmp_path / "shop", "--sheet", sheet, "--json")

    assert (1, f"error: {sheet} cannot be written: No such file or directory") == (
        told.exit_code,
        told.stderr.splitlines()[-1],
    )
    assert (12, None) == tuple(json.loads(told.stdout)[name] for name in ("pictures", "sheet"))


def test_check_asks_for_what_is_not_said(tmp_path: Path) -> None:
    """Names, meanings, an example that is taken as it stands, and exit code 1."""
    path = linear(tmp_path, "net")
    path.with_suffix(".json").unlink()
    asked = check(path)
    example = next(line for line in asked.stdout.splitlines() if line.startswith("{"))
    path.with_suffix(".json").write_text(example)

    assert asked.exit_code == 1
    assert all(f"{name}\t" in asked.stdout for name in ("mean", "std", "channels"))
    assert "input0: float N x 3 x 4 x 4" in asked.stdout
    assert Embedder(path).size == 4


def test_check_asks_scripts_in_json(tmp_path: Path) -> None:
    """What is lacking and the example, as one object and nothing else."""
    path = linear(tmp_path, "net")
    path.with_suffix(".json").write_text('{"mean": [1, 2, 3], "std": [4, 5, 6]}')
    asked = check(path, "--json")
    told = json.loads(asked.stdout)

    assert (1, str(path.with_suffix(".json")), ["channels"]) == (asked.exit_code, told["json"], told["lacking"])
    assert ([1, 2, 3], "RGB") == (told["example"]["mean"], told["example"]["channels"])


def of_its_company() -> bytes:
    """An ONNX model that adds to each picture the mean of its run, as batch norm in training mode does."""
    axes = field(5, field(1, "axes") + field(8, 0) + bytes([0xA0, 0x01, 7]))  # a list of integers
    mean = field(1, "in") + field(2, "mean") + field(4, "ReduceMean") + axes
    both = field(1, "in") + field(1, "mean") + field(2, "both") + field(4, "Add")
    rows = field(1, "both") + field(2, "out") + field(4, "Flatten")
    body = b"".join(field(1, node) for node in (mean, both, rows)) + field(2, "g")
    body += field(11, tensor("in", ["N", 3, 2, 2])) + field(12, field(1, "out"))
    return field(1, 8) + field(7, body) + field(8, field(2, 13))


def test_what_is_most_likely_not_meant_is_told(tmp_path: Path) -> None:
    """Mean and std of pixels of 0..1, and a network whose vector of a picture depends on the others of its run."""
    (tmp_path / "shop").mkdir()
    for number, picture in enumerate(drawn(12)):
        (tmp_path / "shop" / f"{number}.png").write_bytes(picture.content)
    path = linear(tmp_path, "right")
    options = ("--images", tmp_path / "shop", "--sheet", tmp_path / "s.png")
    right = check(path, *options)
    torch = model(tmp_path, graph("Flatten"), mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25])
    wrong = check(torch, *options)
    torch.write_bytes(of_its_company())
    together = check(torch, *options, "--json")

    assert right.exit_code == wrong.exit_code == together.exit_code == 0, together.output
    assert "std is below 1: mean and std are in units of 0..255" in wrong.stderr
    assert json.loads(together.stdout)["companyCosine"] < 0.99
    report = json.loads(together.stdout) | {"input": json.loads(together.stdout)["input"] | {"std": [1, 1, 1]}}
    error = io.StringIO()
    show_check(Terminal(io.StringIO(), error), report)
    assert "a picture's vector depends on what is embedded with it (cosine 0." in error.getvalue()
    assert not any(word in right.stderr for word in ("below 1", "depends on"))


@pytest.mark.parametrize("content", [b"no model", graph("Identity")])
def test_check_refuses_what_is_no_model_for_pictures(tmp_path: Path, content: bytes) -> None:
    """One line of error and exit code 1."""
    told = check(model(tmp_path, content))

    assert told.exit_code == 1
    assert told.stderr.startswith("error: ")


def test_the_graph_is_read_without_its_json(tmp_path: Path) -> None:
    """Inputs and outputs with names, types and shapes."""
    path = linear(tmp_path, "net")
    path.with_suffix(".json").unlink()

    assert ("input0", FLOAT, ("N", 3, 4, 4)) == tuple(read_graph(path).inputs[0])


# The pictures.


def test_a_sheet_has_a_row_for_each_query_and_goes_on_below() -> None:
    """Every picture is where its card is, in its frame's colour; more hits than columns go on in the next line."""
    red = Card(np.full((20, 10, 3), (200, 0, 0), np.uint8), "red", "a", (Badge("9.1", "note"),), tone="query")
    blue = Card(
        np.full((300, 300, 3), (0, 0, 200), np.uint8), "blue", "b", flags=(Badge("on sale", "sale"),), tone="good"
    )
    none = Card(None, "none")
    short, long = contact_sheet("t", "s", [Row([red], [blue] * 3)]), contact_sheet("t", "s", [Row([red], [blue] * 9)])
    tall = contact_sheet("t", "s", [Row([red], [blue] * 3), Row([red, none], [none])])

    def count(page: np.ndarray, colour: tuple[int, int, int]) -> int:
        return int((page == colour).all(axis=-1).sum())

    assert count(long, (0, 0, 200)) == pytest.approx(3 * count(short, (0, 0, 200)), rel=0.01)
    assert count(tall, (200, 0, 0)) == pytest.approx(2 * count(short, (200, 0, 0)), rel=0.01)
    assert short.shape[0] < long.shape[0] < tall.shape[0]
    assert all(count(short, TONES[tone]) > 50 for tone in ("query", "good", "note", "sale"))
    assert contact_sheet("", "", []).ndim == 3
    assert contact_sheet("t", "", [Row([none], [])]).shape[2] == 3


def test_look_alikes_shows_the_nearest_first(tmp_path: Path) -> None:
    """Some of the pictures with their nearest; few pictures give few hits."""
    found = tried(Embedder(linear(tmp_path, "net")), drawn(4))
    page = look_alikes(found)

    assert page.dtype == np.uint8
    assert np.array_equal(page, look_alikes(found))
    assert len(encode_jpeg(page)) > 1000


@pytest.mark.parametrize("text", ["", " ", "Größe 中 \x1b[31m‮x", "x" * 5000, "\n\t"])
def test_letters_are_drawn_whatever_the_text(text: str) -> None:
    """A line of the font's height; nothing that a stranger writes changes that, or is too long for a card."""
    height = lettering("Ag", 15).shape[0]

    assert lettering(text, 15).shape[0] == height
    assert contact_sheet(text, text, [Row([Card(None, text, text, (Badge(text, "note"),))], [])]).shape[2] == 3


def test_accents_are_left_out_and_other_scripts_are_marks() -> None:
    """What Pillow's font lacks does not come out as empty boxes."""
    assert np.array_equal(lettering("Muller", 15), lettering("Müller", 15))
    assert np.array_equal(lettering("??", 15), lettering("中国", 15))
