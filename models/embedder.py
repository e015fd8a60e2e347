"""The embedder: pixels become vectors of unit length.  onnxruntime's only home.

A model is two files: `NAME.onnx`, and `NAME.json` that says what the graph does not,

    {"size": 160, "mean": [R, G, B], "std": [R, G, B],
     "layout": "NCHW"|"NHWC", "channels": "RGB"|"BGR", "resize": "squash", "output": "NAME"}

with mean and std in units of 0..255, in the order of `channels`.  `size`, `layout` and `output` may be left out where
the graph leaves no choice, mean and std where it takes bytes (preprocessing.py).  The embedding need not have unit
length.

Easy to get wrong:

* Vectors of different models must never be compared: everything that keeps one keeps `Embedder.model` beside it.
* An int8 network must give the same vectors on every processor.  Without VNNI instructions onnxruntime's fast 8-bit
  products overflow and are clipped: measured on such a one, the shipped model's vectors had a cosine of .82 with the
  right ones, and P@10 fell from .455 to .425.  `session.x64quantprecision` forbids that: .9996 at worst, for 27 % of
  the speed there.  With VNNI it changes no bit and can cost two thirds of the speed, so it is not asked for there.
* A picture's vector must not depend on its batch.  Measured on one machine, in batches of 1 to 32: the same bits, with
  the shipped int8 network and with float32 ones.  Another processor may round otherwise: compare vectors, not bytes.
* onnxruntime lets go of the GIL while it runs; `embed` may be called from several threads.
"""

from __future__ import annotations

import codecs
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

# Before its import: since 1.29 it otherwise tells its maker of every session, and keeps an id of the machine for that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from models.colour import RECIPE
from models.errors import BadEvent
from models.preprocessing import BadModel, Graph, Preprocessing, Said, Tensor, preprocessing
from models.processor import adds_exactly
from models.vectors import LENGTH_MIN, Vectors, unit

SHIPPED = Path(__file__).with_name("kindred.onnx")
"""The model that Kindred brings along: 128 numbers from 160 x 160 pixels."""

BATCH_MAX = 32
"""Pictures of one run of the network; more gain nothing on a CPU and cost memory."""

DIMENSION_MAX = 4096
"""Numbers of a vector: twice what networks for pictures end in; more is a map of features, or a list of classes."""


class Embedder:
    """One ONNX model, loaded.

    model: "<file name without .onnx>@<12 hex digits of all that its vectors depend on>", see `model_id`.
    size: side of the square pictures it takes, pixels.
    dimension: length of its vectors.
    """

    def __init__(self, path: Path | str = SHIPPED, threads: int = 1) -> None:
        """Load the model at `path` and try it once, on `threads` threads.  Raises BadModel."""
        path = Path(path)
        content = _read(path)
        self._session = _session(path, content, threads)
        self.preprocessing = preprocessing(path, _graph(self._session), _said(path.with_suffix(".json")))
        self.model = model_id(path.stem, content, self.preprocessing)
        self.size = self.preprocessing.size
        scale = 1 / np.array(self.preprocessing.std, np.float32)
        self._scale = scale.tolist()
        self._shift = (-np.array(self.preprocessing.mean, np.float32) * scale).tolist()
        self.dimension = self._tried(path)

    def embed(self, pixels: NDArray[np.uint8]) -> Vectors:
        """float32[B, D] of unit length for `pixels` uint8[B, S, S, 3] RGB, in the same order; B may be 0.

        BadEvent names the picture for which the network gives no direction (zero, or not finite): the others of its
        batch are to be tried without it.
        """
        expected = (self.size, self.size, 3)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != expected:
            raise ValueError(f"expected uint8[B, {self.size}, {self.size}, 3], got {pixels.dtype}{list(pixels.shape)}")
        step = self.preprocessing.batch or BATCH_MAX
        parts = [self._run(pixels[start : start + step]) for start in range(0, len(pixels), step)]
        features = np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)
        usable = np.isfinite(features).all(axis=1) & (np.abs(features).max(axis=1, initial=0) >= LENGTH_MIN)
        if not usable.all():
            number = int(np.argmin(usable))
            raise BadEvent(f"model {self.model} finds nothing in image {number + 1} of {len(pixels)}: no direction")
        return unit(features)

    def _run(self, pixels: NDArray[np.uint8]) -> Vectors:
        """float32[B, D] features of up to a batch of pictures."""
        count = len(pixels)
        said = self.preprocessing
        tensor = self._tensor(pixels, said.batch or count)
        features = np.asarray(self._session.run([said.output], {said.input: tensor})[0], np.float32)
        if features.shape[:1] != (len(tensor),):
            raise ValueError(f"output {said.output!r} is {list(features.shape)}, expected {len(tensor)} rows")
        if sum(side > 1 for side in features.shape[1:]) > 1:
            sides = " x ".join(map(str, features.shape[1:]))
            raise ValueError(f"output {said.output!r} has {sides} numbers a picture: a map of features, expected a row")
        return features.reshape(len(tensor), -1)[:count]

    def _tensor(self, pixels: NDArray[np.uint8], rows: int) -> NDArray[Any]:
        """The network's input, [rows, 3, S, S] or [rows, S, S, 3] of its type; rows beyond the pictures are zero.

        (pixel - mean) / std as one multiplication and one addition, each in place on one channel's plane.
        """
        said = self.preprocessing
        shape = (rows, 3, self.size, self.size) if said.layout == "NCHW" else (rows, self.size, self.size, 3)
        tensor = np.zeros(shape, _worked(said)) if rows > len(pixels) else np.empty(shape, _worked(said))
        planes = tensor if said.layout == "NCHW" else tensor.transpose(0, 3, 1, 2)  # a view [rows, 3, S, S]
        order = (0, 1, 2) if said.channels == "RGB" else (2, 1, 0)
        for channel, source in enumerate(order):
            plane = planes[: len(pixels), channel]
            if said.dtype == "uint8":
                plane[...] = pixels[..., source]
                continue
            np.multiply(pixels[..., source], self._scale[channel], out=plane, dtype=np.float32)
            plane += self._shift[channel]
        return tensor.astype(said.dtype, copy=False)

    def _tried(self, path: Path) -> int:
        """The dimension, from a run on a grey picture.  BadModel where the graph does not run or gives no rows."""
        grey = np.full((2, self.size, self.size, 3), 127, np.uint8)
        try:
            rows = self._run(grey[: self.preprocessing.batch or 2])
        except Exception as error:  # onnxruntime's own classes, and ValueError where the output has no rows
            raise BadModel(f"{path}: the model does not run on {self.size} x {self.size} pictures: {error}") from error
        if not 2 <= rows.shape[1] <= DIMENSION_MAX or not np.isfinite(rows).all():
            raise BadModel(
                f"{path}: expected finite rows of 2 numbers or more, at most {DIMENSION_MAX}, got {rows.shape}"
            )
        return int(rows.shape[1])


