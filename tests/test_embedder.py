"""The embedder: pixels become vectors, and models that do not fit are told apart in words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from models.embedder import BATCH_MAX, SHIPPED, Embedder
from models.errors import BadEvent, KindredError
from models.preprocessing import BadModel
from models.processor import adds_exactly
from models.vectors import unit

FLOAT, UINT8, INT64, HALF = 1, 2, 7, 10
PLAIN = {"size": 2, "mean": [0, 0, 0], "std": [1, 1, 1], "layout": "NCHW", "channels": "RGB", "resize": "squash"}


def field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protocol buffer: a number below 128, or a message shorter than 16 kB."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    content = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(content) & 127 | 128, len(content) >> 7]) + content


def tensor(name: str, shape: list[int | str], kind: int = FLOAT) -> bytes:
    dims = b"".join(field(1, field(1, side) if isinstance(side, int) else field(2, side)) for side in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def graph(*operators: str, shape: list[int | str] | None = None, kind: int = FLOAT, inputs: int = 1) -> bytes:
    """An ONNX model that passes its input through `operators`, one after the other (schema: onnx.proto3)."""
    names = [f"input{number}" for number in range(inputs)]
    sources, nodes = names, b""
    for number, operator in enumerate(operators):
        nodes += field(1, b"".join(field(1, name) for name in sources) + field(2, f"t{number}") + field(4, operator))
        sources = [f"t{number}"]
    values = b"".join(field(11, tensor(name, shape or ["N", 3, 2, 2], kind)) for name in names)
    body = nodes + field(2, "g") + values + field(12, field(1, sources[0]))
    return field(1, 8) + field(7, body) + field(8, field(2, 13))


def model(folder: Path, content: bytes, **changes: Any) -> Path:
    path = folder / "tiny.onnx"
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(PLAIN | changes))
    return path


def pictures(count: int, size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def as_written(path: Path, tensor: np.ndarray) -> np.ndarray:
    """The oracle: the graph's first output, operator by operator in float32, nothing fused or made faster."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: tensor})[0])


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", ["N", 4])
def test_pixels_reach_the_network_as_the_json_says(
    tmp_path: Path, channels: str, layout: str, batch: int | str
) -> None:
    """(pixel - mean) / std of each channel, in its order and layout, for free and fixed batch sizes: seen through a
    network that changes nothing."""
    shape: list[int | str] = [batch, 3, 2, 2] if layout == "NCHW" else [batch, 2, 2, 3]
    changes = {"mean": [10, 20, 30], "std": [1, 2, 4], "channels": channels, "layout": layout}
    embedder = Embedder(model(tmp_path, graph("Flatten", shape=shape), **changes))
    pixels = pictures(6, 2)
    expected = (pixels[..., ::-1] if channels == "BGR" else pixels).astype(np.float64)
    expected = (expected - [10, 20, 30]) / [1, 2, 4]
    expected = expected.transpose(0, 3, 1, 2) if layout == "NCHW" else expected

    assert embedder.dimension == 12
    assert np.allclose(unit(expected.reshape(6, 12)), embedder.embed(pixels), atol=1e-6)


def test_an_output_of_more_than_two_axes_is_a_row_each(tmp_path: Path) -> None:
    """N x 3 x 1 x 1, as pooling leaves it, is a vector of 3."""
    embedder = Embedder(model(tmp_path, graph("GlobalAveragePool")))

    assert embedder.embed(pictures(5, 2)).shape == (5, 3)


def test_the_shipped_model() -> None:
    """It needs nothing but the package: 128 numbers of unit length from 160 x 160 pixels, named by its content."""
    embedder = Embedder()
    vectors = embedder.embed(pictures(3, 160))

    assert (embedder.size, embedder.dimension) == (160, 128)
    assert re.fullmatch("kindred@[0-9a-f]{12}", embedder.model)
    assert vectors.dtype == np.float32
    assert np.allclose(1, np.linalg.norm(vectors, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"mean": [1, 0, 0]}, {"std": [1, 1, 2]}, {"channels": "BGR"}, {"std": [1, 1, 1.0001]}],
    ids=lambda change: str(change),
)
def test_a_model_whose_json_says_something_else_is_another(tmp_path: Path, change: dict[str, Any]) -> None:
    """Other numbers in the .json give other vectors of the same file, so they are another model's."""
    content = graph("GlobalAveragePool")
    embedder = Embedder(model(tmp_path, content))
    before, vectors = embedder.model, embedder.embed(pictures(4, 2))
    changed = Embedder(model(tmp_path, content, **change))

    assert changed.model.startswith("tiny@")
    assert changed.model != before
    assert not np.array_equal(vectors, changed.embed(pictures(4, 2)))


