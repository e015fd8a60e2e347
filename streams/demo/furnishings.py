"""How lamps, chairs and cushions are drawn."""

from __future__ import annotations

import numpy as np

from streams.demo.canvas import CLOTH, LEATHER, MATTE, METAL, WOOD, Canvas, rough, rounded
from streams.demo.palette import BLACK, Colour, darker, lighter, mixed
from streams.demo.patterns import Surface
from streams.demo.revolved import Revolved
from streams.demo.scenes import FLOOR, stand
from streams.demo.shapes import blob, box, disc, ellipse, polygon, stroke
from streams.demo.style import Style

_WARM: Colour = (1.0, 0.86, 0.58)


def lamp(canvas: Canvas, style: Style) -> None:
    """form: height, shade's width, shade's taper, shade's height, foot (ball, stick, drum, tripod), foot's width."""
    top = FLOOR + style.between(0, 1.22, 1.46)
    wide = style.between(1, 0.36, 0.54)
    narrow = wide * style.between(2, 0.42, 1.0)
    low = top - style.between(3, 0.40, 0.62)
    canvas.glow(0, (top + low) / 2, 1.15, _WARM, 0.55)
    foot = min(3, int(style.form[4] * 4))
    girth = style.between(5, 0.0, 1.0)
    stand(canvas, -0.26, 0.26, depth=0.055)
    if foot == 3:
        for x in (-0.30 - 0.08 * girth, 0.30 + 0.08 * girth, 0.02):
            y = FLOOR + (0.03 if abs(x) > 0.1 else -0.03)
            leg = stroke([(x * 0.12, low - 0.02), (x, y)], 0.050, 0.034)
            canvas.fill(leg, style.wood, WOOD, rounded(0.025))
        canvas.fill(disc(0, low - 0.06, 0.055), style.metal, METAL, rounded(0.05))
    else:
        stem = Revolved([(FLOOR + 0.02, 0.022), (low + 0.05, 0.022)])
        stem.paint(canvas, style.metal, METAL)
        _foot(canvas, style, foot, girth, low)
    shade = Revolved([(low, wide), (top, narrow)], straight=True)
    shade.paint(canvas, _glowing(style.surface), CLOTH)
    clip = canvas.cover(shade.shape)
    light = ellipse(0, low + (top - low) * 0.42, wide * 0.55, (top - low) * 0.38)
    canvas.shadow(light, wide * 0.5, 0.42, clip=clip, tint=lighter(mixed(style.base, _WARM, 0.65), 0.25))
    canvas.fill(shade.disc_at(top), lighter(mixed(style.base, _WARM, 0.6), 0.45), CLOTH)
    canvas.fill(shade.disc_at(top).outline(0.012), darker(style.base, 0.1), CLOTH)
    canvas.glow(0, low + (top - low) * 0.4, 0.42, _WARM, 0.30)


def _glowing(surface: Surface) -> Surface:
    """Return the surface as it looks with a bulb behind it."""
    base, accent, second = (mixed(c, _WARM, 0.22) for c in (surface.base, surface.accent, surface.second))
    return Surface(base, accent, second, surface.pattern, surface.period)


def _foot(canvas: Canvas, style: Style, sort: int, girth: float, low: float) -> None:
    room = low - FLOOR
    colour = style.trim
    if sort == 0:
        r = 0.20 + 0.09 * girth
        body = Revolved(
            [
                (FLOOR, r * 0.55),
                (FLOOR + 0.03, r * 0.62),
                (FLOOR + room * 0.36, r),
                (FLOOR + room * 0.78, r * 0.22),
                (low - 0.03, 0.035),
            ]
        )
    elif sort == 1:
        body = Revolved(
            [
                (FLOOR, 0.23 + 0.05 * girth),
                (FLOOR + 0.03, 0.23 + 0.05 * girth),
                (FLOOR + 0.06, 0.06),
                (FLOOR + 0.16, 0.026),
            ]
        )
        colour = style.metal
    else:
        r = 0.13 + 0.10 * girth
        body = Revolved([(FLOOR, r), (FLOOR + room * 0.70, r), (FLOOR + room * 0.74, r * 0.9)], straight=True)
    body.paint(canvas, colour, METAL if sort == 1 else style.finish)
    if sort == 2:
        canvas.fill(body.disc_at(body.top), lighter(colour, 0.2), MATTE)


