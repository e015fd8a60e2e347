"""How vases, mugs, bottles and potted plants are drawn."""

from __future__ import annotations

import numpy as np

from streams.demo.canvas import CERAMIC, GLASS, MATTE, METAL, Canvas, rounded
from streams.demo.palette import COLOURS, PAPER, WOODS, Colour, darker, lighter, mixed
from streams.demo.patterns import Surface
from streams.demo.revolved import TILT, Revolved
from streams.demo.scenes import FLOOR, stand
from streams.demo.shapes import Shape, ellipse, leaf, smooth_path, stroke
from streams.demo.style import Style


def vase(canvas: Canvas, style: Style) -> None:
    """form: height, belly, where the belly sits, neck, lip, handles (from .7 on)."""
    top = FLOOR + style.between(0, 0.85, 1.42)
    belly = style.between(1, 0.24, 0.52)
    neck = belly * style.between(3, 0.22, 0.80)
    height = top - FLOOR
    middle = FLOOR + height * style.between(2, 0.28, 0.62)
    shoulder = middle + (top - middle) * 0.72
    body = Revolved(
        [
            (FLOOR, belly * 0.52),
            (FLOOR + 0.03, belly * 0.58),
            (middle, belly),
            (shoulder, neck),
            (top - 0.05, neck * 1.02),
            (top, neck * style.between(4, 1.02, 1.45)),
        ]
    )
    stand(canvas, -belly * 0.7, belly * 0.7, depth=belly * 0.2)
    if style.form[5] > 0.7:
        for side in (-1, 1):
            path = smooth_path(
                [
                    (side * neck * 0.95, shoulder + (top - shoulder) * 0.35),
                    (side * (neck + 0.17), shoulder + (top - shoulder) * 0.30),
                    (side * (belly * 0.75 + 0.16), (middle + shoulder) / 2 + 0.04),
                    (side * belly * 0.90, middle + (shoulder - middle) * 0.18),
                ],
                3,
            )
            canvas.fill(stroke(path, 0.075), style.base, style.finish, rounded(0.035))
    body.paint(canvas, style.surface, style.finish)
    body.paint_mouth(canvas, style.base, lighter(style.base, 0.12), 0.028, style.finish)


def mug(canvas: Canvas, style: Style) -> None:
    """form: height, width, taper, size of the handle, belly, shape of the handle."""
    height = style.between(0, 0.62, 0.98)
    width = style.between(1, 0.34, 0.48)
    foot = FLOOR + 0.06
    top = foot + height
    low = width * style.between(2, 0.62, 1.0)
    bulge = max(low, width) * style.between(4, 0.0, 0.10)
    shift = -0.10
    body = Revolved(
        [
            (foot, low * 0.90),
            (foot + 0.05, low + bulge * 0.3),
            (foot + height * 0.45, (low + width) / 2 + bulge),
            (top, width),
        ],
        x=shift,
    )
    stand(canvas, shift - low, shift + low, foot, low * 0.22)
    reach = style.between(3, 0.20, 0.33)
    upper, lower = foot + height * 0.80, foot + height * style.between(5, 0.16, 0.36)
    start = float(body.width(np.array([upper], np.float32))[0]) + shift - 0.03
    end = float(body.width(np.array([lower], np.float32))[0]) + shift - 0.03
    square = style.form[5] > 0.5
    lean = 0.98 if square else 0.62
    path = smooth_path(
        [
            (start, upper),
            (start + reach * lean, upper + 0.02),
            (start + reach + 0.02, (upper + lower) / 2 + 0.03),
            (end + reach * lean * 0.95, lower - 0.01),
            (end, lower),
        ],
        5,
    )
    canvas.fill(stroke(path, 0.092, 0.085), style.surface.mean, style.finish, rounded(0.045))
    body.paint(canvas, style.surface, style.finish)
    body.paint_mouth(canvas, lighter(style.base, 0.5), lighter(style.base, 0.2), 0.03, style.finish)
    if style.seed % 3 == 0:
        drink = ellipse(shift, top - 0.022, (width - 0.045), (width - 0.045) * TILT * 0.82)
        canvas.fill(drink, (0.33, 0.20, 0.13), MATTE)


