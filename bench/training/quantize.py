"""The student's graph in int8, with its last map fitted anew to what int8 leaves of the features.

1. Steps of every tensor are set by training pictures (static quantization).  Weights use all eight bits: processors
   without VNNI add two products in 16 bits, which would overflow, so the product asks for exact sums there
   (`models/embedder.py`).  Averages of four pixels stay in float32: every fourth of them is a tie, which kernels round
   either way.
2. The last map stays in float32, and learns from more pictures what makes the embedding of the int8 features that of
   the float ones: a ridge regression of the difference, in closed form.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

Array = NDArray[Any]

CALIBRATED = 256
"""Pictures that set the steps; all their values are held in memory."""
PERCENTILE = 99.99
"""Of a tensor's values, 256 steps reach from 0.01 to this; what is beyond is cut.

With steps for the largest value that one picture in 512 has, all others have too few: the mean cosine of a picture's
vector to that of float32 is .984, so it is .996 to .998.
"""
RIDGE = 1e-3
"""Of the mean square of a feature."""
BATCH = 50


class Calibration(CalibrationDataReader):
    """Training pictures, one at a time."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._rows: Iterator[NDArray[np.uint8]] = iter(pixels)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        row = next(self._rows, None)
        return None if row is None else {"image": network_input(row[None])}


class LastMap(NamedTuple):
    """Where a graph's one linear map is, and what is in it."""

    features: str
    """Name of what goes in."""
    sums: str
    """Name of what comes out."""
    matrix: onnx.TensorProto
    bias: onnx.TensorProto


def network_input(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8[B, S, S, 3] -> float32[B, 3, S, S]."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)


def quantize(plain: Path, out: Path, pixels: NDArray[np.uint8]) -> None:
    """Write the int8 file of the float32 file `plain`; `pixels` uint8[N, S, S, 3] of training pictures, in any order.

    The first `CALIBRATED` set the steps, all of them the last map.
    """
    prepared = out.with_name(f"{out.stem}-prepared.onnx")
    quant_pre_process(str(plain), str(prepared))
    quantize_static(
        str(prepared),
        str(out),
        Calibration(pixels[:CALIBRATED]),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=CalibrationMethod.Percentile,
        extra_options={"CalibPercentile": PERCENTILE},
        op_types_to_quantize=["Conv", "Add", "Relu"],
    )
    prepared.unlink()
    model = onnx.load(str(out))
    refit(model, onnx.load(str(plain)), pixels)
    onnx.save(model, str(out))


def refit(model: onnx.ModelProto, plain: onnx.ModelProto, pixels: NDArray[np.uint8]) -> None:
    """Give `model` the last map that comes nearest to `plain`'s embeddings of these pictures, before unit length."""
    features, sums = traced(model, pixels)
    lacking = traced(plain, pixels)[1] - sums
    mean, shift = features.mean(0), lacking.mean(0)
    x = features - mean
    gram = x.T @ x
    ridge = RIDGE * gram.diagonal().mean() * np.eye(len(gram))
    change = np.linalg.solve(gram + ridge, x.T @ (lacking - shift))
    last = last_map(model)
    for tensor, difference in ((last.matrix, change), (last.bias, shift - mean @ change)):
        value = (numpy_helper.to_array(tensor) + difference).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def last_map(model: onnx.ModelProto) -> LastMap:
    """The linear map at the end of a student's graph."""
    constants = {each.name: each for each in model.graph.initializer}
    (node,) = (node for node in model.graph.node if node.op_type == "Gemm")
    return LastMap(node.input[0], node.output[0], constants[node.input[1]], constants[node.input[2]])


def traced(model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> tuple[Array, Array]:
    """Features float64[N, F] and embeddings float64[N, D] before unit length."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    last = last_map(copy)
    names = [last.features, last.sums]
    copy.graph.output.extend([onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    parts = [
        session.run(names, {"image": network_input(pixels[start : start + BATCH])})
        for start in range(0, len(pixels), BATCH)
    ]
    features, sums = (np.concatenate(each).astype(np.float64) for each in zip(*parts, strict=True))
    return features, sums