def test_other_colours_are_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours stand beside vectors: made by another recipe, the two must not be compared either."""
    path = model(tmp_path, graph("GlobalAveragePool"))
    before = Embedder(path).model
    monkeypatch.setattr("models.embedder.RECIPE", "colour 2")

    assert Embedder(path).model != before


def test_how_a_json_is_written_is_no_other_model(tmp_path: Path) -> None:
    """Neither its layout, nor its order, nor what it says in addition to the graph is part of a model's id."""
    path = model(tmp_path, graph("GlobalAveragePool"))
    before = Embedder(path).model
    shorter = {name: PLAIN[name] for name in ("channels", "std", "mean")}
    path.with_suffix(".json").write_text(json.dumps(shorter, indent=4))

    assert Embedder(path).model == before


def test_another_file_is_another_model(tmp_path: Path) -> None:
    """The name and the content of the ONNX file are in the id."""
    average, largest = (Embedder(model(tmp_path, graph(f"Global{how}Pool"))).model for how in ("Average", "Max"))
    path = model(tmp_path, graph("GlobalMaxPool"))
    for each in (path, path.with_suffix(".json")):
        each.rename(each.with_name("other" + each.suffix))

    assert average != largest
    assert Embedder(path.with_name("other.onnx")).model == "other@" + largest.split("@")[1]


def test_a_vector_does_not_depend_on_its_batch() -> None:
    """Alone, in another batch, at another place, in a batch longer than one run: the same vector."""
    embedder = Embedder()
    pixels = pictures(BATCH_MAX + 3, embedder.size)
    together = embedder.embed(pixels)
    alone = np.concatenate([embedder.embed(each[None]) for each in pixels])

    assert np.abs(together - alone).max() < 1e-6
    assert np.abs(together[::-1] - embedder.embed(pixels[::-1])).max() < 1e-6


def test_int8_products_are_not_clipped() -> None:
    """On a processor without VNNI instructions too the shipped model's vectors are those of exact arithmetic."""
    embedder = Embedder()
    y, x = np.mgrid[0 : embedder.size, 0 : embedder.size, 0:3][:2]
    pixels = np.stack([(127 + 127 * np.sin(x / wave) * np.cos(y / wave)) for wave in (3, 10, 30)]).astype(np.uint8)
    pixels[:, :64, :, 0] = 250
    told = json.loads(SHIPPED.with_suffix(".json").read_text())
    mean, std = (np.array(told[name], np.float32) for name in ("mean", "std"))
    exact = as_written(SHIPPED, ((pixels - mean) / std).transpose(0, 3, 1, 2))

    assert (embedder.embed(pixels) * unit(exact)).sum(axis=1).min() > 0.999


@pytest.mark.parametrize(
    ("cpuinfo", "exact"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_vnni\n\nprocessor\t: 1\nflags\t\t: fpu avx_vnni\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f\n", False),
        ("processor\t: 0\nflags\t\t: avx_vnni\n\nprocessor\t: 1\nflags\t\t: avx2\nvmx flags\t: avx_vnni\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
        (None, False),
    ],
)
def test_sums_are_believed_to_be_exact_where_every_core_says_so(
    tmp_path: Path, cpuinfo: str | None, exact: bool
) -> None:
    """Elsewhere onnxruntime is asked for exact sums, which costs time."""
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)

    assert adds_exactly(tmp_path / "cpuinfo") is exact


