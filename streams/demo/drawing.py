"""Pictures of products, drawn: a style in, pixels out.  The same style gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.demo import clothing, furnishings, leatherware, plants, tableware, wall_pieces
from streams.demo.canvas import Canvas
from streams.demo.scenes import paint_scene
from streams.demo.style import Style

SIZE = 224


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of product is drawn, whether it hangs on a wall, and how close the camera is, aimed at what height."""

    paint: Callable[[Canvas, Style], None]
    hanging: bool
    zoom: float
    middle: float


KINDS: dict[str, Kind] = {
    "lamp": Kind(furnishings.lamp, False, 1.17, 0.04),
    "chair": Kind(furnishings.chair, False, 1.18, -0.06),
    "clock": Kind(wall_pieces.clock, True, 1.15, 0.00),
    "picture": Kind(wall_pieces.picture, True, 1.12, 0.00),
    "cushion": Kind(furnishings.cushion, False, 1.15, -0.12),
    "vase": Kind(tableware.vase, False, 1.17, 0.02),
    "mug": Kind(tableware.mug, False, 1.42, -0.20),
    "bottle": Kind(tableware.bottle, False, 1.14, 0.07),
    "plant": Kind(plants.plant, False, 1.14, 0.02),
    "shoe": Kind(leatherware.shoe, False, 1.12, -0.08),
    "bag": Kind(leatherware.bag, False, 1.16, -0.04),
    "shirt": Kind(clothing.shirt, True, 1.14, 0.02),
    "dress": Kind(clothing.dress, True, 1.06, 0.00),
}


def draw(style: Style, size: int = SIZE) -> NDArray[np.uint8]:
    """Return the picture as uint8[size, size, 3], RGB."""
    kind = KINDS[style.kind]
    canvas = Canvas(size, np.random.default_rng(style.seed), kind.zoom, kind.middle)
    paint_scene(canvas, style.scene, style.tone, kind.hanging)
    kind.paint(canvas, style)
    return canvas.pixels()
