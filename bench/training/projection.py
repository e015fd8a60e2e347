"""The last linear map, softened towards the labels, in closed form.

The student's own embedding has what the teachers know.  A projection fitted on labels brings pictures of one category
nearer together, which helps the categories that it was fitted on and harms unseen kinds and near duplicates.  So both
are put side by side, the labels' part with a strength between 0 (none) and 1 (it alone), and brought back to as many
dimensions by PCA: a linear map of the same features, at no cost when embedding.

1. Within-class scatter of the features, every class alike, shrunk towards its mean variance by `shrinkage`.
2. Features whitened by it: directions in which a category's pictures differ count less.
3. [sqrt(1 - strength) own embedding, sqrt(strength) whitened features], each with unit mean square length.
4. PCA of that to the embedding's dimensions, without whitening, so that cosines stay what they were.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Double = NDArray[np.float64]


def label_map(features: NDArray[Any], label: NDArray[np.int64], shrinkage: float) -> Double:
    """float[N, F] and int[N] -> [F, F]: whitens the shrunk within-class scatter."""
    x = np.asarray(features, np.float64)
    classes, number = np.unique(label, return_inverse=True)
    count = np.bincount(number)
    means = np.stack([x[number == k].mean(0) for k in range(len(classes))])
    apart = (x - means[number]) / np.sqrt(count[number] * len(classes))[:, None]
    scatter = apart.T @ apart
    variance, axes = np.linalg.eigh(scatter + shrinkage * np.trace(scatter) / len(scatter) * np.eye(len(scatter)))
    whitening: Double = (axes / np.sqrt(variance)) @ axes.T
    return whitening


def softened(
    features: NDArray[Any],
    label: NDArray[np.int64],
    own: tuple[NDArray[Any], NDArray[Any]],
    strength: float,
    shrinkage: float,
) -> tuple[Double, Double]:
    """Matrix [F, D] and bias [D] of the softened embedding; `own` are the student's: features @ own[0] + own[1].

    `features` are of training pictures only.
    """
    matrix, bias = (np.asarray(x, np.float64) for x in own)
    if strength == 0:
        return matrix, bias
    x = np.asarray(features, np.float64)
    whitening = label_map(x, label, shrinkage)
    parts = []
    for share, map_, shift in ((1 - strength, matrix, bias), (strength, whitening, -x.mean(0) @ whitening)):
        length = np.sqrt(((x @ map_ + shift) ** 2).sum(1).mean())
        parts.append((np.sqrt(share) / length * map_, np.sqrt(share) / length * shift))
    joint, shift = (np.concatenate([part[k] for part in parts], -1) for k in (0, 1))
    y = x @ joint + shift
    axes = np.linalg.eigh(np.cov(y.T))[1][:, ::-1][:, : matrix.shape[1]]
    return joint @ axes, shift @ axes