@pytest.mark.parametrize("exact", [True, False])
def test_exact_sums_are_asked_for_where_they_are_not_believed(monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    """Where they are exact anyway, asking would only cost time."""
    asked: list[tuple[str, str]] = []

    class Options(onnxruntime.SessionOptions):
        def add_session_config_entry(self, name: str, value: str) -> None:
            asked.append((name, value))
            super().add_session_config_entry(name, value)

    monkeypatch.setattr("models.embedder.adds_exactly", lambda: exact)
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)

    Embedder()

    assert asked == ([] if exact else [("session.x64quantprecision", "1")])


def test_no_picture_gives_no_vector() -> None:
    """An empty batch is answered, with the right width."""
    assert Embedder().embed(np.empty((0, 160, 160, 3), np.uint8)).shape == (0, 128)


def test_several_threads_may_embed_at_once() -> None:
    """One embedder serves all threads, and mixes nothing up."""
    embedder = Embedder()
    batches = [pictures(2, 160, seed) for seed in range(8)]
    expected = [embedder.embed(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(embedder.embed, batches))

    assert all(np.abs(one - other).max() < 1e-6 for one, other in zip(expected, found, strict=True))


def test_pictures_without_direction_are_named(tmp_path: Path) -> None:
    """The picture for which a network gives only zeros, or infinity, is a bad event; its neighbours are not."""
    nothing = np.full((1, 2, 2, 3), 100, np.uint8)
    zeros = Embedder(model(tmp_path, graph("Flatten"), mean=[100, 100, 100]))
    logarithms = Embedder(model(tmp_path, graph("Log", "Flatten")))
    good = np.full((1, 2, 2, 3), 200, np.uint8)

    with pytest.raises(BadEvent, match=r"tiny@\w{12} finds nothing in image 2 of 3"):
        zeros.embed(np.concatenate([good, nothing, good]))
    with pytest.raises(BadEvent, match="image 1 of 1"):
        logarithms.embed(np.zeros((1, 2, 2, 3), np.uint8))
    assert zeros.embed(good).shape == (1, 12)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 160, 160, 3), np.float32),
        np.zeros((160, 160, 3), np.uint8),
        np.zeros((1, 64, 64, 3), np.uint8),
        np.zeros((1, 3, 160, 160), np.uint8),
    ],
)
def test_pixels_of_another_shape_are_a_bug(wrong: np.ndarray) -> None:
    """The message says what was expected and what came."""
    with pytest.raises(ValueError, match=r"expected uint8\[B, 160, 160, 3\], got"):
        Embedder().embed(wrong)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a model", "not a model that onnxruntime can load"),
        (b"", "not a model that onnxruntime can load"),
        (graph("NoSuchOperator"), "not a model that onnxruntime can load"),
        (graph("Flatten", kind=INT64), "expected one input of tensor"),
        (graph("Add", inputs=2), "expected one input of tensor"),
        (graph("Flatten", shape=["N", 2, 2, 3]), r"says N x 3 x 2 x 2, the graph's input is \['N', 2, 2, 3\]"),
        (graph("Flatten", shape=["N", 3, 4, 4]), "says N x 3 x 2 x 2, the graph's input is"),
        (graph("Flatten", shape=["N", 12]), "says N x 3 x 2 x 2, the graph's input is"),
        (graph("ReduceSum", "ReduceSum"), "expected finite rows of 2 numbers or more|does not run on 2 x 2"),
        (graph("Shape"), "expected finite rows of 2 numbers or more|does not run on 2 x 2"),
        (graph("Identity"), "output 't0' has 3 x 2 x 2 numbers a picture: a map of features"),
        (graph("Flatten", "Shape", "Size"), "does not run on 2 x 2 pictures"),
        (graph("Neg", "Log", "Flatten"), "expected finite rows"),
    ],
)
def test_graphs_that_do_not_fit_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """Each with what was expected and what came."""
    with pytest.raises(BadModel, match=reason):
        Embedder(model(tmp_path, content))


