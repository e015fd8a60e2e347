"""How shirts and dresses are drawn."""

from __future__ import annotations

import numpy as np

from streams.demo.canvas import CLOTH, LEATHER, MATTE, METAL, Canvas, rough, rounded
from streams.demo.palette import darker, lighter
from streams.demo.scenes import hang
from streams.demo.shapes import Field, Point, box, disc, ellipse, polygon, smooth_path, stroke
from streams.demo.style import Style


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
        cuff: list[Point] = [
            (w + 0.04 + reach, top - 0.14 - reach * 0.85),
            (w + reach * 0.60, top - 0.30 - reach * 0.85),
        ]
    else:
        reach = 0.62 + 0.3 * (sleeve - 0.5)
        cuff = [(w + 0.34, top - 0.16 - reach), (w + 0.17, top - 0.22 - reach)]
    half: list[Point] = [
        (-0.5, top - 0.02),
        (neck, top),
        shoulder,
        *cuff,
        (w - 0.01, top - 0.46),
        (w + style.between(4, -0.03, 0.05), hem + 0.02),
        (-0.5, hem - 0.01),
    ]
    body = polygon(half).grown(0.015).mirrored()
    hang(canvas, body, 0.03)
    collar = style.form[3] > 0.66
    if not collar:
        back = ellipse(0, top - 0.015, neck + 0.005, 0.07)
        canvas.fill(back, darker(style.base, 0.38), CLOTH)
    vee = 0.33 < style.form[3] <= 0.66
    opening = (
        polygon([(-neck, top + 0.06), (neck, top + 0.06), (0.0, top - 0.30)])
        if vee
        else ellipse(0, top + 0.03, neck, 0.13 if not collar else 0.05)
    )
    front = body - opening
    canvas.fill(front, style.surface, CLOTH, rough(rounded(0.13, 0.7), _folded(canvas, 0.7), 0.16, canvas))
    clip, wider = canvas.cover(front), canvas.cover(front.grown(0.01))
    for side in (-1, 1):
        seam = smooth_path(
            [(side * (w - 0.01), top - 0.08), (side * (w - 0.045), top - 0.28), (side * (w - 0.015), top - 0.48)], 3
        )
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
        canvas.fill(
            disc(0, top - 0.18 - i * (top - hem - 0.26) / 5.5, 0.020),
            lighter(style.second_colour, 0.5),
            MATTE,
            rounded(0.02),
        )
    for side in (-1, 1):
        flap = polygon(
            [(0, top - 0.05), (side * 0.20, top + 0.06), (side * 0.25, top - 0.05), (side * 0.12, top - 0.18)]
        ).grown(0.01)
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
    half += [
        (waist, waist_at),
        (flare * 0.78, (waist_at + hem) / 2 - 0.05),
        (flare, hem + 0.06),
        (flare * 0.5, hem + 0.005),
        (-0.5, hem),
    ]
    body = polygon(half).grown(0.015).mirrored()
    hang(canvas, body, 0.03)
    depth = style.between(3, 0.08, 0.26)
    opening = (
        ellipse(0, top + 0.02, strap - 0.01, depth)
        if style.form[3] < 0.5
        else polygon([(-strap, top + 0.06), (strap, top + 0.06), (0.0, top - depth)])
    )
    canvas.fill(ellipse(0, top - 0.01, strap, 0.06), darker(style.base, 0.4), CLOTH)
    front = body - opening

    # Pleats fan out from the waist: folds of the angle, deeper towards the hem.
    fall = np.clip((np.float32(waist_at) - canvas.y) / np.float32(waist_at - hem), 0, 1)
    fan = canvas.x / (np.float32(waist) + fall * np.float32(flare - waist))
    pleats = np.sin(fan * np.float32(9.5) + canvas.noise(3, 3) * np.float32(1.4)) * fall * np.float32(0.42)
    folds = np.asarray(pleats + canvas.noise(8, 4) * np.float32(0.45), dtype=np.float32)
    canvas.fill(front, style.surface, CLOTH, rough(rounded(0.11, 0.7), folds, 0.17, canvas))
    clip, wider = canvas.cover(front), canvas.cover(front.grown(0.01))
    canvas.fill(
        opening.grown(0.022) - opening, style.trim if style.seed % 2 else darker(style.base, 0.15), CLOTH, clip=wider
    )
    if style.form[5] > 0.5:
        belt = box(-0.6, waist_at - 0.045, 0.6, waist_at + 0.045)
        canvas.fill(belt, style.trim, LEATHER, rounded(0.05, 0.5), clip=clip)
        canvas.fill(
            box(-0.05, waist_at - 0.05, 0.05, waist_at + 0.05, 0.015).outline(0.016), style.metal, METAL, rounded(0.01)
        )
    else:
        canvas.shadow(stroke([(-0.6, waist_at), (0.6, waist_at)], 0.006), 0.014, 0.3, clip=clip)
