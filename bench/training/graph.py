"""The student as an ONNX graph, written node by node: the same bytes with every version of the training library.

float32[n, 3, S, S], RGB, 0..255 -> float32[n, D], unit length.  Inside: normalization, the convolutions with their
batch norms folded in, the mean over places, one linear map, unit length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from bench.training.network import MEAN, STD, Block, Student

OPSET = 17
IR = 9  # read by every onnxruntime since 1.16

Array = NDArray[Any]


class Writer:
    """Collects nodes and weights; each method returns the name of what it computes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def weight(self, value: Array) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def convolution(self, x: str, layers: nn.Sequential) -> str:
        """A convolution, its batch norm and, where there is one, its ReLU."""
        convolution, norm = layers[0], layers[1]
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        kernel, bias = folded(convolution, norm)
        pads = [convolution.padding[0]] * 4
        x = self.node(
            "Conv", [x, self.weight(kernel), self.weight(bias)],
            kernel_shape=list(kernel.shape[2:]), strides=list(convolution.stride), pads=pads,
        )  # fmt: skip
        return self.node("Relu", [x]) if len(layers) == 3 else x

    def block(self, x: str, block: Block) -> str:
        around = x
        for layer in block.around:
            if isinstance(layer, nn.AvgPool2d):
                around = self.node("AveragePool", [around], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
            else:
                assert isinstance(layer, nn.Sequential)
                around = self.convolution(around, layer)
        inner = self.convolution(self.convolution(x, block.first), block.second)
        return self.node("Relu", [self.node("Add", [inner, around])])


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Array, Array]:
    """Kernel and bias of a convolution that does what convolution and batch norm do one after the other."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale, shift, mean, variance, kernel = (
        x.detach().double().numpy()
        for x in (norm.weight, norm.bias, norm.running_mean, norm.running_var, convolution.weight)
    )
    gain = scale / np.sqrt(variance + norm.eps)
    return kernel * gain[:, None, None, None], shift - mean * gain


def student_graph(student: Student, matrix: Array, bias: Array, size: int) -> onnx.ModelProto:
    """The student's body, then `features @ matrix + bias` (matrix float[768, D]), at unit length."""
    writer = Writer()
    x = writer.node("Sub", ["image", writer.weight(np.array(MEAN))])
    x = writer.node("Div", [x, writer.weight(np.array(STD))])
    for layer in student.body:
        if isinstance(layer, Block):
            x = writer.block(x, layer)
        else:
            assert isinstance(layer, nn.Sequential)
            x = writer.convolution(x, layer)
    x = writer.node("Flatten", [writer.node("GlobalAveragePool", [x])])
    x = writer.node("Gemm", [x, writer.weight(matrix), writer.weight(bias)])
    x = writer.node("LpNormalization", [x], axis=1, p=2)
    writer.nodes.append(helper.make_node("Identity", [x], ["embedding"], name="embedding"))
    graph = helper.make_graph(
        writer.nodes,
        "student",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", matrix.shape[1]])],
        writer.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model, full_check=True)
    return model
