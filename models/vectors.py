"""Vectors: unit length, centring, and their text in messages.

Easy to get wrong:

* Text is base64 of *little-endian* numbers, whatever the machine: float16 for embeddings, float32 for the mean.
* A vector read from float16 text has a length of 1 within 5e-4 only; `unit` it where that matters.
* A row without a direction (zero, or equal to the mean) stays zero: it is no more alike to anything than chance.
"""

from __future__ import annotations

import binascii

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import BadEvent

Vectors = NDArray[np.float32]

LENGTH_MIN = 1e-6
"""Below it a difference of unit vectors in float32 is rounding noise, and its direction means nothing."""


def unit(vectors: ArrayLike) -> Vectors:
    """float32[..., D] with rows of unit length; a row shorter than `LENGTH_MIN` becomes zero."""
    rows: Vectors = np.asarray(vectors, np.float32)
    lengths: Vectors = np.sqrt(np.einsum("...d,...d->...", rows, rows))[..., None]
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths >= LENGTH_MIN)


def centre(vectors: Vectors, mean: Vectors) -> Vectors:
    """float32[N, D] unit rows of `vectors` float32[N, D] less the catalog's `mean` float32[D].

    Afterwards a dot product of 0 means "no more alike than two random items of this catalog".
    A zero row (no picture) stays zero, and so does one that equals the mean.
    """
    centred = unit(vectors - mean)
    centred[~vectors.any(axis=-1)] = 0
    return centred


def pack_half(vector: ArrayLike) -> str:
    """Base64 of `vector` float[D] as little-endian float16; ValueError unless it is one finite row."""
    return _pack(vector, "<f2")


def unpack_half(text: str, dimension: int) -> Vectors:
    """float32[D] of what `pack_half` wrote.  BadEvent: not base64, not `dimension` numbers, not finite."""
    return _unpack(text, dimension, "<f2")


def half_numbers(text: str) -> int:
    """How many numbers a text of `pack_half` holds."""
    return (len(text) * 3 // 4 - text.count("=")) // 2


def pack_mean(mean: ArrayLike) -> str:
    """Base64 of `mean` float[D] as little-endian float32; ValueError unless it is one finite row."""
    return _pack(mean, "<f4")


def unpack_mean(text: str, dimension: int) -> Vectors:
    """float32[D] of what `pack_mean` wrote.  BadEvent: not base64, not `dimension` numbers, not finite."""
    return _unpack(text, dimension, "<f4")


def _pack(vector: ArrayLike, dtype: str) -> str:
    with np.errstate(over="ignore"):  # told below, in words
        row = np.asarray(vector).astype(dtype)
    if row.ndim != 1 or not np.isfinite(row).all():
        raise ValueError(f"expected one row of numbers within {row.dtype.name}, got shape {row.shape}")
    return binascii.b2a_base64(row.tobytes(), newline=False).decode("ascii")


def _unpack(text: str, dimension: int, dtype: str) -> Vectors:
    try:
        content = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # binascii.Error, and text that is not ASCII
        raise BadEvent(f"vector is not base64: {error}") from error
    bytes_expected = dimension * np.dtype(dtype).itemsize
    if len(content) != bytes_expected:
        raise BadEvent(f"vector has {len(content)} bytes, expected {bytes_expected} ({dimension} numbers)")
    row = np.frombuffer(content, dtype).astype(np.float32)
    if not np.isfinite(row).all():
        raise BadEvent("vector has numbers that are not finite")
    return row
