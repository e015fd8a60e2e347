"""A run that begins with the weights of a model that was written before, float32 or int8, instead of random ones.

What a file has lost is put back from training pictures:

1. Batch norms, which are folded into its kernels: each gets the mean and variance of what comes to it, and the scale
   and shift that undo them, so that the network computes what the file does, also while it trains.
2. The embedding, which may be softened towards labels: fitted anew to the targets, by least squares.

Momentum, averages and the classifier begin from nothing.  A run may have more blocks than the file: each of them lets
everything pass as it comes until it has learned something.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import islice, pairwise, product
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from bench.training.feed import Batch
from bench.training.network import Block, Student
from bench.training.run import Run, normalized

Array = NDArray[Any]

RIDGE = 1e-3  # of the mean square of a feature


def convolutions(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each convolution with its batch norm, those of 3 x 3 first: files differ in where those of 1 x 1 stand."""
    modules = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.BatchNorm2d)]
    pairs = [(c, n) for c, n in pairwise(modules) if isinstance(c, nn.Conv2d) and isinstance(n, nn.BatchNorm2d)]
    return sorted(pairs, key=lambda pair: -pair[0].kernel_size[0])


def kernel_shapes(network: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(convolution.weight.shape) for convolution, _ in convolutions(network)]


def added_blocks(student: Student, shapes: list[tuple[int, ...]]) -> list[Block]:
    """The blocks at the ends of stages that a file with kernels of these shapes lacks.

    Raises ValueError where no network with some of the student's blocks has such kernels.
    """
    for depths in product(*(range(depth, 0, -1) for depth in student.depths)):
        if kernel_shapes(Student(1, 1, depths).body) == shapes:
            blocks = iter([each for each in student.body if isinstance(each, Block)])
            stages = [list(islice(blocks, depth)) for depth in student.depths]
            return [block for depth, stage in zip(depths, stages, strict=True) for block in stage[depth:]]
    raise ValueError(f"expected a file with kernels {kernel_shapes(student.body)} or of fewer blocks, got {shapes}")


def read_kernels(model: onnx.ModelProto) -> list[tuple[Array, Array]]:
    """Kernel and bias of every convolution, quantized ones in float32 again, in the order of `convolutions`."""
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            quantized, scale, *zero = (constants[name] for name in node.input)
            shape = (-1, *[1] * (quantized.ndim - 1)) if scale.ndim else ()
            shift = zero[0].astype(np.float32).reshape(shape) if zero else 0
            constants[node.output[0]] = (quantized.astype(np.float32) - shift) * scale.reshape(shape)
    nodes = [node for node in model.graph.node if node.op_type == "Conv"]
    return sorted(
        ((constants[node.input[1]], constants[node.input[2]]) for node in nodes), key=lambda pair: -pair[0].shape[-1]
    )


def warm(run: Run, model: onnx.ModelProto, batches: Iterable[Batch], scale: float) -> None:
    """Give a run the weights of a file; `scale` is that of the batches' targets.

    Raises ValueError for a file of another network.
    """
    kernels = read_kernels(model)
    added = added_blocks(run.student, [kernel.shape for kernel, _ in kernels])
    new = {id(norm) for block in added for _, norm in convolutions(block)}
    pairs = [(convolution, norm) for convolution, norm in convolutions(run.student.body) if id(norm) not in new]
    seen = list(batches)
    with torch.no_grad():
        for (convolution, norm), (kernel, bias) in zip(pairs, kernels, strict=True):
            convolution.weight.copy_(torch.from_numpy(np.array(kernel)))
            undo(norm, torch.zeros(len(kernel)), torch.ones(len(kernel)) - norm.eps, torch.from_numpy(np.array(bias)))
        for block in added:
            ((_, _), (_, last)) = convolutions(block)
            last.weight.zero_()
        for norm, mean, variance in statistics(run.student, seen):
            if id(norm) not in new:
                undo(norm, mean, variance, norm.bias + mean)
        fit_embedding(run.student, seen, scale)
    run.averaged.load_state_dict(run.student.state_dict())


def undo(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, shift: Tensor) -> None:
    """Make a batch norm add `shift - mean` to what has this mean and variance, whichever of its two modes it is in."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_(torch.sqrt(variance + norm.eps))
    norm.bias.copy_(shift)


def statistics(student: Student, batches: list[Batch]) -> list[tuple[nn.BatchNorm2d, Tensor, Tensor]]:
    """Mean and variance, by channel, of what comes to each batch norm."""
    norms = [norm for _, norm in convolutions(student.body)]
    sums = [torch.zeros(2, norm.num_features, dtype=torch.float64) for norm in norms]
    hooks = [
        norm.register_forward_pre_hook(partial(_add_moments, total)) for norm, total in zip(norms, sums, strict=True)
    ]
    student.eval()
    for batch in batches:
        student.features(normalized(batch.pixels))
    for hook in hooks:
        hook.remove()
    means = [(total / len(batches)) for total in sums]
    return [
        (norm, mean.float(), (square - mean**2).clamp(min=0).float())
        for norm, (mean, square) in zip(norms, means, strict=True)
    ]


def _add_moments(total: Tensor, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    x = inputs[0].double()
    total += torch.stack([x.mean((0, 2, 3)), (x * x).mean((0, 2, 3))])


def fit_embedding(student: Student, batches: list[Batch], scale: float) -> None:
    """The last map, by ridge regression of the targets on the features."""
    student.eval()
    x = torch.cat([student.features(normalized(batch.pixels)) for batch in batches]).double()
    y = torch.cat([torch.from_numpy(batch.target) for batch in batches]).double() / scale
    mean_x, mean_y = x.mean(0), y.mean(0)
    x = x - mean_x
    gram = x.T @ x
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    matrix = torch.linalg.solve(gram + ridge, x.T @ (y - mean_y))
    student.embedding.weight.copy_(matrix.T)
    student.embedding.bias.copy_(mean_y - mean_x @ matrix)
