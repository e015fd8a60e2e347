"""Plane shapes as signed distance fields: negative inside, positive outside, in units of the picture.

The picture spans -1 to 1 both ways, x to the right and y up.  Coordinates come as two arrays that broadcast against
each other (x as [1, W], y as [H, 1]), so that what depends on one of them alone costs a row and not a picture.
Distances need only be right near the outline (for smooth edges) and smooth inside (for soft relief).
The formulas are those of Inigo Quilez' collection of two-dimensional distance functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
"""Values over a window of the picture (float32 throughout; the type is wider, as NumPy cannot say so of a sum)."""

Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """A region of the plane: its distance field, and a box (left, bottom, right, top) outside of which it is empty."""

    distance: Callable[[Field, Field], Field]
    bounds: Box

    def __or__(self, other: Shape) -> Shape:
        return Shape(lambda x, y: np.minimum(self.distance(x, y), other.distance(x, y)), _hull(self, other))

    def __and__(self, other: Shape) -> Shape:
        left, bottom, right, top = self.bounds
        bounds = (
            max(left, other.bounds[0]),
            max(bottom, other.bounds[1]),
            min(right, other.bounds[2]),
            min(top, other.bounds[3]),
        )
        return Shape(lambda x, y: np.maximum(self.distance(x, y), other.distance(x, y)), bounds)

    def __sub__(self, other: Shape) -> Shape:
        return Shape(lambda x, y: np.maximum(self.distance(x, y), -other.distance(x, y)), self.bounds)

    def grown(self, by: float) -> Shape:
        """Return the shape with its outline moved outwards; a negative number moves it inwards."""
        left, bottom, right, top = self.bounds
        return Shape(lambda x, y: self.distance(x, y) - np.float32(by), (left - by, bottom - by, right + by, top + by))

    def outline(self, width: float) -> Shape:
        """Return a band of the given width along the inside of the outline."""
        half = width / 2
        return Shape(lambda x, y: np.abs(self.distance(x, y) + np.float32(half)) - np.float32(half), self.bounds)

    def moved(self, dx: float, dy: float) -> Shape:
        left, bottom, right, top = self.bounds
        return Shape(
            lambda x, y: self.distance(x - np.float32(dx), y - np.float32(dy)),
            (left + dx, bottom + dy, right + dx, top + dy),
        )

    def turned(self, angle: float, about: Point = (0.0, 0.0)) -> Shape:
        """Return the shape turned counter-clockwise by `angle` (radians) about a point."""
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        px, py = about
        left, bottom, right, top = self.bounds
        xs = [px + (x - px) * cos - (y - py) * sin for x in (left, right) for y in (bottom, top)]
        ys = [py + (x - px) * sin + (y - py) * cos for x in (left, right) for y in (bottom, top)]

        def distance(x: Field, y: Field) -> Field:
            u, v = x - np.float32(px), y - np.float32(py)
            return self.distance(u * cos + v * sin + np.float32(px), v * cos - u * sin + np.float32(py))

        return Shape(distance, (float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys))))

    def mirrored(self) -> Shape:
        """Return the right half (x >= 0) together with its mirror image."""
        _, bottom, right, top = self.bounds
        return Shape(lambda x, y: self.distance(np.abs(x), y), (-right, bottom, right, top))


def _hull(one: Shape, other: Shape) -> Box:
    a, b = one.bounds, other.bounds
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def disc(x: float, y: float, radius: float) -> Shape:
    """A circle's inside."""

    def distance(u: Field, v: Field) -> Field:
        return np.sqrt((u - np.float32(x)) ** 2 + (v - np.float32(y)) ** 2) - np.float32(radius)

    return Shape(distance, (x - radius, y - radius, x + radius, y + radius))


def ellipse(x: float, y: float, rx: float, ry: float) -> Shape:
    """An ellipse; the distance is of first order, which is exact at the outline."""

    def distance(u: Field, v: Field) -> Field:
        a, b = (u - np.float32(x)) / np.float32(rx), (v - np.float32(y)) / np.float32(ry)
        k = np.sqrt(a * a + b * b)
        slope = np.sqrt((a / np.float32(rx)) ** 2 + (b / np.float32(ry)) ** 2)
        return np.asarray(k * (k - 1) / np.maximum(slope, 1e-4), dtype=np.float32)

    return Shape(distance, (x - rx, y - ry, x + rx, y + ry))


