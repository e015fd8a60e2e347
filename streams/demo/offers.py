"""What the drawn shop offers of each kind: its name, stuffs, prints, prices, and how it is photographed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offer:
    """What a kind is called and made of, how it is printed, what it costs, and where it is photographed.

    `patterns` name the commoner ones more than once; `period` is the range of the print's size; a shop photographs
    things of a kind in few places, so `scenes` and `tones` (numbers of wall paints) are few.
    """

    noun: str
    category: str
    materials: tuple[str, ...]
    patterns: tuple[str, ...]
    prices: tuple[float, float]
    period: tuple[float, float]
    scenes: tuple[str, ...]
    tones: tuple[int, ...]


_PRINTS = " stripes bands dots checks zigzag floral leaves diamonds"


def _offer(
    noun: str,
    category: str,
    materials: str,
    patterns: str,
    prices: tuple[float, float],
    period: tuple[float, float],
    scenes: str,
    tones: tuple[int, ...],
) -> Offer:
    """Return an offer of words that are separated by spaces."""
    materials_, patterns_, scenes_ = (tuple(words.split()) for words in (materials, patterns, scenes))
    return Offer(noun, category, materials_, patterns_, prices, period, scenes_, tones)


OFFERS: dict[str, Offer] = {
    "lamp": _offer(
        "table lamp",
        "lamps",
        "porcelain stoneware",
        "plain plain stripes zigzag checks leaves gradient",
        (39, 189),
        (0.14, 0.28),
        "corner table sweep",
        (0, 2, 5),
    ),
    "chair": _offer(
        "chair",
        "chairs",
        "velvet linen leather",
        "plain plain plain stripes leaves diamonds checks",
        (89, 449),
        (0.16, 0.3),
        "corner wall studio",
        (1, 3, 7),
    ),
    "clock": _offer(
        "wall clock",
        "clocks",
        "wood metal porcelain",
        "plain plain plain gradient stripes speckles",
        (25, 119),
        (0.16, 0.26),
        "sweep corner wall",
        (4, 1, 6),
    ),
    "picture": _offer(
        "framed print",
        "pictures",
        "wood metal",
        "plain plain plain plain gradient leaves zigzag floral",
        (19, 149),
        (0.16, 0.34),
        "studio wall table",
        (0, 7, 1),
    ),
    "cushion": _offer(
        "cushion",
        "cushions",
        "linen cotton velvet",
        "plain gradient speckles" + _PRINTS,
        (15, 59),
        (0.14, 0.36),
        "studio sweep corner",
        (6, 0, 2),
    ),
    "vase": _offer(
        "vase",
        "vases",
        "stoneware porcelain",
        "plain plain gradient dipped speckles" + _PRINTS,
        (19, 129),
        (0.11, 0.24),
        "table wall sweep",
        (4, 5, 3),
    ),
    "mug": _offer(
        "mug",
        "mugs",
        "stoneware porcelain",
        "plain gradient dipped speckles" + _PRINTS,
        (9, 29),
        (0.12, 0.26),
        "table table studio",
        (2, 5, 0),
    ),
    "bottle": _offer(
        "bottle",
        "bottles",
        "glass glass metal porcelain",
        "plain plain stripes zigzag dots gradient leaves",
        (12, 49),
        (0.1, 0.18),
        "studio sweep",
        (1, 4, 3),
    ),
    "plant": _offer(
        "potted plant",
        "plants",
        "stoneware porcelain",
        "plain plain plain dots checks zigzag speckles dipped",
        (14, 79),
        (0.12, 0.2),
        "corner wall studio",
        (0, 3, 1),
    ),
    "shoe": _offer(
        "sneakers",
        "shoes",
        "canvas leather",
        "plain plain plain stripes dots checks floral diamonds",
        (49, 159),
        (0.12, 0.22),
        "studio sweep wall",
        (7, 1, 4),
    ),
    "bag": _offer(
        "handbag",
        "bags",
        "canvas leather",
        "plain plain plain plain stripes dots floral diamonds",
        (45, 259),
        (0.14, 0.3),
        "studio sweep",
        (2, 0, 6),
    ),
    "shirt": _offer(
        "shirt",
        "shirts",
        "cotton linen",
        "plain plain gradient" + _PRINTS,
        (19, 79),
        (0.12, 0.26),
        "studio sweep",
        (1, 7, 6),
    ),
    "dress": _offer(
        "dress",
        "dresses",
        "cotton linen",
        "plain plain gradient" + _PRINTS,
        (45, 169),
        (0.12, 0.28),
        "wall corner table",
        (5, 2, 3),
    ),
}
