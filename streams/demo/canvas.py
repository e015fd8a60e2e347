"""A canvas of pixels on which lit and patterned shapes are painted one over another.

How a shape is painted:

1. only the window that its bounds touch is worked on;
2. its signed distance there gives the coverage of each pixel (a ramp one pixel wide: smooth edges);
3. its relief gives the surface's slope, and with it the light that comes from the upper left;
4. its surface gives the colour before light, and its material how it takes the light;
5. the result is mixed over what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streams.demo.palette import Colour
from streams.demo.patterns import Surface, within
from streams.demo.shapes import Box, Field, Shape

Relief = Callable[[Field, Field, Field], tuple[Field, Field]]
"""(x, y, distance) -> the part of the surface's unit normal that lies in the plane of the picture."""

LIGHT = (-0.46, 0.50, 0.73)
"""Where the light comes from: upper left, in front; unit length."""


@dataclass(frozen=True, slots=True)
class Material:
    """How a surface takes the light: what it has in the shadow, how much light adds, and its highlight."""

    ambient: float = 0.47
    diffuse: float = 0.73
    gloss: float = 0.0
    sharpness: float = 20.0


CLOTH = Material(0.52, 0.66)
MATTE = Material(0.44, 0.76, 0.08, 8.0)
CERAMIC = Material(0.44, 0.74, 0.50, 42.0)
LEATHER = Material(0.42, 0.78, 0.20, 12.0)
WOOD = Material(0.46, 0.74, 0.10, 14.0)
METAL = Material(0.32, 0.86, 0.42, 16.0)
GLASS = Material(0.60, 0.48, 0.85, 60.0)


class Canvas:
    """A square picture in the making: the plane's -1..1 both ways, or a closer look at what is around (0, `middle`)."""

    def __init__(self, size: int, rng: np.random.Generator, zoom: float = 1.0, middle: float = 0.0) -> None:
        self.size = size
        self.rng = rng
        self.pixel = 2.0 / size / zoom
        self.left, self.top = -1.0 / zoom, middle + 1.0 / zoom
        steps = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(self.pixel)
        self.x: Field = (steps + np.float32(self.left))[None, :]
        self.y: Field = (np.float32(self.top) - steps)[:, None]
        self.colours: Field = np.ones((3, size, size), dtype=np.float32)

    def pixels(self) -> NDArray[np.uint8]:
        """Return the picture as uint8[S, S, 3]."""
        levels = np.clip(self.colours * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0))

    def cover(self, shape: Shape) -> Field:
        """Return float32[S, S]: how much of each pixel a shape covers; for clipping what is painted on it."""
        mask = np.zeros((self.size, self.size), dtype=np.float32)
        rows, columns, x, y = self._window(shape.bounds)
        mask[rows, columns] = within(shape.distance(x, y), self.pixel)
        return mask

    def fill(
        self,
        shape: Shape,
        surface: Surface | Colour,
        material: Material = MATTE,
        relief: Relief | None = None,
        opacity: float = 1.0,
        clip: Field | None = None,
    ) -> None:
        """Paint a shape; `clip` (a `cover`) keeps it within another, without a say in its relief."""
        rows, columns, x, y = self._window(shape.bounds)
        if x.size == 0 or y.size == 0:
            return
        distance = shape.distance(x, y)
        cover = within(distance, self.pixel) * np.float32(opacity)
        if clip is not None:
            cover = cover * clip[rows, columns]
        if isinstance(surface, Surface):
            colour = surface.colour_at(x, y, self.pixel)
        else:
            colour = np.array(surface, dtype=np.float32)[:, None, None]
        if relief is None:
            shine = np.float32(material.ambient + material.diffuse * LIGHT[2])
            lit: Field = np.asarray(colour * shine, dtype=np.float32)
        else:
            lit = _lit(colour, *relief(x, y, distance), material)
        under = self.colours[:, rows, columns]
        under += (lit - under) * cover

    def shadow(
        self,
        shape: Shape,
        blur: float,
        strength: float,
        clip: Field | None = None,
        tint: Colour = (0.13, 0.10, 0.14),
    ) -> None:
        """Darken softly where the shape is: full well inside it, fading over `blur` on both sides of its outline."""
        left, bottom, right, top = shape.bounds
        rows, columns, x, y = self._window((left - blur, bottom - blur, right + blur, top + blur))
        if x.size == 0 or y.size == 0:
            return
        ramp = np.clip(np.float32(0.5) - shape.distance(x, y) / np.float32(2 * blur), 0, 1)
        cover = ramp * ramp * (3 - 2 * ramp) * np.float32(strength)
        if clip is not None:
            cover = cover * clip[rows, columns]
        under = self.colours[:, rows, columns]
        under += (np.array(tint, dtype=np.float32)[:, None, None] - under) * cover

    def glow(self, x: float, y: float, radius: float, colour: Colour, strength: float) -> None:
        """Add light around a point, fading out with a bell."""
        squared = ((self.x - np.float32(x)) ** 2 + (self.y - np.float32(y)) ** 2) / np.float32(radius * radius)
        light = np.exp(-2 * squared) * np.float32(strength)
        room = 1 - self.colours
        self.colours += room * light * np.array(colour, dtype=np.float32)[:, None, None]

    def noise(self, columns: int, rows: int) -> Field:
        """Return float32[S, S] of smooth random values, -1..1, that change over 1/columns and 1/rows of the picture."""
        lattice = (self.rng.random((rows + 1, columns + 1), dtype=np.float32) * 2 - 1).astype(np.float32)
        return np.asarray(_spread(self.size, rows) @ lattice @ _spread(self.size, columns).T, dtype=np.float32)

    def _window(self, bounds: Box) -> tuple[slice, slice, Field, Field]:
        """Return the rows and columns that the bounds touch, with their coordinates."""
        left, bottom, right, top = bounds
        margin = 1.5 * self.pixel
        first_column = max(0, int((left - margin - self.left) / self.pixel))
        last_column = min(self.size, int((right + margin - self.left) / self.pixel) + 1)
        first_row = max(0, int((self.top - top - margin) / self.pixel))
        last_row = min(self.size, int((self.top - bottom + margin) / self.pixel) + 1)
        rows = slice(first_row, max(first_row, last_row))
        columns = slice(first_column, max(first_column, last_column))
        return rows, columns, self.x[:, columns], self.y[rows]


