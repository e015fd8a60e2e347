"""How pixels go into a network: what its graph says, and what `NAME.json` beside it must say in addition.

A graph tells its input's layout, size and type, unless it leaves them open.  It never tells which numbers its pixels
were trained with, nor which channel comes first: a wrong guess costs quality that nobody sees.  So nothing is guessed;
what both leave open is asked for, with an example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from models.errors import KindredError

Row = tuple[float, float, float]
Side = int | str | None
"""Of a tensor: a fixed length, or a name or nothing where any length will do."""
Layout = Literal["NCHW", "NHWC"]

INPUT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
"""What a network may take, in onnxruntime's words and NumPy's."""
SIZE_MAX = 4096
STD_MIN = 1e-6
"""Below it pixels divided by it are no numbers of float32 or float16 any more."""

MEANINGS = {
    "size": "side of the square pictures that it was trained on, in pixels; the graph takes any",
    "layout": "NCHW if the three channels come before rows and columns, NHWC if after",
    "mean": "what was subtracted from each channel in training, in units of 0..255; 0 if nothing was",
    "std": "what it was then divided by, in units of 0..255; 1 if by nothing, 255 if pixels were 0..1",
    "channels": "RGB, or BGR for networks from Caffe and OpenCV",
    "output": "name of the output that is the embedding: the layer before the classes, pooled to one row a picture",
}
"""Of what the .json may have to say."""
LIKELY: dict[str, Any] = {
    "size": 224,
    "layout": "NCHW",
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "channels": "RGB",
}
"""For the example alone: what most networks trained with PyTorch on ImageNet take."""


class BadModel(KindredError):
    """A model that cannot be used: files missing, unreadable, or not fitting each other.  For whoever configured it."""


class Unsaid(BadModel):
    """A model whose .json does not say all that its graph leaves open.

    lacking: names of what it must say.  example: a .json that says it, with likely values in their places.
    """

    def __init__(self, path: Path, lacking: Sequence[str], example: Mapping[str, Any], missing: bool) -> None:
        self.path, self.lacking, self.example = path, tuple(lacking), dict(example)
        state = "is missing: it must say" if missing else "does not say"
        super().__init__(f"{path} {state} {', '.join(lacking)} of the model beside it, for example {self.example_text}")

    @property
    def example_text(self) -> str:
        """The example as the file would have it."""
        return msgspec.json.format(msgspec.json.encode(self.example), indent=0).decode()


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `NAME.json` says."""

    size: int | None = None
    mean: Row | None = None
    std: Row | None = None
    layout: Layout | None = None
    channels: Literal["RGB", "BGR"] | None = None
    resize: Literal["squash"] = "squash"
    output: str | None = None

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= SIZE_MAX:
            raise ValueError(f"size is {self.size}, expected 1..{SIZE_MAX}")
        if self.mean is not None and not np.isfinite(self.mean).all():
            raise ValueError(f"mean {self.mean} must be finite")
        if self.std is not None and not (np.isfinite(self.std).all() and min(self.std) >= STD_MIN):
            raise ValueError(f"std {self.std} must be finite, std above 0: at least {STD_MIN}")


class Tensor(NamedTuple):
    """An input or output of a graph."""

    name: str
    type: str
    """In onnxruntime's words, as `tensor(float)`."""
    shape: tuple[Side, ...]

    def __str__(self) -> str:
        sides = " x ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name}: {self.type.removeprefix('tensor(').removesuffix(')')} {sides or 'of no known shape'}"


class Graph(NamedTuple):
    """What goes into a network and what comes out."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Preprocessing(NamedTuple):
    """All that is needed to make a network's input of pixels."""

    input: str
    output: str
    dtype: str
    """`float32`, `float16`, or `uint8` for a graph that takes the pixels as they are."""
    size: int
    layout: Layout
    channels: Literal["RGB", "BGR"]
    mean: Row
    std: Row
    batch: int | None
    """Pictures of a run where the graph fixes their number."""


