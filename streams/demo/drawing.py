"""Pictures of products, drawn: a style in, pixels out.  The same style gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.demo import clothing, furnishings, tableware
from streams.demo.canvas import Canvas
from streams.demo.scenes import paint_scene
from streams.demo.style import Style

SIZE = 224


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of product is drawn, and whether it hangs on a wall or stands."""

    paint: Callable[[Canvas, Style], None]
    hanging: bool


KINDS: dict[str, Kind] = {
    "lamp": Kind(furnishings.lamp, False),
    "chair": Kind(furnishings.chair, False),
    "clock": Kind(furnishings.clock, True),
    "picture": Kind(furnishings.picture, True),
    "cushion": Kind(furnishings.cushion, False),
    "vase": Kind(tableware.vase, False),
    "mug": Kind(tableware.mug, False),
    "bottle": Kind(tableware.bottle, False),
    "plant": Kind(tableware.plant, False),
    "shoe": Kind(clothing.shoe, False),
    "bag": Kind(clothing.bag, False),
    "shirt": Kind(clothing.shirt, True),
    "dress": Kind(clothing.dress, True),
}


def draw(style: Style, size: int = SIZE) -> NDArray[np.uint8]:
    """Return the picture as uint8[size, size, 3], RGB."""
    kind = KINDS[style.kind]
    canvas = Canvas(size, np.random.default_rng(style.seed))
    paint_scene(canvas, style.scene, style.tone, kind.hanging)
    kind.paint(canvas, style)
    return canvas.pixels()
