"""How shoes, bags, shirts and dresses are drawn."""

from __future__ import annotations

import numpy as np

from streams.demo.canvas import CLOTH, LEATHER, MATTE, METAL, Canvas, rough, rounded
from streams.demo.palette import PAPER, Colour, darker, lighter
from streams.demo.patterns import Surface
from streams.demo.scenes import FLOOR, hang, stand
from streams.demo.shapes import Field, Point, Shape, blob, box, disc, ellipse, polygon, smooth_path, stroke
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
            (-half + 0.06, base - 0.03), (-half + 0.01, base + 0.20), (-half + 0.07, base + ankle * 0.62),
            (-half + 0.03, top), (-half + 0.20, top - 0.025), (opening, top - 0.02),
            (opening + 0.11, base + ankle * 0.70), (0.08, base + 0.33), (half - 0.36, base + toe + 0.07),
            (half - 0.14, base + toe + 0.02), (half - 0.01, base + toe * 0.62), (half - 0.01, base + 0.02), (0.0, base - 0.03),
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


def _toe_and_heel(canvas: Canvas, style: Style, clip: Field, half: float, base: float, toe: float, ankle: float) -> None:
    trim = style.form[4]
    if trim < 0.6:
        cap = ellipse(half - 0.06, base, 0.27, toe + 0.08)
        canvas.fill(cap, style.trim if trim < 0.3 else lighter(style.base, 0.3), style.finish, rounded(0.18, 0.8), clip=clip)
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
        [(-low + corner, bottom + corner), (low - corner, bottom + corner), (high - corner, top - corner), (-high + corner, top - corner)]
    ).grown(corner)
    stand(canvas, -low * 0.95, low * 0.95, FLOOR + 0.02, 0.09)
    leather = style.finish if style.material == "leather" else LEATHER
    strap: Colour = darker(style.trim, 0.05)
    reach = style.between(4, 0.32, 0.62)
    half = high * (0.42 if sort == 0 else 0.66)
    arch = smooth_path([(-half, top - 0.12), (-half * 0.95, top + reach * 0.55), (0, top + reach), (half * 0.95, top + reach * 0.55), (half, top - 0.12)], 5)
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


