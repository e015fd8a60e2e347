"""What a surface is printed with: a pattern is two weights (first and second accent colour) for each point.

Patterns repeat with period 1 in both coordinates and know how wide a pixel is (`edge`, in periods), so that they are
smooth however small they are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streams.demo.palette import Colour, mixed
from streams.demo.shapes import Field

Weights = tuple[Field | float, Field | float]
Pattern = Callable[[Field, Field, float], Weights]
Coordinates = Callable[[Field, Field], tuple[Field, Field]]


@dataclass(frozen=True, slots=True)
class Surface:
    """A printed surface.

    `period` is the size of one repeat in units of the picture, `angle` (radians) turns the print, `shift` moves it by
    shares of a repeat, and `coordinates` lays it around a body (None: flat).
    """

    base: Colour
    accent: Colour
    second: Colour
    pattern: str = "plain"
    period: float = 0.2
    angle: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    coordinates: Coordinates | None = None

    def colour_at(self, x: Field, y: Field, pixel: float) -> Field:
        """Return float32[3, h, w] (or [3, 1, 1] for one colour) of colours, 0..1."""
        base = np.array(self.base, dtype=np.float32)[:, None, None]
        if self.pattern == "plain":
            return base
        u, v = (x, y) if self.coordinates is None else self.coordinates(x, y)
        if self.pattern in WHOLE:
            first, second = WHOLE[self.pattern](u, v, pixel)
        else:
            cos, sin = np.float32(np.cos(self.angle) / self.period), np.float32(np.sin(self.angle) / self.period)
            du, dv = np.float32(self.shift[0]), np.float32(self.shift[1])
            if self.angle == 0:
                first, second = PATTERNS[self.pattern](u * cos + du, v * cos + dv, pixel / self.period)
            else:
                first, second = PATTERNS[self.pattern](
                    u * cos + v * sin + du, v * cos - u * sin + dv, pixel / self.period
                )
        out = base + (np.array(self.accent, dtype=np.float32)[:, None, None] - base) * first
        if isinstance(second, np.ndarray):
            out = out + (np.array(self.second, dtype=np.float32)[:, None, None] - out) * second
        return np.asarray(out, dtype=np.float32)

    @property
    def mean(self) -> Colour:
        """A colour that stands for the whole, for trims and small parts."""
        return self.base if self.pattern == "plain" else mixed(self.base, self.accent, 0.15)


def within(distance: Field, edge: float) -> Field:
    """Return 1 inside (distance < 0), 0 outside, and a ramp one pixel wide between."""
    return np.clip(np.float32(0.5) - distance / np.float32(edge), 0, 1)


def _cell(u: Field) -> Field:
    """Return where a coordinate is within its repeat, -0.5..0.5."""
    return u - np.floor(u) - np.float32(0.5)


def _staggered(u: Field, v: Field) -> tuple[Field, Field, Field]:
    """Return the place within the cell of a grid whose every other row is moved by half, and the cell's parity."""
    row = np.floor(v)
    odd = row - 2 * np.floor(row / 2)
    return _cell(u + odd * np.float32(0.5)), v - row - np.float32(0.5), odd


def stripes(u: Field, v: Field, edge: float) -> Weights:
    """Upright stripes, wide ones and between them thin ones in the second colour."""
    wide = within(np.abs(_cell(u)) - np.float32(0.22), edge)
    thin = within(np.abs(_cell(u + np.float32(0.5))) - np.float32(0.045), edge)
    return wide, thin


def bands(u: Field, v: Field, edge: float) -> Weights:
    """Level stripes."""
    return stripes(v, u, edge)


def dots(u: Field, v: Field, edge: float) -> Weights:
    """Dots in rows, every other row moved by half."""
    a, b, _ = _staggered(u, v)
    return within(np.sqrt(a * a + b * b) - np.float32(0.25), edge), 0.0


def checks(u: Field, v: Field, edge: float) -> Weights:
    """Gingham: where stripes and bands cross, the accent colour is full."""
    one = within(np.abs(_cell(u)) - np.float32(0.25), edge)
    other = within(np.abs(_cell(v)) - np.float32(0.25), edge)
    return (one + other) * np.float32(0.5), 0.0


