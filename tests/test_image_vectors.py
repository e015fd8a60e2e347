"""Vectors of image links: embedded once a picture, and once a part of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.image import ImageLimits, encode_png
from models.vectors import unpack_half
from streams.image_vectors import ImageVectors
from streams.metrics import Metrics


class Halves:
    """A fetcher of pictures whose left half is red and right half blue, and a model that tells their mean colour."""

    model, size, dimension = "colours@1", 8, 3

    def __init__(self) -> None:
        self.embedded = 0

    async def fetch(self, link: str) -> bytes:
        pixels = np.zeros((16, 32, 3), np.uint8)
        pixels[:, :16, 0] = pixels[:, 16:, 2] = 255
        return encode_png(pixels)

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.embedded += len(pixels)
        mean = pixels.reshape(len(pixels), -1, 3).mean(axis=1).astype(np.float32)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    async def close(self) -> None:
        """Nothing is open."""


async def test_parts_of_a_picture_are_known_apart() -> None:
    """The same bytes, whole or in part, have vectors of their own, each embedded once; the digest is the file's."""
    halves = Halves()
    vectors = ImageVectors(halves, halves, ImageLimits(), Metrics())  # type: ignore[arg-type]
    left, right = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 0.4, 1.0)

    asked = [await vectors.of_link(link, crop) for crop in (None, left, right) for link in ("a.png", "b.png")]

    await vectors.close()
    assert [outcome for _, _, outcome in asked] == ["embedded", "known"] * 3
    assert halves.embedded == 3
    assert len({digest for digest, _, _ in asked}) == 1
    colours = [unpack_half(vector, 3).round(1).tolist() for _, vector, _ in asked[::2]]
    assert colours[1:] == [[1, 0, 0], [0, 0, 1]]
    assert colours[0][0] == colours[0][2]