def test_weights_in_another_file_are_refused_with_the_way_out(tmp_path: Path) -> None:
    """The id is a hash of one file, so all must be in it; the error says how to get such a file."""
    place = field(1, "location") + field(2, "weights.bin")
    weight = field(1, 2) + field(2, FLOAT) + field(8, "w") + field(13, place) + field(14, 1)  # two numbers, external
    node = field(1, "in") + field(1, "w") + field(2, "out") + field(4, "Add")
    ends = field(11, tensor("in", ["N", 3, 2, 2])) + field(12, field(1, "out"))
    body = field(1, node) + field(2, "g") + field(5, weight) + ends
    content = field(1, 8) + field(7, body) + field(8, field(2, 13))
    (tmp_path / "weights.bin").write_bytes(bytes(8))

    with pytest.raises(BadModel, match=r"tiny.onnx keeps its weights in another file, .*onnx.save\(onnx.load"):
        Embedder(model(tmp_path, content))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": "big"}, "size"),
        ({"mean": [1, 2]}, "mean"),
        ({"std": [1, 0, 1]}, "std above 0"),
        ({"std": [1, 1e-320, 1]}, "std above 0"),
        ({"layout": "CHWN"}, "layout"),
        ({"channels": "CMYK"}, "channels"),
        ({"resize": "crop"}, "resize"),
        ({"stdd": [1, 1, 1]}, "stdd"),
    ],
)
def test_preprocessing_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    """The file and the field are named."""
    with pytest.raises(BadModel, match=rf"tiny.json.*{reason}"):
        Embedder(model(tmp_path, graph("Flatten"), **changes))


def test_a_byte_order_mark_is_no_part_of_the_json(tmp_path: Path) -> None:
    """Editors on Windows begin a file with one; the model is the same."""
    path = model(tmp_path, graph("Flatten"))
    before = Embedder(path).model
    said = path.with_suffix(".json")
    said.write_bytes(b"\xef\xbb\xbf" + said.read_bytes())
    assert Embedder(path).model == before


def test_missing_files_are_told_apart(tmp_path: Path) -> None:
    """No .json beside the model, one that is none, and no model; the error is one of Kindred's."""
    path = model(tmp_path, graph("Flatten"))
    path.with_suffix(".json").unlink()
    with pytest.raises(BadModel, match=r"tiny.json is missing: it must say mean, std, channels"):
        Embedder(path)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(BadModel, match=r"tiny.json"):
        Embedder(path)
    path.unlink()
    with pytest.raises(BadModel, match=r"tiny.onnx: the model cannot be read: No such file"):
        Embedder(path)

    assert issubclass(BadModel, KindredError)


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("start/student", 128),
        ("start/student-plain", 128),
        ("mobilenet_v1_0.25_224", 256),
        ("mobilenet_v1_0.5_160", 512),
        ("mobilenet_v1_1.0_224", 1024),
        ("mobilenet_v2_1.0_224", 1280),
        ("mobilenet_edgetpu_0.75_224", 1280),
        ("squeezenet_v1.1_224", 512),
    ],
)
def test_other_models_work_as_they_come(shared_folder: Path, name: str, dimension: int) -> None:
    """Every network tried gives what its graph says for (pixel - mean) / std, in any batch."""
    path = shared_folder / "models" / f"{name}.onnx"
    embedder = Embedder(path)
    said = json.loads(path.with_suffix(".json").read_text())
    pixels = pictures(3, embedder.size)
    tensor = pixels[..., ::-1] if said["channels"] == "BGR" else pixels
    tensor = ((tensor - np.array(said["mean"], np.float32)) / np.array(said["std"], np.float32)).transpose(0, 3, 1, 2)
    exact = as_written(path, np.ascontiguousarray(tensor, np.float32))
    vectors = embedder.embed(pixels)

    assert embedder.dimension == dimension
    assert (vectors * unit(exact.reshape(3, -1))).sum(axis=1).min() > 0.999
    assert np.abs(vectors[1] - embedder.embed(pixels[1:2])[0]).max() < 1e-5


def test_nobody_is_told(tmp_path: Path) -> None:
    """Loading and running a model leaves no session and no id of the machine anywhere: telemetry is off."""
    program = (
        "from models.embedder import *; e = Embedder(SHIPPED); e.embed(np.zeros((1, e.size, e.size, 3), np.uint8))"
    )
    kept = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    places = dict.fromkeys(("TMPDIR", "HOME", "XDG_CACHE_HOME"), str(tmp_path))
    subprocess.run([sys.executable, "-c", program], env=kept | places, cwd=Path(__file__).parents[1], check=True)

    assert list(tmp_path.rglob("*")) == []