def model_id(name: str, content: bytes, said: Preprocessing) -> str:
    """The id of a model: `name`, "@", the first 12 hex digits of a SHA-256 over all that decides about its vectors.

    That is the ONNX file, how pixels go into it, and how colours are made of them (models/colour.py).  How pixels go in
    as it was understood, not as it was written: the id stays when the .json is laid out otherwise or says what the
    graph says too, and changes with every number of it.
    """
    digest = hashlib.sha256(content)
    digest.update(msgspec.json.encode(said._asdict()))
    digest.update(RECIPE.encode())
    return f"{name}@{digest.hexdigest()[:12]}"


def read_graph(path: Path) -> Graph:
    """What goes into the network at `path` and what comes out, whatever is said beside it.  Raises BadModel."""
    return _graph(_session(path, _read(path), 1))


def _worked(said: Preprocessing) -> type[np.generic]:
    """In which numbers the input is made; half of them would round twice."""
    return np.uint8 if said.dtype == "uint8" else np.float32


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadModel(f"{path}: the model cannot be read: {error.strerror or error}") from error


def _said(path: Path) -> Said | None:
    """What the .json says; None: there is none."""
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(_read(path).removeprefix(codecs.BOM_UTF8), type=Said)  # as Windows writes it
    except msgspec.DecodeError as error:  # also ValidationError
        raise BadModel(f"{path}: {error}") from error


def _session(path: Path, content: bytes, threads: int) -> onnxruntime.InferenceSession:
    """From the bytes, not the path: what runs is what was hashed, so weights in further files are refused."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if not adds_exactly():
        options.add_session_config_entry("session.x64quantprecision", "1")  # see above: else int8 may be clipped
    options.log_severity_level = 3  # errors; they are raised as well
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes have no common base of their own
        if "external data" in str(error).lower():  # as PyTorch's exporter writes them unless it is told not to
            raise BadModel(
                f"{path} keeps its weights in another file, expected one that has them in it: "
                "onnx.save(onnx.load(FILE), OTHER_FILE) in Python makes one"
            ) from error
        raise BadModel(f"{path} is not a model that onnxruntime can load: {error}") from error


def _graph(session: onnxruntime.InferenceSession) -> Graph:
    inputs, outputs = (
        tuple(Tensor(each.name, each.type, tuple(each.shape)) for each in side)
        for side in (session.get_inputs(), session.get_outputs())
    )
    return Graph(inputs, outputs)
