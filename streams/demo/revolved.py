"""Bodies of revolution: whatever comes off a potter's wheel, seen slightly from above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streams.demo.canvas import Canvas, Material, Relief
from streams.demo.palette import Colour, darker
from streams.demo.patterns import Surface
from streams.demo.shapes import Field, Shape, ellipse

TILT = 0.17
"""How open a circle looks that lies on the table: height of the ellipse over its width."""


class Revolved:
    """A body given by its half width at some heights, bottom first; between them it is smooth and never overshoots."""

    def __init__(self, profile: Sequence[tuple[float, float]], x: float = 0.0, straight: bool = False) -> None:
        """Take (y, half width) pairs with y rising; `straight` joins them by lines."""
        self.x = x
        self.bottom, self.top = profile[0][0], profile[-1][0]
        heights = np.array([y for y, _ in profile])
        widths = np.array([w for _, w in profile])
        self._at = np.linspace(self.bottom, self.top, 160)
        self._width = np.interp(self._at, heights, widths) if straight else _monotone(heights, widths, self._at)
        self._slope = np.gradient(self._width, self._at)
        self.foot, self.lip = float(widths[0]), float(widths[-1])
        self.widest = float(self._width.max())

    def width(self, y: Field) -> Field:
        return np.maximum(np.interp(y, self._at, self._width).astype(np.float32), np.float32(1e-3))

    def slope(self, y: Field) -> Field:
        return np.interp(y, self._at, self._slope).astype(np.float32)

    @property
    def shape(self) -> Shape:
        """The silhouette: the sides, closed by half an ellipse below and above."""

        def distance(x: Field, y: Field) -> Field:
            slope = self.slope(y)
            side = (np.abs(x - np.float32(self.x)) - self.width(y)) / np.sqrt(1 + np.minimum(slope * slope, 9))
            return np.maximum(side, np.maximum(y - np.float32(self.top), np.float32(self.bottom) - y))

        widest = self.widest
        body = Shape(distance, (self.x - widest, self.bottom, self.x + widest, self.top))
        return body | self.disc_at(self.bottom, self.foot) | self.disc_at(self.top, self.lip)

    def disc_at(self, y: float, width: float | None = None) -> Shape:
        """The level circle at a height, as it is seen; by default as wide as the body is there."""
        if width is None:
            width = float(np.interp(y, self._at, self._width))
        return ellipse(self.x, y, max(width, 0.004), max(width * TILT, 0.003))

    def coordinates(self, x: Field, y: Field) -> tuple[Field, Field]:
        """Lay a pattern around the body: the arc from the middle, and the height where that point really is."""
        width = self.width(y)
        across = np.clip((x - np.float32(self.x)) / width, -1, 1)
        depth = np.sqrt(1 - across * across)
        # One reference width, so that stripes stay parallel lines on the wheel and do not shear in the neck.
        return np.arcsin(across) * np.float32(self.widest), y + width * depth * np.float32(TILT)

    @property
    def relief(self) -> Relief:
        def relief(x: Field, y: Field, distance: Field) -> tuple[Field, Field]:
            across = np.clip((x - np.float32(self.x)) / self.width(y), -1, 1)
            slope = self.slope(y)
            steep = np.sqrt(1 + slope * slope)
            return across / steep, np.broadcast_to(-slope / steep, across.shape)

        return relief

    def wrapped(self, surface: Surface) -> Surface:
        """Return the surface laid around this body."""
        return Surface(
            surface.base,
            surface.accent,
            surface.second,
            surface.pattern,
            surface.period,
            surface.angle,
            surface.shift,
            self.coordinates,
        )

    def paint(self, canvas: Canvas, surface: Surface | Colour, material: Material) -> None:
        """Paint the body, darker towards its right edge as if the room threw less light there."""
        if isinstance(surface, Surface):
            surface = self.wrapped(surface)
        shape = self.shape
        canvas.fill(shape, surface, material, self.relief)
        left, bottom, right, top = shape.bounds
        shade = Shape(
            lambda x, y: np.float32(self.x) + self.width(y) * np.float32(0.98) - x,
            (left, bottom, right, top),
        )
        canvas.shadow(shade, 0.16 * self.widest + 0.02, 0.22, clip=canvas.cover(shape))

    def paint_mouth(self, canvas: Canvas, inside: Colour, rim: Colour, thickness: float, material: Material) -> None:
        """Paint the open top: the rim, and the inside, which is dark towards the viewer's side."""
        outer = self.disc_at(self.top, self.lip)
        inner = ellipse(self.x, self.top, max(self.lip - thickness, 0.004), max((self.lip - thickness) * TILT, 0.003))
        canvas.fill(outer, rim, material)
        canvas.fill(inner, darker(inside, 0.35), material)
        canvas.shadow(inner.moved(-self.lip * 0.3, 0.0), self.lip * 0.35, 0.4, clip=canvas.cover(inner))


def _monotone(heights: np.ndarray, widths: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Interpolate by the monotone cubic of Fritsch and Carlson (1980), with Brodlie's weighted harmonic slopes."""
    h = np.diff(heights)
    d = np.diff(widths) / h
    m = np.zeros_like(widths)
    same = d[:-1] * d[1:] > 0
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        harmonic = (w1 + w2) / (w1 / d[:-1] + w2 / d[1:])
    m[1:-1] = np.where(same, harmonic, 0.0)
    m[0], m[-1] = d[0], d[-1]
    i = np.clip(np.searchsorted(heights, at, side="right") - 1, 0, len(h) - 1)
    t = (at - heights[i]) / h[i]
    return np.asarray(
        (2 * t**3 - 3 * t**2 + 1) * widths[i]
        + (t**3 - 2 * t**2 + t) * h[i] * m[i]
        + (-2 * t**3 + 3 * t**2) * widths[i + 1]
        + (t**3 - t**2) * h[i] * m[i + 1]
    )