def chair(canvas: Canvas, style: Style) -> None:
    """form: back's height, width, back (slats, pad, shell), legs' splay, arms (from .55 on), seat's thickness."""
    width = style.between(1, 0.33, 0.46)
    seat = FLOOR + 0.60
    top = seat + style.between(0, 0.55, 0.86)
    splay = style.between(3, 0.0, 0.14)
    thick = style.between(5, 0.10, 0.20)
    arms = style.form[4] > 0.55
    upholstered = style.form[2] > 0.36
    legs: Colour = style.wood if style.tone % 4 else BLACK
    stand(canvas, -width - splay, width + splay, FLOOR + 0.02, 0.13)
    for side in (-1, 1):
        back_leg = stroke(
            [(side * width * 0.78, seat), (side * (width * 0.82 + splay * 0.6), FLOOR + 0.14)], 0.055, 0.036
        )
        canvas.fill(back_leg, darker(legs, 0.25), WOOD, rounded(0.027))
    _back(canvas, style, width, seat, top, legs)
    if arms:
        for side in (-1, 1):
            rail = stroke([(side * width * 1.02, seat + 0.34), (side * (width * 1.14), seat + 0.30)], 0.075)
            post = stroke([(side * width * 1.10, seat + 0.30), (side * width * 1.02, seat - 0.08)], 0.055)
            canvas.fill(post, legs, WOOD, rounded(0.027))
            canvas.fill(rail, style.surface.mean if upholstered else legs, style.finish, rounded(0.036))
    front = width * 1.06
    shape = polygon(
        [(-width * 0.88, seat + 0.16), (width * 0.88, seat + 0.16), (front, seat - 0.02), (-front, seat - 0.02)]
    ).grown(0.03)
    edge = box(-front - 0.03, seat - 0.02 - thick, front + 0.03, seat + 0.01, 0.05)
    for side in (-1, 1):
        leg = stroke([(side * width * 0.94, seat - 0.06), (side * (width * 0.94 + splay), FLOOR)], 0.066, 0.042)
        canvas.fill(leg, legs, WOOD, rounded(0.033))
    if upholstered:
        canvas.fill(edge, darker(style.surface.mean, 0.12), style.finish, rounded(0.07))
        canvas.fill(shape, style.surface, style.finish, rounded(0.10, 0.6))
    else:
        canvas.fill(edge, darker(legs, 0.1), WOOD, rounded(0.04))
        canvas.fill(shape, style.surface, CLOTH, rounded(0.06, 0.5))
    canvas.shadow(box(-width * 0.9, seat + 0.12, width * 0.9, seat + 0.2), 0.06, 0.22, clip=canvas.cover(shape))


def _back(canvas: Canvas, style: Style, width: float, seat: float, top: float, legs: Colour) -> None:
    sort = style.form[2]
    if sort <= 0.36:
        for side in (-1, 1):
            canvas.fill(
                stroke([(side * width * 0.84, seat), (side * width * 0.90, top)], 0.070, 0.055),
                legs,
                WOOD,
                rounded(0.03),
            )
        count = 2 + int(sort / 0.36 * 2.99)
        for i in range(count):
            y = top - 0.06 - i * (top - seat - 0.16) / count
            slat = box(-width * 0.86, y - 0.055, width * 0.86, y + 0.045, 0.03)
            canvas.fill(slat, style.base, WOOD, rounded(0.03, 0.6))
    elif sort <= 0.68:
        for side in (-1, 1):
            canvas.fill(
                stroke([(side * width * 0.72, seat), (side * width * 0.78, top - 0.2)], 0.060),
                legs,
                WOOD,
                rounded(0.03),
            )
        pad = box(-width * 0.96, seat + 0.26, width * 0.96, top, 0.14)
        canvas.fill(pad, style.surface, style.finish, rounded(0.10))
    else:
        half = width * 1.02
        shell = blob(
            [
                (-half * 0.9, seat),
                (-half, seat + 0.3),
                (-half * 0.82, top - 0.06),
                (0, top + 0.03),
                (half * 0.82, top - 0.06),
                (half, seat + 0.3),
                (half * 0.9, seat),
            ],
            4,
        )
        canvas.fill(shell, style.surface, style.finish, rounded(0.14))
        clip = canvas.cover(shell)
        for x in (-0.33, 0.0, 0.33):
            seam = stroke([(x * width, seat + 0.1), (x * width * 1.15, top - 0.12)], 0.02)
            canvas.shadow(seam, 0.022, 0.22, clip=clip)


def cushion(canvas: Canvas, style: Style) -> None:
    """form: width, height, how far the sides draw in, corners, piping (from .5 on), how it leans."""
    w, h = style.between(0, 0.58, 0.76), style.between(1, 0.44, 0.68)
    pinch = style.between(2, 0.02, 0.10)
    y = FLOOR + h + 0.02
    corner = style.between(3, 0.90, 1.0)
    half = [
        (0.0, -h + pinch),
        (w * 0.6, -h + pinch * 0.5),
        (w * corner, -h),
        (w - pinch * 0.8, -h * 0.4),
        (w - pinch, 0.0),
        (w - pinch * 0.8, h * 0.4),
        (w * corner, h),
        (w * 0.6, h - pinch * 0.5),
        (0.0, h - pinch),
    ]
    outline = blob([*half, *((-px, py) for px, py in reversed(half[1:-1]))], 3)
    lean = (style.form[5] - 0.5) * 0.16
    shape = outline.turned(lean).moved(0, y)
    stand(canvas, -w * 0.92, w * 0.92, FLOOR, 0.11)
    folds = canvas.noise(5, 5) + canvas.noise(11, 11) * np.float32(0.45)
    relief = rough(rounded(min(w, h) * 0.72, 0.75), folds, 0.20, canvas)
    surface = style.surface
    canvas.fill(
        shape,
        Surface(surface.base, surface.accent, surface.second, surface.pattern, surface.period, lean),
        CLOTH if style.material != "leather" else LEATHER,
        relief,
    )
    if style.form[4] > 0.5:
        canvas.fill(shape.grown(0.012).outline(0.026), style.trim, CLOTH, rounded(0.013))
