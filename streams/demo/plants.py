"""How potted plants are drawn."""

from __future__ import annotations

import numpy as np

from streams.demo.canvas import CERAMIC, MATTE, Canvas, rounded
from streams.demo.palette import COLOURS, PAPER, Colour, darker, lighter, mixed
from streams.demo.patterns import Surface
from streams.demo.revolved import Revolved
from streams.demo.scenes import FLOOR, stand
from streams.demo.shapes import ellipse, leaf, smooth_path, stroke
from streams.demo.style import Style


def plant(canvas: Canvas, style: Style) -> None:
    """form: height of the leaves, pot's width, pot's height, sort of plant, how many leaves, pot's taper."""
    pot_height = style.between(2, 0.38, 0.58)
    width = style.between(1, 0.26, 0.40)
    top = FLOOR + pot_height
    pot = Revolved(
        [(FLOOR, width * style.between(5, 0.60, 0.95)), (top - 0.10, width * 0.98), (top, width)], straight=True
    )
    stand(canvas, -width * 0.8, width * 0.8, depth=width * 0.2)
    rng = np.random.default_rng(style.seed)
    pot.paint(canvas, style.surface, style.finish)
    pot.paint_mouth(canvas, (0.30, 0.21, 0.15), lighter(style.base, 0.15), 0.03, style.finish)
    sorts = (_blades, _bush, _fronds, _cactus)
    sorts[min(3, int(style.form[3] * 4))](canvas, style, top - 0.01, width, rng)


_GREENS: tuple[Colour, ...] = tuple(
    mixed(COLOURS["forest"], other, share)
    for other, share in (((0.45, 0.62, 0.30), 0.25), ((0.45, 0.62, 0.30), 0.55), ((0.15, 0.35, 0.28), 0.5))
)


def _blades(canvas: Canvas, style: Style, top: float, width: float, rng: np.random.Generator) -> None:
    """Upright blades with a pale edge, as a snake plant has."""
    count = 7 + int(style.form[4] * 6)
    reach = style.between(0, 0.70, 1.02)
    for i in range(count):
        share = (i * 0.618 + 0.2) % 1 - 0.5
        root = (share * width * 0.8, top - 0.03 - 0.03 * (i / count))
        length = reach * (1 - 0.75 * share * share) * (0.72 + 0.28 * float(rng.random())) * (1.05 - 0.35 * i / count)
        blade = leaf(root, length, 0.15, np.pi / 2 - share * 0.75)
        canvas.fill(blade, (0.78, 0.78, 0.42), MATTE)
        green = Surface(_GREENS[i % 3], darker(_GREENS[2], 0.3), PAPER, "zigzag", 0.12, coordinates=None)
        canvas.fill(blade.grown(-0.016), green, MATTE, rounded(0.05, 0.6))


def _bush(canvas: Canvas, style: Style, top: float, width: float, rng: np.random.Generator) -> None:
    """Broad glossy leaves all around a stem, as a rubber plant has."""
    count = 12 + int(style.form[4] * 8)
    reach = style.between(0, 0.55, 0.82)
    for dx in (-0.05, 0.05):
        canvas.fill(stroke([(dx, top - 0.04), (dx * 2.4, top + reach * 0.8)], 0.035), (0.36, 0.30, 0.20), MATTE)
    for i in range(count):
        share = i / (count - 1)
        side = -1 if i % 2 else 1
        height = top + reach * (0.95 - 0.80 * share)
        angle = np.pi / 2 - side * (0.35 + 1.05 * share + 0.2 * float(rng.random()))
        size = 0.40 + 0.12 * float(rng.random())
        _veined(canvas, (side * 0.05 * share, height - 0.12), size, size * 0.50, angle, _GREENS[(i * 2) % 3])


def _fronds(canvas: Canvas, style: Style, top: float, width: float, rng: np.random.Generator) -> None:
    """Arching fronds of many narrow leaflets, as a palm has."""
    count = 7 + int(style.form[4] * 3)
    reach = style.between(0, 0.75, 1.05)
    for i in range(count):
        share = ((i * 0.618 + 0.11) % 1) * 2 - 1
        length = reach * (0.85 + 0.15 * float(rng.random()))
        droop = 0.25 + 0.45 * abs(share)
        path = [
            (share * length * 0.72 * t, top - 0.02 + length * t * (1.05 - droop * t * (0.6 + abs(share) * 0.7)))
            for t in (0.0, 0.25, 0.5, 0.75, 1.0)
        ]
        spine = smooth_path(path, 2)
        green = _GREENS[i % 3]
        canvas.fill(stroke(spine, 0.022, 0.008), darker(green, 0.2), MATTE)
        for j in range(2, len(spine)):
            (ax, ay), (bx, by) = spine[j - 1], spine[j]
            angle = float(np.arctan2(by - ay, bx - ax))
            size = 0.25 - 0.012 * j
            canvas.fill(
                leaf((bx, by), size, 0.050, angle + 0.55) | leaf((bx, by), size, 0.050, angle - 0.55), green, MATTE
            )


def _cactus(canvas: Canvas, style: Style, top: float, width: float, rng: np.random.Generator) -> None:
    """A ribbed column with arms."""
    height = style.between(0, 0.55, 0.95)
    thick = 0.24 + 0.08 * style.form[4]
    ribs = Surface(_GREENS[1], darker(_GREENS[2], 0.12), PAPER, "stripes", 0.085)
    column = stroke([(0, top - 0.02), (0, top + height - thick / 2)], thick)
    arms = [
        stroke(
            smooth_path(
                [(0, top + height * a), (s * 0.28, top + height * a), (s * 0.28, top + height * (a + 0.34))], 3
            ),
            0.13,
        )
        for s, a in ((-1, 0.30), (1, 0.46))
    ]
    for arm in arms[: 1 + int(style.form[4] * 1.99)]:
        canvas.fill(arm, ribs, MATTE, rounded(0.065))
    canvas.fill(column, ribs, MATTE, rounded(thick / 2))
    spines = Surface((1, 1, 1), (1, 1, 1), (1, 1, 1), "plain")
    for i in range(12):
        x, y = thick * 0.36 * (((i * 0.618) % 1) * 2 - 1), top + 0.06 + (height - 0.14) * i / 12
        canvas.fill(ellipse(x, y, 0.010, 0.010), spines)
    if style.seed % 2:
        for angle in (0.5, 1.2, 1.94, 2.6):
            canvas.fill(leaf((0, top + height - 0.03), 0.13, 0.07, angle), COLOURS["coral"], MATTE, rounded(0.03, 0.5))


def _veined(
    canvas: Canvas, root: tuple[float, float], length: float, width: float, angle: float, green: Colour
) -> None:
    """Paint one broad leaf with its midrib and a soft shadow on what is below."""
    blade = leaf(root, length, width, angle)
    canvas.shadow(blade.moved(0.015, -0.02), 0.03, 0.22)
    canvas.fill(blade, green, CERAMIC, rounded(width * 0.45, 0.55))
    tip = (root[0] + length * 0.94 * float(np.cos(angle)), root[1] + length * 0.94 * float(np.sin(angle)))
    canvas.fill(stroke([root, tip], 0.014, 0.004), lighter(green, 0.3), MATTE)
