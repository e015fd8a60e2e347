"""The definitions of the quality figures, which are not part of the project: `shared/tools/eval_quality.py`.

Nothing here needs more than NumPy, so that training can use it in an environment of its own.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def definitions(shared: Path) -> ModuleType:
    """`shared/tools/eval_quality.py` as a module: one place says what the figures mean."""
    path = shared / "tools" / "eval_quality.py"
    spec = importlib.util.spec_from_file_location("eval_quality", path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(f"expected the definitions of the quality figures at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed(quality: Any, pictures: Sequence[Any]) -> tuple[dict[str, list[Any]], list[int]]:
    """Some of the pictures (Pillow's images) after each kind of change, and which of them they were.

    The changes come in one random stream: the definition itself makes them all.
    """
    shown: list[Any] = []

    def record(batch: list[Any]) -> Float:
        shown.extend(batch)
        return np.ones((len(batch), 1), np.float32)

    quality.near_duplicates(record, pictures, np.ones((len(pictures), 1), np.float32))
    kinds = [*quality.CHANGES, quality.HARD]
    count = len(shown) // len(kinds)
    picked = sorted(random.Random(7).sample(range(len(pictures)), count))
    return {kind: shown[number * count : (number + 1) * count] for number, kind in enumerate(kinds)}, picked


def figures_of(
    quality: Any,
    similarity: Float,
    categories: NDArray[Any],
    senders: NDArray[Any] | None,
    again: Mapping[str, Float],
    picked: Sequence[int] | NDArray[np.int64],
) -> dict[str, float]:
    """All figures of a pack.

    similarity: float32[N, N], of every picture with every other.  again: by kind of change the float32[M, N] of the
    changed pictures with all, `picked` [M] being which of them they were.
    """
    out: dict[str, float] = quality.label_scores(similarity, categories)
    if senders is not None:
        of_others = quality.label_scores(similarity, categories, senders)
        out |= {f"x_{name}": value for name, value in of_others.items()}
    for kind, found in again.items():
        own = found[np.arange(len(found)), picked]
        out[f"mrr_{kind}"] = float((1 / (found >= own[:, None]).sum(1)).mean())
    if all(f"mrr_{kind}" in out for kind in quality.CHANGES):
        out["mrr"] = float(np.mean([out[f"mrr_{kind}"] for kind in quality.CHANGES]))
    return out
