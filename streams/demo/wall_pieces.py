"""How wall clocks and framed pictures are drawn."""

from __future__ import annotations

import numpy as np

from streams.demo.canvas import CLOTH, METAL, WOOD, Canvas, rounded
from streams.demo.palette import BLACK, PAPER, darker, lighter, mixed
from streams.demo.patterns import Surface
from streams.demo.scenes import hang
from streams.demo.shapes import Field, Shape, box, disc, ellipse, polygon, stroke
from streams.demo.style import Style


def clock(canvas: Canvas, style: Style) -> None:
    """form: size, outline (round, rounded square, octagon), rim, marks, hands, face (paper, or the main colour)."""
    r = style.between(0, 0.56, 0.78)
    sort = min(2, int(style.form[1] * 3))
    if sort == 0:
        outline = disc(0, 0, r)
    elif sort == 1:
        outline = box(-r * 0.92, -r * 0.92, r * 0.92, r * 0.92, r * 0.30)
    else:
        outline = polygon(
            [(r * 1.03 * float(np.cos(a)), r * 1.03 * float(np.sin(a))) for a in (np.arange(8) + 0.5) * np.pi / 4]
        )
    rim = style.between(2, 0.05, 0.17)
    hang(canvas, outline, 0.05)
    wooden = style.material == "wood"
    canvas.fill(outline, style.wood if wooden else style.base, style.finish, rounded(rim * 0.6))
    face = outline.grown(-rim)
    bright = style.form[5] < 0.6
    ground = (
        style.surface
        if not bright
        else Surface(PAPER, mixed(PAPER, style.base, 0.5), PAPER, style.pattern, style.period)
    )
    canvas.fill(face, ground, CLOTH)
    canvas.shadow(outline.grown(-rim + 0.02) - face.moved(0.03, -0.04), 0.04, 0.28, clip=canvas.cover(face))
    ink = BLACK if bright else PAPER
    inner = r - rim
    for i in range(12):
        angle = i * np.pi / 6
        quarter = i % 3 == 0
        c, s = float(np.cos(angle)), float(np.sin(angle))
        if style.form[3] < 0.35:
            canvas.fill(disc(c * inner * 0.82, s * inner * 0.82, 0.038 if quarter else 0.020), ink)
        elif style.form[3] < 0.75 or quarter:
            start = 0.66 if quarter else 0.76
            canvas.fill(
                stroke(
                    [(c * inner * start, s * inner * start), (c * inner * 0.88, s * inner * 0.88)],
                    0.036 if quarter else 0.016,
                ),
                ink,
            )
    hand_width = style.between(4, 0.026, 0.055)
    for angle, length, width in ((2.62, 0.46, hand_width * 1.25), (0.52, 0.70, hand_width)):
        end = (inner * length * float(np.cos(angle)), inner * length * float(np.sin(angle)))
        tail = (-end[0] * 0.16, -end[1] * 0.16)
        hand = stroke([tail, end], width, width * 0.6)
        canvas.shadow(hand.moved(0.012, -0.018), 0.02, 0.25)
        canvas.fill(hand, ink)
    second = stroke([(0.05, 0.10 * inner), (-0.22 * inner, -0.62 * inner)], 0.012)
    canvas.fill(second, style.trim)
    canvas.fill(disc(0, 0, 0.042), style.metal, METAL, rounded(0.04))


def picture(canvas: Canvas, style: Style) -> None:
    """form: width, height, frame, mat, motif, its composition."""
    w, h = style.between(0, 0.46, 0.78), style.between(1, 0.50, 0.80)
    frame = box(-w, -h, w, h)
    thick = style.between(2, 0.05, 0.12)
    hang(canvas, frame, 0.05)
    wood = style.material == "wood"
    canvas.fill(frame, style.wood if wood else style.metal, WOOD if wood else METAL, rounded(thick, 0.75))
    sheet = frame.grown(-thick)
    canvas.fill(sheet, PAPER, CLOTH)
    mat = style.between(3, 0.0, 0.14)
    art = sheet.grown(-mat)
    _motif(canvas, style, art)
    canvas.shadow(frame.grown(-thick + 0.02) - sheet.moved(0.02, -0.03), 0.03, 0.25, clip=canvas.cover(sheet))


def _motif(canvas: Canvas, style: Style, art: Shape) -> None:
    left, bottom, right, top = art.bounds
    w, h = (right - left) / 2, (top - bottom) / 2
    t = style.form[5]
    sort = min(3, int(style.form[4] * 4))
    pale = lighter(style.base, 0.72)
    if style.pattern != "plain":
        canvas.fill(art, style.surface, CLOTH)
        return
    canvas.fill(art, pale if sort != 3 else lighter(style.trim, 0.55), CLOTH)
    clip = canvas.cover(art)
    if sort == 0:  # hills under a sun
        canvas.fill(disc(w * (0.8 * t - 0.4), h * 0.34, min(w, h) * 0.30), style.trim, CLOTH, clip=clip)
        for i, colour in enumerate((lighter(style.base, 0.35), style.base, darker(style.base, 0.3))):
            canvas.fill(_hill(art, h * (0.02 - 0.28 * i), h * 0.13, 2.6 / w, t * 3 + i * 1.9), colour, CLOTH, clip=clip)
    elif sort == 1:  # nested arches
        size = min(w * 0.82, h * 0.7)
        for i, colour in enumerate((style.base, pale, style.trim, pale, darker(style.base, 0.25))):
            r = size * (1 - 0.2 * i)
            arch = disc(0, h * 0.1 * (1 - t), r) | box(-r, bottom, r, h * 0.1 * (1 - t))
            canvas.fill(arch, colour, CLOTH, clip=clip)
    elif sort == 2:  # blocks of colour
        split = h * (0.5 * t - 0.1)
        m = min(w, h) * 0.12
        canvas.fill(box(left + m, split + m / 2, right - m, top - m, 0.03), style.base, CLOTH)
        canvas.fill(box(left + m, bottom + m, right - m, split - m / 2, 0.03), style.trim, CLOTH)
    else:  # a branch with round leaves
        canvas.fill(stroke([(0, bottom), (w * 0.08, top * 0.7)], 0.02), darker(style.base, 0.3), CLOTH, clip=clip)
        for i in range(7):
            y = bottom + h * (0.35 + 0.22 * i)
            side = -1 if i % 2 else 1
            spot = ellipse(side * w * 0.33, 0, w * 0.27, w * 0.16).turned(side * (0.5 + 0.3 * t)).moved(0, y)
            canvas.fill(spot, style.base if i % 3 else lighter(style.base, 0.25), CLOTH, clip=clip)


def _hill(art: Shape, rise: float, swell: float, pace: float, shift: float) -> Shape:
    """What lies below a wavy line, within the bounds of the art."""

    def distance(x: Field, y: Field) -> Field:
        line = np.float32(rise) + np.float32(swell) * np.sin(x * np.float32(pace) + np.float32(shift))
        return (y - line) * np.float32(0.85)

    return Shape(distance, art.bounds)
