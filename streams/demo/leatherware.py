"""How shoes and bags are drawn."""

from __future__ import annotations

import numpy as np

from streams.demo.canvas import CLOTH, LEATHER, MATTE, METAL, Canvas, rough, rounded
from streams.demo.palette import PAPER, Colour, darker, lighter
from streams.demo.patterns import Surface
from streams.demo.scenes import FLOOR, stand
from streams.demo.shapes import Field, Shape, blob, box, disc, ellipse, polygon, smooth_path, stroke
from streams.demo.style import Style


def shoe(canvas: Canvas, style: Style) -> None:
    """form: height of the shaft, sole, toe, length, trim (stripe, patch, none), heel."""
    ankle = style.between(0, 0.44, 1.02)
    sole = style.between(1, 0.08, 0.17)
    toe = style.between(2, 0.18, 0.28)
    half = style.between(3, 0.70, 0.80)
    heel = style.between(5, 0.0, 0.10)
    floor = FLOOR + 0.16
    base = floor + sole
    top = base + ankle
    opening = -half + 0.46
    upper = blob(
        [
            (-half + 0.06, base - 0.03),
            (-half + 0.01, base + 0.20),
            (-half + 0.07, base + ankle * 0.62),
            (-half + 0.03, top),
            (-half + 0.20, top - 0.025),
            (opening, top - 0.02),
            (opening + 0.11, base + ankle * 0.70),
            (0.08, base + 0.33),
            (half - 0.36, base + toe + 0.07),
            (half - 0.14, base + toe + 0.02),
            (half - 0.01, base + toe * 0.62),
            (half - 0.01, base + 0.02),
            (0.0, base - 0.03),
        ],
        3,
    )
    stand(canvas, -half, half, floor, 0.07)
    rubber = box(-half - 0.025 - heel * 0.3, floor, half + 0.03, base + 0.05, 0.06)

    def sprung(x: Field, y: Field) -> Field:
        # The toe lifts off the floor a little.
        return rubber.distance(x, y - np.float32(0.45) * np.maximum(x - np.float32(0.40), 0) ** 2)

    bottom = Shape(sprung, (rubber.bounds[0], rubber.bounds[1], rubber.bounds[2], rubber.bounds[3] + 0.1))
    canvas.fill(upper, style.surface, style.finish, rounded(0.20, 0.85))
    clip = canvas.cover(upper)
    _toe_and_heel(canvas, style, clip, half, base, toe, ankle)
    _laces(canvas, style, clip, opening, base, ankle, top)
    white = lighter(style.second_colour, 0.6)
    canvas.fill(bottom, white, MATTE, rounded(0.05, 0.7))
    line = [(-half - 0.1, base - 0.01), (0.40, base - 0.01), (half + 0.1, base + 0.06)]
    canvas.fill(stroke(line, 0.016), style.trim, MATTE, clip=canvas.cover(bottom))


def _toe_and_heel(
    canvas: Canvas, style: Style, clip: Field, half: float, base: float, toe: float, ankle: float
) -> None:
    trim = style.form[4]
    if trim < 0.6:
        cap = ellipse(half - 0.06, base, 0.27, toe + 0.08)
        canvas.fill(
            cap, style.trim if trim < 0.3 else lighter(style.base, 0.3), style.finish, rounded(0.18, 0.8), clip=clip
        )
        counter = ellipse(-half, base, 0.24, 0.34)
        canvas.fill(counter, style.trim, style.finish, rounded(0.20, 0.6), clip=clip)
    if 0.3 < trim < 0.9:
        for i in range(1 + int(trim * 2.9)):
            x = -0.22 + 0.13 * i
            band = stroke([(x + 0.12, base), (x - 0.08, base + 0.42)], 0.052, 0.045)
            canvas.fill(band, style.trim, style.finish, rounded(0.03, 0.5), clip=clip)
    collar = stroke([(-half, base + ankle - 0.005), (-half + 0.5, base + ankle - 0.03)], 0.085)
    canvas.fill(collar, darker(style.base, 0.28), CLOTH, clip=clip)


def _laces(canvas: Canvas, style: Style, clip: Field, opening: float, base: float, ankle: float, top: float) -> None:
    start, end = (opening + 0.0, top - 0.11), (0.20, base + 0.30)
    tongue = stroke([(start[0] + 0.02, start[1] + 0.05), end], 0.16, 0.12)
    canvas.fill(tongue, darker(style.base, 0.18), style.finish, rounded(0.06, 0.5), clip=clip)
    count = 4 + int(style.form[0] * 3)
    for i in range(count):
        t = (i + 0.5) / count
        x, y = start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t
        lace = stroke([(x - 0.09, y - 0.045), (x + 0.06, y + 0.035)], 0.030)
        canvas.shadow(lace.moved(0.006, -0.012), 0.014, 0.3, clip=clip)
        canvas.fill(lace, PAPER, CLOTH, rounded(0.015, 0.6))


