"""What the student is asked for, as plain functions.

B views, D dimensions, Q stored targets (the queue).  `raw` is the student's embedding as it comes, `e` the same at unit
length, `t` the target as it comes, `u` at unit length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def squared_error(raw: Tensor, t: Tensor, scale: float) -> Tensor:
    """Mean of (raw - t / scale)^2 over B x D: length counts too, unlike in a cosine."""
    return functional.mse_loss(raw, t / scale)


def neighbourhood(e: Tensor, u: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student's softmax over the queue [Q, D] from the target's, mean over B.

    Who is near and who is far should be as the teachers have it.
    """
    student = functional.log_softmax(e @ queue.T / temperature, 1)
    teacher = functional.softmax(u @ queue.T / temperature, 1)
    return functional.kl_div(student, teacher, reduction="batchmean")


def target_contrast(e: Tensor, others: Tensor, queue: Tensor, same: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding the unit target of the picture's other view, others[i], for e[i].

    The choice is among all of `others` [B, D] and the queue [Q, D]; `same` bool[B, B + Q] marks wrong answers that are
    no mistake, because they show the same picture.
    """
    scores = e @ torch.cat([others, queue]).T / temperature
    scores = scores.masked_fill(same, float("-inf"))
    return functional.cross_entropy(scores, torch.arange(len(e)))


def labels(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy over all packs' categories, a tenth of the certainty spread over all."""
    return functional.cross_entropy(logits, label, label_smoothing=0.1)
