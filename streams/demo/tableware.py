"""How vases, mugs and bottles are drawn."""

from __future__ import annotations

import numpy as np

from streams.demo.canvas import CERAMIC, GLASS, MATTE, METAL, Canvas, rounded
from streams.demo.palette import PAPER, WOODS, Colour, darker, lighter
from streams.demo.patterns import Surface
from streams.demo.revolved import TILT, Revolved
from streams.demo.scenes import FLOOR, stand
from streams.demo.shapes import Shape, ellipse, smooth_path, stroke
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
    shift = -0.14
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