def bag(canvas: Canvas, style: Style) -> None:
    """form: width, height, taper, sort (tote, flap, bucket), handle, corners."""
    w, h = style.between(0, 0.46, 0.70), style.between(1, 0.62, 0.92)
    sort = min(2, int(style.form[3] * 3))
    if sort == 1:
        h *= 0.82
    taper = style.between(2, -0.10, 0.12)
    bottom, top = FLOOR + 0.02, FLOOR + 0.02 + h
    corner = style.between(5, 0.04, 0.16)
    low, high = w + taper * 0.5, w - taper
    body = polygon(
        [
            (-low + corner, bottom + corner),
            (low - corner, bottom + corner),
            (high - corner, top - corner),
            (-high + corner, top - corner),
        ]
    ).grown(corner)
    stand(canvas, -low * 0.95, low * 0.95, FLOOR + 0.02, 0.09)
    leather = style.finish if style.material == "leather" else LEATHER
    strap: Colour = darker(style.trim, 0.05)
    reach = style.between(4, 0.32, 0.62)
    half = high * (0.42 if sort == 0 else 0.66)
    arch = smooth_path(
        [
            (-half, top - 0.12),
            (-half * 0.95, top + reach * 0.55),
            (0, top + reach),
            (half * 0.95, top + reach * 0.55),
            (half, top - 0.12),
        ],
        5,
    )
    if sort == 0:
        canvas.fill(stroke(arch, 0.05).moved(0.03, 0.05), darker(strap, 0.35), leather, rounded(0.025))
    else:
        canvas.fill(stroke(arch, 0.06 if sort == 1 else 0.05), strap, leather, rounded(0.03))
    noise = canvas.noise(6, 5)
    canvas.fill(body, style.surface, style.finish, rough(rounded(0.16, 0.75), noise, 0.10, canvas))
    clip = canvas.cover(body)
    canvas.fill(body.grown(-0.035).outline(0.010), lighter(style.base, 0.35), CLOTH, opacity=0.55)
    if sort == 0:
        canvas.fill(stroke(arch, 0.055), strap, leather, rounded(0.028))
        for x in (-half, half):
            canvas.fill(box(x - 0.05, top - 0.22, x + 0.05, top - 0.08, 0.02), strap, leather, rounded(0.02))
            canvas.fill(disc(x, top - 0.17, 0.018), style.metal, METAL, rounded(0.018))
    elif sort == 1:
        _flap(canvas, style, body, clip, high, bottom, top, strap)
    else:
        canvas.fill(box(-1, bottom, 1, bottom + h * 0.24), strap, leather, rounded(0.10, 0.5), clip=clip)
        canvas.fill(box(-1, top - 0.10, 1, top), strap, leather, clip=clip)
        for x in np.linspace(-high * 0.7, high * 0.7, 5):
            canvas.fill(disc(float(x), top - 0.05, 0.022), style.metal, METAL, rounded(0.02))


def _flap(
    canvas: Canvas, style: Style, body: Shape, clip: Field, high: float, bottom: float, top: float, strap: Colour
) -> None:
    drop = (top - bottom) * 0.58
    flap = blob(
        [
            (-high, top - 0.01),
            (-high, top - drop * 0.5),
            (-high * 0.55, top - drop * 0.92),
            (0, top - drop),
            (high * 0.55, top - drop * 0.92),
            (high, top - drop * 0.5),
            (high, top - 0.01),
        ],
        4,
    )
    cover = flap & body.grown(0.01)
    canvas.shadow(flap.moved(0.01, -0.035), 0.05, 0.32, clip=clip)
    surface = Surface(style.base, style.trim, style.second_colour, style.pattern, style.period)
    canvas.fill(cover, surface, style.finish, rounded(0.12, 0.7))
    clasp = box(-0.075, top - drop - 0.05, 0.075, top - drop + 0.07, 0.02)
    canvas.shadow(clasp.moved(0.012, -0.018), 0.02, 0.3)
    canvas.fill(clasp, style.metal, METAL, rounded(0.025))
    for x in (-high * 0.66, high * 0.66):
        canvas.fill(disc(x, top - 0.07, 0.045).outline(0.018), style.metal, METAL, rounded(0.01))