@lru_cache(maxsize=64)
def _spread(size: int, cells: int) -> Field:
    """Return float32[size, cells + 1]: how much each lattice point counts at each pixel (a smooth interpolation)."""
    at = (np.arange(size) + 0.5) * (cells / size)
    cell = np.minimum(at.astype(np.int64), cells - 1)
    t = at - cell
    t = t * t * (3 - 2 * t)
    weights = np.zeros((size, cells + 1), dtype=np.float32)
    weights[np.arange(size), cell] = 1 - t
    weights[np.arange(size), cell + 1] = t
    return weights


def _lit(colour: Field, nx: Field, ny: Field, material: Material) -> Field:
    """Return the colour under the light of a surface whose normal has these parts in the picture's plane."""
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0))
    facing = np.maximum(nx * np.float32(LIGHT[0]) + ny * np.float32(LIGHT[1]) + nz * np.float32(LIGHT[2]), 0)
    shine = np.float32(material.ambient) + np.float32(material.diffuse) * facing
    lit = colour * shine
    if material.gloss:
        # Blinn's highlight: the half vector between light and viewer (0, 0, 1).
        length = np.sqrt(LIGHT[0] ** 2 + LIGHT[1] ** 2 + (LIGHT[2] + 1) ** 2)
        hx, hy, hz = LIGHT[0] / length, LIGHT[1] / length, (LIGHT[2] + 1) / length
        near = np.maximum(nx * np.float32(hx) + ny * np.float32(hy) + nz * np.float32(hz), 0)
        lit = lit + np.float32(material.gloss) * near ** np.float32(material.sharpness)
    return np.asarray(lit, dtype=np.float32)


def rounded(radius: float, height: float = 0.9) -> Relief:
    """The relief of a cushion: flat inside, falling off over `radius` to the slope `height` at the outline."""

    def relief(x: Field, y: Field, distance: Field) -> tuple[Field, Field]:
        gy, gx = np.asarray(np.gradient(distance), dtype=np.float32)
        length = np.sqrt(gx * gx + gy * gy) + np.float32(1e-6)
        slope = np.clip(1 + distance / np.float32(radius), 0, 1)
        slope = slope * slope * np.float32(height) / length
        return gx * slope, -gy * slope  # rows run downwards

    return relief


def rough(relief: Relief | None, noise: Field, strength: float, canvas: Canvas) -> Relief:
    """Add the slopes of a noise over the whole picture (float32[S, S]) to a relief: folds, hammered metal, grain."""
    gy, gx = np.asarray(np.gradient(noise), dtype=np.float32)
    scale = np.float32(strength * canvas.size / 16)

    def both(x: Field, y: Field, distance: Field) -> tuple[Field, Field]:
        row = round(float((canvas.top - y[0, 0]) / canvas.pixel - 0.5))
        column = round(float((x[0, 0] - canvas.left) / canvas.pixel - 0.5))
        part = (slice(row, row + y.shape[0]), slice(column, column + x.shape[1]))
        nx, ny = -gx[part] * scale, gy[part] * scale
        if relief is not None:
            rx, ry = relief(x, y, distance)
            nx, ny = nx + rx, ny + ry
        return np.clip(nx, -0.95, 0.95), np.clip(ny, -0.95, 0.95)

    return both