def zigzag(u: Field, v: Field, edge: float) -> Weights:
    """Chevrons, wide and thin by turns."""
    bent = v + np.abs(_cell(u)) * np.float32(0.9)
    return (
        within(np.abs(_cell(bent)) - np.float32(0.2), edge * 1.4),
        within(np.abs(_cell(bent + np.float32(0.5))) - np.float32(0.07), edge * 1.4),
    )


def floral(u: Field, v: Field, edge: float) -> Weights:
    """Five-petalled flowers with an eye, and two small leaves below each."""
    a, b, odd = _staggered(u, v)
    r = np.sqrt(a * a + b * b)
    petals = r - np.float32(0.30) * (np.float32(0.74) + np.float32(0.26) * np.cos(5 * np.arctan2(b, a) + odd))
    eye = r - np.float32(0.085)
    x, y = np.abs(a) - np.float32(0.33), b + np.float32(0.30)
    leaves = np.sqrt(
        (x * np.float32(0.8) + y * np.float32(0.6)) ** 2 + 6 * (y * np.float32(0.8) - x * np.float32(0.6)) ** 2
    )
    return within(petals, edge), np.maximum(within(eye, edge), within(leaves - np.float32(0.13), edge))


def leaves(u: Field, v: Field, edge: float) -> Weights:
    """Sprigs: slender leaves that lean left and right by turns, with a vein."""
    a, b, odd = _staggered(u, v)
    lean = (odd - np.float32(0.5)) * np.float32(1.3)
    cos, sin = np.cos(lean), np.sin(lean)
    p, q = a * cos + b * sin, b * cos - a * sin
    width = np.float32(0.155) * np.maximum(1 - (q / np.float32(0.46)) ** 2, 0)
    vein = np.maximum(np.abs(p) - np.float32(0.012), np.abs(q) - np.float32(0.36))
    return within(np.abs(p) - width, edge) * (width > 0), within(vein, edge)


def diamonds(u: Field, v: Field, edge: float) -> Weights:
    """Argyle: diamonds with lines across in the second colour."""
    a, b = np.abs(_cell(u)), np.abs(_cell(v))
    line = np.abs(_cell(u + v)), np.abs(_cell(u - v))
    return within(a + b - np.float32(0.36), edge), within(np.minimum(*line) - np.float32(0.03), edge)


def speckles(u: Field, v: Field, edge: float) -> Weights:
    """Flecks of two colours at hashed places, as glaze and terrazzo have them."""
    return _flecks(u * 2, v * 2, edge * 2, 17.0), _flecks(u * 2 + 5.3, v * 2 + 1.7, edge * 2, 29.0)


def _flecks(u: Field, v: Field, edge: float, salt: float) -> Field:
    column, row = np.floor(u), np.floor(v)
    hashed = np.sin(column * np.float32(12.9898) + row * np.float32(78.233) + np.float32(salt)) * np.float32(437.585)
    hashed = hashed - np.floor(hashed)
    other = hashed * np.float32(57.31) - np.floor(hashed * np.float32(57.31))
    a = u - column - np.float32(0.3) - np.float32(0.4) * hashed
    b = v - row - np.float32(0.3) - np.float32(0.4) * other
    return within(np.sqrt(a * a + b * b) - np.float32(0.05) - np.float32(0.17) * other, edge)


def gradient(u: Field, v: Field, edge: float) -> Weights:
    """The accent colour comes in evenly from the bottom."""
    t = np.clip((np.float32(0.55) - v) / np.float32(1.1), 0, 1)
    return t * t * (3 - 2 * t), 0.0


def dipped(u: Field, v: Field, edge: float) -> Weights:
    """The lower part has the accent colour, below a thin line in the second."""
    return within(v + np.float32(0.22), edge), within(np.abs(v + np.float32(0.19)) - np.float32(0.018), edge)


PATTERNS: dict[str, Pattern] = {
    "stripes": stripes,
    "bands": bands,
    "dots": dots,
    "checks": checks,
    "zigzag": zigzag,
    "floral": floral,
    "leaves": leaves,
    "diamonds": diamonds,
    "speckles": speckles,
}
"""The patterns that repeat."""

WHOLE: dict[str, Pattern] = {"gradient": gradient, "dipped": dipped}
"""The patterns that are laid once over the whole of a thing, in units of the picture."""
