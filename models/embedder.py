"""The embedder: pixels become vectors of unit length.  onnxruntime's only home.

A model is two files: `NAME.onnx`, and `NAME.json` that says what the graph does not,

    {"size": 128, "mean": [R, G, B], "std": [R, G, B],
     "layout": "NCHW"|"NHWC", "channels": "RGB"|"BGR", "resize": "squash"}

with mean and std in units of 0..255, in the order of `channels`.  The first output is the embedding; it need not have
unit length.

Easy to get wrong:

* Vectors of different models must never be compared: everything that keeps one keeps `Embedder.model` beside it.
* An int8 network must give the same vectors on every processor.  Without VNNI instructions onnxruntime's fast 8-bit
  products overflow and are clipped: measured on such a one, the shipped model's vectors had a cosine of .82 with the
  right ones, and P@10 fell from .455 to .425.  `session.x64quantprecision` forbids that: .9996 at worst, for 27 % of
  the speed there and nothing elsewhere.
* A picture's vector must not depend on its batch.  Measured on one machine, in batches of 1 to 32: the same bits, with
  the shipped int8 network and with float32 ones.  Another processor may round otherwise: compare vectors, not bytes.
* onnxruntime lets go of the GIL while it runs; `embed` may be called from several threads.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

# Before its import: since 1.29 it otherwise tells its maker of every session, and keeps an id of the machine for that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from models.errors import BadEvent, KindredError
from models.vectors import LENGTH_MIN, Vectors, unit

SHIPPED = Path(__file__).with_name("kindred.onnx")
"""The model that Kindred brings along: 128 numbers from 128 x 128 pixels."""

BATCH_MAX = 32
"""Pictures of one run of the network; more gain nothing on a CPU and cost memory."""

Row = tuple[float, float, float]


class BadModel(KindredError):
    """A model that cannot be used: files missing, unreadable, or not fitting each other.  For whoever configured it."""


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `NAME.json` says."""

    size: int
    mean: Row
    std: Row
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR"] = "RGB"
    resize: Literal["squash"] = "squash"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 4096:
            raise ValueError(f"size is {self.size}, expected 1..4096")
        if not (np.isfinite([*self.mean, *self.std]).all() and min(self.std) > 0):
            raise ValueError(f"mean {self.mean} and std {self.std} must be finite, std above 0")