def box(left: float, bottom: float, right: float, top: float, corner: float = 0.0) -> Shape:
    """A rectangle, its corners rounded with the given radius."""
    cx, cy = (left + right) / 2, (bottom + top) / 2
    corner = min(corner, (right - left) / 2, (top - bottom) / 2)
    hx, hy = (right - left) / 2 - corner, (top - bottom) / 2 - corner

    def distance(u: Field, v: Field) -> Field:
        a = np.abs(u - np.float32(cx)) - np.float32(hx)
        b = np.abs(v - np.float32(cy)) - np.float32(hy)
        outside = np.sqrt(np.maximum(a, 0) ** 2 + np.maximum(b, 0) ** 2)
        return np.asarray(outside + np.minimum(np.maximum(a, b), 0) - np.float32(corner), dtype=np.float32)

    return Shape(distance, (left, bottom, right, top))


def stroke(points: Sequence[Point], width: float, end_width: float | None = None) -> Shape:
    """A line through the points with round ends; its width goes evenly over to `end_width`."""
    end_width = width if end_width is None else end_width
    steps = len(points) - 1
    widths = [width + (end_width - width) * i / steps for i in range(steps + 1)]

    def distance(u: Field, v: Field) -> Field:
        nearest: Field | None = None
        for i in range(steps):
            (ax, ay), (bx, by) = points[i], points[i + 1]
            dx, dy = bx - ax, by - ay
            along = ((u - np.float32(ax)) * np.float32(dx) + (v - np.float32(ay)) * np.float32(dy)) / np.float32(
                max(dx * dx + dy * dy, 1e-9)
            )
            along = np.clip(along, 0, 1)
            x, y = u - np.float32(ax) - along * np.float32(dx), v - np.float32(ay) - along * np.float32(dy)
            half = np.float32(widths[i] / 2) + along * np.float32((widths[i + 1] - widths[i]) / 2)
            d = np.sqrt(x * x + y * y) - half
            nearest = d if nearest is None else np.minimum(nearest, d)
        assert nearest is not None, "a stroke needs two points"
        return nearest

    reach = max(width, end_width) / 2
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return Shape(distance, (min(xs) - reach, min(ys) - reach, max(xs) + reach, max(ys) + reach))


def polygon(points: Sequence[Point]) -> Shape:
    """A closed polygon, convex or not."""

    def distance(u: Field, v: Field) -> Field:
        squared: Field | None = None
        inside = np.zeros(np.broadcast_shapes(u.shape, v.shape), dtype=bool)
        for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
            dx, dy = np.float32(bx - ax), np.float32(by - ay)
            x, y = u - np.float32(ax), v - np.float32(ay)
            along = np.clip((x * dx + y * dy) / np.maximum(dx * dx + dy * dy, np.float32(1e-9)), 0, 1)
            d = (x - along * dx) ** 2 + (y - along * dy) ** 2
            squared = d if squared is None else np.minimum(squared, d)
            side = x * dy - y * dx
            inside ^= ((v >= np.float32(ay)) != (v >= np.float32(by))) & ((side > 0) == (by < ay))
        assert squared is not None, "a polygon needs points"
        far = np.sqrt(squared)
        return np.asarray(np.where(inside, -far, far), dtype=np.float32)

    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return Shape(distance, (min(xs), min(ys), max(xs), max(ys)))


def smooth_path(points: Sequence[Point], steps: int = 4, closed: bool = False) -> list[Point]:
    """Return a finer path along the Catmull-Rom curve through the points."""
    if closed:
        knots = [points[-1], *points, points[0], points[1]]
    else:
        knots = [points[0], *points, points[-1]]
    path: list[Point] = []
    for i in range(1, len(knots) - 2):
        p0, p1, p2, p3 = (np.asarray(knots[i + k]) for k in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            at = 0.5 * (
                2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
            )
            path.append((float(at[0]), float(at[1])))
    if not closed:
        path.append(points[-1])
    return path


def blob(points: Sequence[Point], steps: int = 4) -> Shape:
    """The region within a smooth closed curve through the points."""
    return polygon(smooth_path(points, steps, closed=True))


def leaf(root: Point, length: float, width: float, angle: float) -> Shape:
    """A pointed oval (two equal arcs) that grows from its root in the direction of `angle` (radians)."""
    half, bulge = length / 2, max(width / 2, 1e-3)
    radius = (half * half + bulge * bulge) / (2 * bulge)
    offset = radius - bulge
    cx, cy = root[0] + half, root[1]

    def distance(u: Field, v: Field) -> Field:
        a, b = np.abs(v - np.float32(cy)), u - np.float32(cx)
        round_part = np.sqrt((a + np.float32(offset)) ** 2 + b * b) - np.float32(radius)
        return np.asarray(np.maximum(round_part, np.abs(b) - np.float32(half)), dtype=np.float32)

    flat = Shape(distance, (root[0], root[1] - bulge, root[0] + length, root[1] + bulge))
    return flat.turned(angle, root)