def preprocessing(path: Path, graph: Graph, said: Said | None) -> Preprocessing:
    """What graph and .json say together of the model at `path`; `said` None: there is no .json.

    Raises BadModel where they contradict each other, Unsaid where they leave something open.
    """
    taken = _image_input(path, graph)
    json = path.with_suffix(".json")
    missing, said = said is None, said or Said()
    layouts = _layouts(taken.shape)
    if not layouts or (said.layout is not None and said.layout not in layouts):
        raise BadModel(_unfitting(path, taken, said))
    layout = said.layout or (layouts[0] if len(layouts) == 1 else None)
    size = said.size
    if layout is not None:
        fixed = {side for side in _sides(taken.shape, layout) if isinstance(side, int)}
        if len(fixed) > 1:
            raise BadModel(f"{path}: expected square pictures, the graph's input is {list(taken.shape)}")
        if size is not None and fixed - {size}:
            raise BadModel(_unfitting(path, taken, said))
        size = size or next(iter(fixed), None)
    dtype = INPUT_TYPES[taken.type]
    mean, std = said.mean, said.std
    if dtype == "uint8":
        mean, std = mean or (0.0, 0.0, 0.0), std or (1.0, 1.0, 1.0)
        if any(mean) or set(std) != {1.0}:
            raise BadModel(f"{json}: the graph takes bytes, so mean must be 0 and std 1, or be left out")
    output = said.output or (graph.outputs[0].name if len(graph.outputs) == 1 else None)
    found = {
        "size": size,
        "mean": mean,
        "std": std,
        "layout": layout,
        "channels": said.channels,
        "output": output,
    }
    if lacking := [name for name, value in found.items() if value is None]:
        raise Unsaid(json, lacking, _example(found, graph), missing)
    assert size is not None
    assert layout is not None
    assert mean is not None
    assert std is not None
    assert said.channels is not None
    assert output is not None
    if output not in {each.name for each in graph.outputs}:
        names = "; ".join(map(str, graph.outputs))
        raise BadModel(f"{json}: output {output!r} is none of the graph's, which are {names}")
    batch = taken.shape[0] if taken.shape and isinstance(taken.shape[0], int) else None
    return Preprocessing(taken.name, output, dtype, size, layout, said.channels, mean, std, batch)


def _image_input(path: Path, graph: Graph) -> Tensor:
    if len(graph.inputs) != 1 or graph.inputs[0].type not in INPUT_TYPES:
        found = "; ".join(map(str, graph.inputs)) or "none"
        raise BadModel(f"{path}: expected one input of {', '.join(INPUT_TYPES)}, got {found}")
    return graph.inputs[0]


def _layouts(shape: tuple[Side, ...]) -> list[Layout]:
    """Which layouts an input's shape allows."""
    if not shape:  # onnxruntime's word for one that the graph does not tell: any
        return ["NCHW", "NHWC"]
    if len(shape) != 4:
        return []
    before, after = (not isinstance(side, int) or side == 3 for side in (shape[1], shape[3]))
    if 3 in (shape[1], shape[3]):  # an open side beside a fixed 3 is a row's or column's
        before, after = shape[1] == 3, shape[3] == 3
    return [*(["NCHW"] if before else []), *(["NHWC"] if after else [])]  # type: ignore[list-item]


def _sides(shape: tuple[Side, ...], layout: Layout) -> tuple[Side, ...]:
    """Rows and columns."""
    return shape[2:4] if layout == "NCHW" else shape[1:3]


def _unfitting(path: Path, taken: Tensor, said: Said) -> str:
    size = said.size or "S"
    expected = [3, size, size] if said.layout != "NHWC" else [size, size, 3]
    who = "its .json says" if said.size or said.layout else "expected"
    return f"{path}: {who} N x {' x '.join(map(str, expected))}, the graph's input is {list(taken.shape)}"


def _example(found: Mapping[str, Any], graph: Graph) -> dict[str, Any]:
    """What is known, and likely values for the rest; what need not be said is left out."""
    pooled = [each for each in graph.outputs if len(each.shape) == 2] or list(graph.outputs)
    likely = LIKELY | {"output": pooled[-1].name if pooled else ""}
    said_always = ("size", "mean", "std", "layout", "channels")
    names = [*said_always, *(["output"] if len(graph.outputs) > 1 else [])]
    return {name: likely[name] if found[name] is None else found[name] for name in names}