class Embedder:
    """One ONNX model, loaded.

    model: "<file name without .onnx>@<first 12 hex digits of the file's SHA-256>".
    size: side of the square pictures it takes, pixels.
    dimension: length of its vectors.
    """

    def __init__(self, path: Path | str = SHIPPED, threads: int = 1) -> None:
        """Load the model at `path` and try it once, on `threads` threads.  Raises BadModel."""
        path = Path(path)
        self._preprocessing = _read_preprocessing(path.with_suffix(".json"))
        content = _read(path)
        self.model = f"{path.stem}@{hashlib.sha256(content).hexdigest()[:12]}"
        self.size = self._preprocessing.size
        self._session = _session(path, content, threads)
        self._input, self._batch = _checked_input(path, self._session, self._preprocessing)
        self._output = self._session.get_outputs()[0].name
        scale = 1 / np.array(self._preprocessing.std, np.float32)
        self._scale = scale.tolist()
        self._shift = (-np.array(self._preprocessing.mean, np.float32) * scale).tolist()
        self.dimension = self._tried(path)

    def embed(self, pixels: NDArray[np.uint8]) -> Vectors:
        """float32[B, D] of unit length for `pixels` uint8[B, S, S, 3] RGB, in the same order; B may be 0.

        BadEvent names the picture for which the network gives no direction (zero, or not finite): the others of its
        batch are to be tried without it.
        """
        expected = (self.size, self.size, 3)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != expected:
            raise ValueError(f"expected uint8[B, {self.size}, {self.size}, 3], got {pixels.dtype}{list(pixels.shape)}")
        step = self._batch or BATCH_MAX
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
        tensor = self._tensor(pixels, self._batch or count)
        features = np.asarray(self._session.run([self._output], {self._input: tensor})[0], np.float32)
        if features.shape[:1] != (len(tensor),):
            raise ValueError(f"first output is {list(features.shape)}, expected {len(tensor)} rows")
        return features.reshape(len(tensor), -1)[:count]

    def _tensor(self, pixels: NDArray[np.uint8], rows: int) -> NDArray[np.float32]:
        """The network's input, float32[rows, 3, S, S] or [rows, S, S, 3]; rows beyond the pictures are zero.

        (pixel - mean) / std as one multiplication and one addition, each in place on one channel's plane.
        """
        first = self._preprocessing.layout == "NCHW"
        shape = (rows, 3, self.size, self.size) if first else (rows, self.size, self.size, 3)
        tensor = np.zeros(shape, np.float32) if rows > len(pixels) else np.empty(shape, np.float32)
        planes = tensor if first else tensor.transpose(0, 3, 1, 2)  # a view [rows, 3, S, S]
        order = (0, 1, 2) if self._preprocessing.channels == "RGB" else (2, 1, 0)
        for channel, source in enumerate(order):
            plane = planes[: len(pixels), channel]
            np.multiply(pixels[..., source], self._scale[channel], out=plane, dtype=np.float32)
            plane += self._shift[channel]
        return tensor

    def _tried(self, path: Path) -> int:
        """The dimension, from a run on a grey picture.  BadModel where the graph does not run or gives no rows."""
        grey = np.full((2, self.size, self.size, 3), 127, np.uint8)
        try:
            rows = self._run(grey[: self._batch or 2])
        except Exception as error:  # onnxruntime's own classes, and ValueError where the output has no rows
            raise BadModel(f"{path}: the model does not run on {self.size} x {self.size} pictures: {error}") from error
        if rows.shape[1] < 2 or not np.isfinite(rows).all():
            raise BadModel(f"{path}: expected finite rows of 2 numbers or more as first output, got {rows.shape}")
        return int(rows.shape[1])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadModel(f"{path}: the model cannot be read: {error.strerror or error}") from error


def _read_preprocessing(path: Path) -> Preprocessing:
    if not path.exists():
        raise BadModel(f"{path} is missing: it must say size, mean, std, layout and channels of the model beside it")
    try:
        return msgspec.json.decode(_read(path), type=Preprocessing)
    except msgspec.DecodeError as error:  # also ValidationError
        raise BadModel(f"{path}: {error}") from error


def _session(path: Path, content: bytes, threads: int) -> onnxruntime.InferenceSession:
    """From the bytes, not the path: what runs is what was hashed (weights in further files are refused by that)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")  # see above: else int8 may be clipped
    options.log_severity_level = 3  # errors; they are raised as well
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes have no common base of their own
        raise BadModel(f"{path} is not a model that onnxruntime can load: {error}") from error


def _checked_input(
    path: Path, session: onnxruntime.InferenceSession, preprocessing: Preprocessing
) -> tuple[str, int | None]:
    """Name of the graph's input, and its batch size where that is fixed.  BadModel where the .json says otherwise."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{i.name} {i.type}" for i in inputs)
        raise BadModel(f"{path}: expected one input of tensor(float), got {found or 'none'}")
    size = preprocessing.size
    expected = [3, size, size] if preprocessing.layout == "NCHW" else [size, size, 3]
    shape = inputs[0].shape
    fits = len(shape) == 4 and all(
        not isinstance(side, int) or side == wanted for side, wanted in zip(shape[1:], expected, strict=True)
    )
    if not fits:
        raise BadModel(f"{path}: its .json says N x {' x '.join(map(str, expected))}, the graph's input is {shape}")
    return inputs[0].name, shape[0] if isinstance(shape[0], int) else None
