"""Where a product is photographed: studios, a wooden table, a room, walls; and the shadows it throws there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streams.demo.canvas import WOOD, Canvas
from streams.demo.palette import WOODS, Colour, darker, lighter, mixed
from streams.demo.shapes import Field, Shape, box, ellipse

FLOOR = -0.68
"""Where things stand: the y of the middle of their foot."""

_HORIZON = -0.42
"""Where floor or table meets the wall."""

TONES: tuple[Colour, ...] = (
    (0.945, 0.925, 0.895),
    (0.885, 0.905, 0.910),
    (0.905, 0.850, 0.815),
    (0.845, 0.875, 0.835),
    (0.800, 0.830, 0.860),
    (0.925, 0.885, 0.790),
    (0.850, 0.815, 0.835),
    (0.760, 0.755, 0.740),
)
"""Pale wall paints."""


def paint_scene(canvas: Canvas, name: str, tone: int, hanging: bool) -> None:
    """Cover the canvas with a scene in one of the tones; a hanging thing gets a wall without a floor."""
    (_HANGING if hanging else _STANDING)[name](canvas, TONES[tone % len(TONES)], tone)


def _light_falls(canvas: Canvas, strength: float) -> None:
    """Let the upper left be brighter and the corners darker, as from a soft lamp beside the camera."""
    x, y = canvas.x, canvas.y
    away = (x + np.float32(0.35)) ** 2 + (y - np.float32(0.3)) ** 2
    canvas.colours *= 1 + np.float32(strength) * (np.float32(0.35) - np.float32(0.42) * away)


def _across(canvas: Canvas, top: Colour, bottom: Colour, at: float, over: float) -> None:
    """Fill with two colours that go over into each other around the height `at`."""
    share = np.clip((np.float32(at + over) - canvas.y) / np.float32(2 * over), 0, 1)
    share = share * share * (3 - 2 * share)
    one = np.array(top, dtype=np.float32)[:, None, None]
    canvas.colours[:] = one + (np.array(bottom, dtype=np.float32)[:, None, None] - one) * share[None]


def _studio(canvas: Canvas, tone: Colour, number: int) -> None:
    _across(canvas, (0.975, 0.972, 0.968), (0.925, 0.922, 0.918), _HORIZON, 0.34)
    _light_falls(canvas, 0.035)


def _sweep(canvas: Canvas, tone: Colour, number: int) -> None:
    _across(canvas, tone, mixed(darker(tone, 0.10), (0.9, 0.75, 0.6), 0.08), _HORIZON, 0.42)
    _light_falls(canvas, 0.11)


def _table(canvas: Canvas, tone: Colour, number: int) -> None:
    canvas.colours[:] = np.array(tone, dtype=np.float32)[:, None, None]
    _light_falls(canvas, 0.16)
    wood = WOODS[number % 3]
    top = Shape(
        lambda x, y: np.broadcast_to(y - np.float32(_HORIZON), np.broadcast_shapes(x.shape, y.shape)),
        (-1, -1, 1, _HORIZON),
    )
    canvas.fill(top, wood, WOOD)
    below = canvas.y[:, 0] < _HORIZON
    rows = canvas.y[below]
    # Planks run away from the viewer: their width grows with the distance below the horizon.
    depth = (np.float32(_HORIZON) - rows) + np.float32(0.55)
    plank = canvas.x / depth * np.float32(0.9) + np.float32(0.37 * number)
    board = np.floor(plank)
    seam = np.minimum(plank - board, board + 1 - plank) * depth
    tint = np.sin(board * np.float32(12.9) + number) * np.float32(0.045)
    grain = canvas.noise(46, 5)[below] * np.float32(0.035) + canvas.noise(14, 3)[below] * np.float32(0.03)
    shade = (1 + tint + grain) * (1 - np.float32(0.35) * np.exp(-((seam / np.float32(0.008)) ** 2)))
    fade = 1 + np.float32(0.10) * (np.float32(_HORIZON) - rows)
    canvas.colours[:, below] *= (shade * fade)[None]
    canvas.shadow(box(-1.2, _HORIZON - 0.015, 1.2, _HORIZON + 0.005), 0.03, 0.25)


def _corner(canvas: Canvas, tone: Colour, number: int) -> None:
    canvas.colours[:] = np.array(tone, dtype=np.float32)[:, None, None]
    edge = 0.52 if number % 2 else -0.58
    side = 1.0 if edge > 0 else -1.0
    foot = _HORIZON + 0.02

    def right_wall(x: Field, y: Field) -> Field:
        return np.broadcast_to((np.float32(edge) - x) * np.float32(side), np.broadcast_shapes(x.shape, y.shape))

    wall = Shape(right_wall, (-1, -1, 1, 1))
    canvas.fill(wall, darker(tone, 0.11 if side > 0 else 0.05))
    canvas.shadow(box(edge - 0.01, -1, edge + 0.01, 1), 0.10, 0.12)
    _light_falls(canvas, 0.12)

    def floor(x: Field, y: Field) -> Field:
        # Towards the viewer the side wall's foot comes forward.
        slant = np.maximum((x - np.float32(edge)) * np.float32(side), 0) * np.float32(0.55)
        return (y - np.float32(foot) + slant) * np.float32(0.9)

    ground = Shape(floor, (-1, -1, 1, foot))
    canvas.shadow(ground.moved(0, 0.02), 0.07, 0.14)
    canvas.fill(ground.grown(0.055), lighter(tone, 0.55))
    canvas.fill(ground, mixed(WOODS[number % 4 if number % 4 < 3 else 0], (0.7, 0.66, 0.62), 0.35), WOOD)
    below = canvas.y[:, 0] < foot - 0.01
    rows = canvas.y[below]
    board = np.floor((np.float32(foot) - rows + np.float32(0.09)) ** np.float32(0.7) * np.float32(9))
    tint = np.sin(board * np.float32(7.7)) * np.float32(0.03) + canvas.noise(5, 60)[below] * np.float32(0.035)
    mask = ground.distance(canvas.x, rows) < 0
    canvas.colours[:, below] *= 1 + (tint * mask)[None]


def _plaster(canvas: Canvas, tone: Colour, number: int) -> None:
    colour = darker(tone, 0.06)
    _across(canvas, colour, mixed(darker(colour, 0.12), (0.8, 0.72, 0.62), 0.2), _HORIZON, 0.03)
    _light_falls(canvas, 0.16)
    texture = canvas.noise(9, 9) * np.float32(0.022) + canvas.noise(38, 38) * np.float32(0.018)
    canvas.colours *= 1 + texture


def _plaster_wall(canvas: Canvas, tone: Colour, number: int) -> None:
    canvas.colours[:] = np.array(darker(tone, 0.06), dtype=np.float32)[:, None, None]
    _light_falls(canvas, 0.16)
    texture = canvas.noise(9, 9) * np.float32(0.022) + canvas.noise(38, 38) * np.float32(0.018)
    canvas.colours *= 1 + texture


def _white_wall(canvas: Canvas, tone: Colour, number: int) -> None:
    canvas.colours[:] = np.array((0.965, 0.962, 0.957), dtype=np.float32)[:, None, None]
    _light_falls(canvas, 0.05)


def _tinted_wall(canvas: Canvas, tone: Colour, number: int) -> None:
    _across(canvas, tone, darker(tone, 0.08), -0.2, 1.0)
    _light_falls(canvas, 0.14)


def _brick(canvas: Canvas, tone: Colour, number: int) -> None:
    """A whitewashed brick wall."""
    canvas.colours[:] = np.array(lighter(tone, 0.15), dtype=np.float32)[:, None, None]
    rows = canvas.y * np.float32(5.5)
    row = np.floor(rows)
    columns = canvas.x * np.float32(2.4) + np.float32(0.5) * (row - 2 * np.floor(row / 2))
    column = np.floor(columns)
    a = np.minimum(rows - row, row + 1 - rows) / np.float32(5.5)
    b = np.minimum(columns - column, column + 1 - columns) / np.float32(2.4)
    joint = np.exp(-((np.minimum(a, b) / np.float32(0.012)) ** 2))
    tint = np.sin(row * np.float32(9.1) + column * np.float32(17.3)) * np.float32(0.025)
    edge = np.clip(np.float32(0.02) - (rows - row) / np.float32(5.5), 0, np.float32(0.02)) * 4
    canvas.colours *= 1 + tint - np.float32(0.10) * joint - edge + canvas.noise(30, 30) * np.float32(0.018)
    _light_falls(canvas, 0.14)


def _panel(canvas: Canvas, tone: Colour, number: int) -> None:
    """A wall with upright boards and a rail below."""
    canvas.colours[:] = np.array(tone, dtype=np.float32)[:, None, None]
    boards = canvas.x * np.float32(3.1) + np.float32(0.25)
    seam = np.abs(boards - np.floor(boards) - np.float32(0.5)) / np.float32(3.1)
    canvas.colours *= 1 - np.float32(0.12) * np.exp(-((seam / np.float32(0.010)) ** 2))
    _light_falls(canvas, 0.14)


_STANDING: dict[str, Callable[[Canvas, Colour, int], None]] = {
    "studio": _studio,
    "sweep": _sweep,
    "table": _table,
    "corner": _corner,
    "wall": _plaster,
}
_HANGING: dict[str, Callable[[Canvas, Colour, int], None]] = {
    "studio": _white_wall,
    "sweep": _tinted_wall,
    "table": _panel,
    "corner": _brick,
    "wall": _plaster_wall,
}
SCENES = tuple(_STANDING)


def stand(canvas: Canvas, left: float, right: float, y: float = FLOOR, depth: float | None = None) -> None:
    """Throw the shadow of a thing whose foot spans left to right: dark where it touches, wide and soft to the right."""
    middle, half = (left + right) / 2, (right - left) / 2
    deep = half * 0.2 if depth is None else depth
    canvas.shadow(ellipse(middle + half * 0.38, y + 0.005, half * 1.25, deep * 1.15 + 0.01), 0.10, 0.20)
    canvas.shadow(ellipse(middle + half * 0.10, y, half * 1.06, deep * 1.05 + 0.005), 0.045, 0.34)


def hang(canvas: Canvas, shape: Shape, away: float = 0.035) -> None:
    """Throw the shadow of a flat thing on the wall `away` behind it."""
    canvas.shadow(shape.moved(away * 1.3, -away * 1.5), away * 2.2, 0.24)
    canvas.shadow(shape.moved(away * 0.35, -away * 0.4), away * 0.8, 0.24)