def bottle(canvas: Canvas, style: Style) -> None:
    """form: height, width, shoulder, neck, label, cap (cork, screw, steel)."""
    height = style.between(0, 1.05, 1.48)
    width = style.between(1, 0.19, 0.32)
    neck = width * style.between(3, 0.30, 0.52)
    top = FLOOR + height
    shoulder = FLOOR + height * style.between(2, 0.50, 0.68)
    neck_at = shoulder + min(0.30, (top - shoulder) * 0.62)
    body = Revolved(
        [
            (FLOOR, width * 0.90),
            (FLOOR + 0.05, width),
            (shoulder, width),
            (neck_at, neck),
            (top - 0.06, neck * 0.98),
            (top - 0.05, neck * 1.12),
            (top, neck * 1.12),
        ]
    )
    stand(canvas, -width, width, depth=width * 0.2)
    glass = style.material == "glass"
    if glass:
        canvas.shadow(ellipse(width * 0.9, FLOOR - 0.01, width * 0.8, width * 0.14), 0.08, 0.28, tint=style.base)
        body.paint(canvas, darker(style.base, 0.12), GLASS)
        _glass_lights(canvas, body, style.base, shoulder)
    else:
        body.paint(canvas, style.surface, style.finish)
    low = FLOOR + height * style.between(4, 0.10, 0.20)
    high = low + (shoulder - low) * 0.78
    if glass or style.pattern == "plain":
        inner = style.surface if glass else Surface(PAPER, style.trim, style.base, "bands", 0.11)
        label = Revolved([(low, width * 1.004), (high, width * 1.004)])
        if style.pattern == "plain":
            label.paint(canvas, PAPER, MATTE)
            stripe = Revolved([(low + (high - low) * 0.66, width * 1.005), (low + (high - low) * 0.80, width * 1.005)])
            stripe.paint(canvas, style.trim, MATTE)
            line = Revolved([(low + (high - low) * 0.28, width * 1.005), (low + (high - low) * 0.33, width * 1.005)])
            line.paint(canvas, style.base, MATTE)
        else:
            label.paint(canvas, inner, MATTE)
    _cap(canvas, style, top, neck)


def _cap(canvas: Canvas, style: Style, top: float, neck: float) -> None:
    if style.form[5] < 0.34:
        cap = Revolved([(top - 0.02, neck * 0.86), (top + 0.07, neck * 0.98)], straight=True)
        cap.paint(canvas, WOODS[0], MATTE)
        canvas.fill(cap.disc_at(cap.top), lighter(WOODS[0], 0.2), MATTE)
    elif style.form[5] < 0.67:
        cap = Revolved([(top - 0.03, neck * 1.22), (top + 0.08, neck * 1.22)], straight=True)
        cap.paint(canvas, style.trim, CERAMIC)
        canvas.fill(cap.disc_at(cap.top), lighter(style.trim, 0.25), MATTE)
    else:
        cap = Revolved([(top - 0.03, neck * 1.25), (top + 0.09, neck * 1.10)], straight=True)
        cap.paint(canvas, style.metal, METAL)
        canvas.fill(cap.disc_at(cap.top), lighter(style.metal, 0.3), MATTE)


def _glass_lights(canvas: Canvas, body: Revolved, colour: Colour, shoulder: float) -> None:
    """Let light come through the middle and glance along the sides."""
    shape = body.shape
    clip = canvas.cover(shape)
    middle = Shape(
        lambda x, y: np.abs(x - np.float32(0.25) * body.width(y)) - body.width(y) * np.float32(0.40),
        shape.bounds,
    )
    canvas.shadow(middle, 0.14, 0.45, clip=clip, tint=lighter(colour, 0.45))
    streak = stroke([(-body.widest * 0.62, FLOOR + 0.12), (-body.widest * 0.62, shoulder - 0.05)], 0.035, 0.02)
    canvas.shadow(streak, 0.015, 0.75, clip=clip, tint=(1.0, 1.0, 1.0))


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
    reach = style.between(0, 0.75, 1.15)
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
    reach = style.between(0, 0.60, 0.98)
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
            canvas.fill(leaf((bx, by), size, 0.050, angle + 0.55) | leaf((bx, by), size, 0.050, angle - 0.55), green, MATTE)


def _cactus(canvas: Canvas, style: Style, top: float, width: float, rng: np.random.Generator) -> None:
    """A ribbed column with arms."""
    height = style.between(0, 0.55, 0.95)
    thick = 0.24 + 0.08 * style.form[4]
    ribs = Surface(_GREENS[1], darker(_GREENS[2], 0.12), PAPER, "stripes", 0.085)
    column = stroke([(0, top - 0.02), (0, top + height - thick / 2)], thick)
    arms = [
        stroke(smooth_path([(0, top + height * a), (s * 0.28, top + height * a), (s * 0.28, top + height * (a + 0.34))], 3), 0.13)
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
