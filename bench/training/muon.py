"""Muon: momentum whose every matrix is replaced by the nearest orthogonal one.

After Keller Jordan's method (2024): a step that moves all directions of a matrix by the same amount, where a gradient
moves a few strong ones and leaves the rest.  The orthogonal factor comes from five Newton-Schulz steps
x <- a x + b (x x^T) x + c (x x^T)^2 x with his coefficients, which bring singular values near 1 (.7 to 1.2), not to it.

The step is a polynomial of x x^T times x.  So it is enough to iterate on the Gram matrix of the shorter side and to
multiply x once, at the end: wide convolution kernels (256 x 2,304) cost a fraction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

A, B, C = 3.4445, -4.7750, 2.0315
STEPS = 5


def orthogonal(x: Tensor, bfloat16: bool = False) -> Tensor:
    """Nearly the orthogonal factor of a matrix: singular values near 1, singular vectors kept; any shape [m, n].

    In bfloat16 on the matrix itself: rounding gives a Gram matrix of low rank negative eigenvalues, which every step
    multiplies, while the matrix's own errors stay as small as they are.
    """
    if x.shape[0] > x.shape[1]:
        return orthogonal(x.T, bfloat16).T
    x = x / (x.norm() + 1e-7)
    return _on_itself(x.bfloat16()).float() if bfloat16 else _on_gram(x)


def _on_itself(x: Tensor) -> Tensor:
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x


def _on_gram(x: Tensor) -> Tensor:
    gram = x @ x.T
    product = None
    for _ in range(STEPS):
        step = torch.addmm(gram, gram, gram, beta=B, alpha=C)
        step.diagonal().add_(A)
        product = step if product is None else step @ product
        gram = step @ gram @ step  # all of these are polynomials of one symmetric matrix: their order does not matter
    assert product is not None
    return product @ x


class Muon(torch.optim.Optimizer):
    """For matrices and convolution kernels, which are flattened to [out, in * height * width].

    A step is as long as AdamW's usual one (root mean square .2 times the rate), so that one rate serves both.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        bfloat16: bool = False,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._bfloat16 = bfloat16

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(state["momentum"], group["momentum"])
                change = orthogonal(ahead.reshape(len(ahead), -1), self._bfloat16)
                scale = 0.2 * max(change.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(change.reshape(parameter.shape), alpha=-group["lr"] * scale)
