"""Vectors to measure with: embeddings of real pictures by the shipped model, and perturbed ones to reach any number.

A perturbed vector is a real one moved by a random direction that has the catalog's own covariance: its neighbourhood
stays as flat or thick as real ones are, where equal noise in every dimension would make every search look easy.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from bench.pictures import CACHE, pictures
from models.embedder import Embedder
from models.image import decode
from models.vectors import unit
from streams.reports.terminal import Terminal

REAL_MAX = 3_000
SHIFT = 0.6
"""Length of the shift, as a share of the spread of the catalog around its mean."""

Vectors = NDArray[np.float32]


def real_vectors(count: int = REAL_MAX) -> Vectors:
    """float32[N, D] unit embeddings of up to `count` pictures; made once for each model and kept."""
    embedder = Embedder(threads=2)
    source, files = pictures(count)
    file = CACHE / f"vectors-{source}-{embedder.model}-{len(files)}.npy"
    if file.is_file():
        return np.asarray(np.load(file))
    vectors = []
    with Terminal().progress("embedding", "pictures", len(files)) as advance:
        for start in range(0, len(files), 32):
            batch = files[start : start + 32]
            vectors.append(embedder.embed(np.stack([decode(each, embedder.size) for each in batch])))
            advance(len(batch))
    CACHE.mkdir(parents=True, exist_ok=True)
    np.save(file, np.concatenate(vectors))
    return np.concatenate(vectors)


def many_vectors(count: int, real: Vectors, seed: int = 1) -> Vectors:
    """float32[count, D] unit vectors: the real ones first, then perturbed ones."""
    if count <= len(real):
        return real[:count]
    rng = np.random.default_rng(seed)
    root = _spread(real.tobytes(), real.shape[1])
    vectors = np.empty((count, real.shape[1]), np.float32)
    vectors[: len(real)] = real
    for start in range(len(real), count, 10_000):
        lot = vectors[start : min(count, start + 10_000)]
        origin = real[rng.integers(len(real), size=len(lot))]
        lot[:] = unit(origin + SHIFT * rng.standard_normal((len(lot), len(root)), np.float32) @ root)
    return vectors


@functools.lru_cache(1)
def _spread(content: bytes, dimension: int) -> Vectors:
    """float32[D, D] whose product with normal numbers has the covariance of the vectors."""
    vectors = np.frombuffer(content, np.float32).reshape(-1, dimension)
    values, directions = np.linalg.eigh(np.cov(vectors, rowvar=False))
    return (np.sqrt(np.maximum(values, 0))[:, None] * directions.T).astype(np.float32)