def _flap(canvas: Canvas, style: Style, body: Shape, clip: Field, high: float, bottom: float, top: float, strap: Colour) -> None:
    drop = (top - bottom) * 0.58
    flap = blob(
        [(-high, top - 0.01), (-high, top - drop * 0.5), (-high * 0.55, top - drop * 0.92), (0, top - drop), (high * 0.55, top - drop * 0.92), (high, top - drop * 0.5), (high, top - 0.01)],
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


def _folded(canvas: Canvas, softness: float) -> np.ndarray:
    """Return folds that run downwards."""
    return canvas.noise(9, 3) + canvas.noise(5, 5) * np.float32(softness)


def shirt(canvas: Canvas, style: Style) -> None:
    """form: body's width, length, sleeves (short to long), neck (round, vee, collar), fit, pocket or buttons."""
    w, long = style.between(0, 0.40, 0.50), style.between(1, 1.12, 1.36)
    top = 0.66
    hem = top - long
    sleeve = style.between(2, 0.0, 1.0)
    neck = 0.17
    shoulder = (w + 0.03, top - 0.09)
    if sleeve < 0.5:
        reach = 0.30 + 0.12 * sleeve
        cuff: list[Point] = [(w + 0.04 + reach, top - 0.14 - reach * 0.85), (w + reach * 0.60, top - 0.30 - reach * 0.85)]
    else:
        reach = 0.62 + 0.3 * (sleeve - 0.5)
        cuff = [(w + 0.34, top - 0.16 - reach), (w + 0.17, top - 0.22 - reach)]
    half: list[Point] = [
        (-0.5, top - 0.02), (neck, top), shoulder, *cuff, (w - 0.01, top - 0.46),
        (w + style.between(4, -0.03, 0.05), hem + 0.02), (-0.5, hem - 0.01),
    ]
    body = polygon(half).grown(0.015).mirrored()
    hang(canvas, body, 0.03)
    collar = style.form[3] > 0.66
    if not collar:
        back = ellipse(0, top - 0.015, neck + 0.005, 0.07)
        canvas.fill(back, darker(style.base, 0.38), CLOTH)
    vee = 0.33 < style.form[3] <= 0.66
    opening = (
        polygon([(-neck, top + 0.06), (neck, top + 0.06), (0.0, top - 0.30)]) if vee else ellipse(0, top + 0.03, neck, 0.13 if not collar else 0.05)
    )
    front = body - opening
    canvas.fill(front, style.surface, CLOTH, rough(rounded(0.13, 0.7), _folded(canvas, 0.7), 0.16, canvas))
    clip, wider = canvas.cover(front), canvas.cover(front.grown(0.01))
    for side in (-1, 1):
        seam = smooth_path([(side * (w - 0.01), top - 0.08), (side * (w - 0.045), top - 0.28), (side * (w - 0.015), top - 0.48)], 3)
        canvas.shadow(stroke(seam, 0.012), 0.016, 0.34, clip=clip)
    canvas.shadow(stroke([(-1, hem + 0.06), (1, hem + 0.06)], 0.006), 0.010, 0.20, clip=clip)
    ribbing = style.trim if style.pattern != "plain" or style.seed % 2 else darker(style.base, 0.12)
    if collar:
        _buttons(canvas, style, clip, top, hem)
    else:
        edge = opening.grown(0.04) - opening
        canvas.fill(edge, ribbing, CLOTH, rounded(0.02, 0.5), clip=wider)
        if style.form[5] > 0.6:
            pocket = box(0.12, top - 0.56, 0.32, top - 0.34, 0.02)
            canvas.shadow(pocket.moved(0.006, -0.012), 0.018, 0.25)
            canvas.fill(pocket, ribbing, CLOTH, rounded(0.02, 0.4))


def _buttons(canvas: Canvas, style: Style, clip: Field, top: float, hem: float) -> None:
    placket = box(-0.045, hem, 0.045, top - 0.02)
    canvas.shadow(placket.outline(0.006), 0.010, 0.22, clip=clip)
    for i in range(6):
        canvas.fill(disc(0, top - 0.18 - i * (top - hem - 0.26) / 5.5, 0.020), lighter(style.second_colour, 0.5), MATTE, rounded(0.02))
    for side in (-1, 1):
        flap = polygon([(0, top - 0.05), (side * 0.20, top + 0.06), (side * 0.25, top - 0.05), (side * 0.12, top - 0.18)]).grown(0.01)
        canvas.shadow(flap.moved(0.01, -0.02), 0.03, 0.3, clip=clip)
        canvas.fill(flap, style.surface, CLOTH, rounded(0.04, 0.5))


def dress(canvas: Canvas, style: Style) -> None:
    """form: length, flare, waist, neck, sleeves (none, cap, long), belt (from .5 on)."""
    top = 0.80
    hem = top - style.between(0, 1.22, 1.66)
    flare = style.between(1, 0.32, 0.74)
    waist_at = top - 0.56
    waist = style.between(2, 0.21, 0.29)
    sleeves = style.form[4]
    strap = 0.17 if sleeves < 0.33 else 0.15
    half: list[Point] = [(-0.5, top), (strap, top + 0.01), (0.30, top - 0.06)]
    if sleeves < 0.33:
        half += [(0.25, top - 0.10), (0.235, top - 0.26)]
    elif sleeves < 0.66:
        half += [(0.46, top - 0.20), (0.40, top - 0.30), (0.27, top - 0.26)]
    else:
        half += [(0.52, top - 0.62), (0.42, top - 0.66), (0.275, top - 0.27)]
    half += [(waist, waist_at), (flare * 0.78, (waist_at + hem) / 2 - 0.05), (flare, hem + 0.06), (flare * 0.5, hem + 0.005), (-0.5, hem)]
    body = polygon(half).grown(0.015).mirrored()
    hang(canvas, body, 0.03)
    depth = style.between(3, 0.08, 0.26)
    opening = ellipse(0, top + 0.02, strap - 0.01, depth) if style.form[3] < 0.5 else polygon([(-strap, top + 0.06), (strap, top + 0.06), (0.0, top - depth)])
    canvas.fill(ellipse(0, top - 0.01, strap, 0.06), darker(style.base, 0.4), CLOTH)
    front = body - opening

    # Pleats fan out from the waist: folds of the angle, deeper towards the hem.
    fall = np.clip((np.float32(waist_at) - canvas.y) / np.float32(waist_at - hem), 0, 1)
    fan = canvas.x / (np.float32(waist) + fall * np.float32(flare - waist))
    pleats = np.sin(fan * np.float32(9.5) + canvas.noise(3, 3) * np.float32(1.4)) * fall * np.float32(0.42)
    folds = np.asarray(pleats + canvas.noise(8, 4) * np.float32(0.45), dtype=np.float32)
    canvas.fill(front, style.surface, CLOTH, rough(rounded(0.11, 0.7), folds, 0.17, canvas))
    clip, wider = canvas.cover(front), canvas.cover(front.grown(0.01))
    canvas.fill(opening.grown(0.022) - opening, style.trim if style.seed % 2 else darker(style.base, 0.15), CLOTH, clip=wider)
    if style.form[5] > 0.5:
        belt = box(-0.6, waist_at - 0.045, 0.6, waist_at + 0.045)
        canvas.fill(belt, style.trim, LEATHER, rounded(0.05, 0.5), clip=clip)
        canvas.fill(box(-0.05, waist_at - 0.05, 0.05, waist_at + 0.05, 0.015).outline(0.016), style.metal, METAL, rounded(0.01))
    else:
        canvas.shadow(stroke([(-0.6, waist_at), (0.6, waist_at)], 0.006), 0.014, 0.3, clip=clip)
