"""Named colours, which of them go well together, and how to shade and mix them."""

from __future__ import annotations

Colour = tuple[float, float, float]
"""Red, green and blue, 0..1, as a screen shows them."""


def _colour(code: str) -> Colour:
    return int(code[0:2], 16) / 255, int(code[2:4], 16) / 255, int(code[4:6], 16) / 255


COLOURS: dict[str, Colour] = {
    "ivory": _colour("f0e8d8"),
    "sand": _colour("d9c19a"),
    "mustard": _colour("dba32c"),
    "coral": _colour("ee7c66"),
    "terracotta": _colour("c8704d"),
    "rust": _colour("a8492a"),
    "cherry": _colour("b4243a"),
    "blush": _colour("e9bdb3"),
    "plum": _colour("6c3c5e"),
    "lilac": _colour("b6a2d2"),
    "navy": _colour("26365e"),
    "cobalt": _colour("2f57b8"),
    "sky": _colour("8bb9d8"),
    "teal": _colour("2b807c"),
    "mint": _colour("a6d8c2"),
    "sage": _colour("93aa88"),
    "forest": _colour("2d5c45"),
    "slate": _colour("6c7b8b"),
    "charcoal": _colour("3a3c42"),
    "cocoa": _colour("6b4836"),
}

HARMONIES: dict[str, tuple[tuple[str, str], ...]] = {
    "ivory": (("terracotta", "sage"), ("navy", "mustard"), ("charcoal", "sand")),
    "sand": (("ivory", "cocoa"), ("teal", "ivory"), ("rust", "charcoal")),
    "mustard": (("ivory", "charcoal"), ("navy", "ivory"), ("teal", "ivory")),
    "coral": (("ivory", "teal"), ("blush", "navy"), ("navy", "mustard")),
    "terracotta": (("ivory", "forest"), ("blush", "cocoa"), ("sand", "teal")),
    "rust": (("sand", "ivory"), ("mustard", "ivory"), ("sky", "ivory")),
    "cherry": (("ivory", "navy"), ("blush", "ivory"), ("sky", "ivory")),
    "blush": (("plum", "ivory"), ("ivory", "terracotta"), ("forest", "mustard")),
    "plum": (("blush", "mustard"), ("lilac", "ivory"), ("sage", "ivory")),
    "lilac": (("plum", "ivory"), ("ivory", "mustard"), ("navy", "blush")),
    "navy": (("ivory", "mustard"), ("sky", "coral"), ("mustard", "ivory")),
    "cobalt": (("ivory", "coral"), ("sky", "ivory"), ("mustard", "ivory")),
    "sky": (("ivory", "navy"), ("navy", "coral"), ("mustard", "ivory")),
    "teal": (("ivory", "coral"), ("mint", "mustard"), ("sand", "rust")),
    "mint": (("teal", "coral"), ("ivory", "forest"), ("plum", "ivory")),
    "sage": (("ivory", "forest"), ("forest", "blush"), ("cocoa", "ivory")),
    "forest": (("sage", "mustard"), ("ivory", "terracotta"), ("blush", "ivory")),
    "slate": (("ivory", "sky"), ("mustard", "ivory"), ("blush", "navy")),
    "charcoal": (("ivory", "mustard"), ("slate", "coral"), ("sand", "ivory")),
    "cocoa": (("sand", "ivory"), ("sky", "ivory"), ("terracotta", "sand")),
}

WOODS: tuple[Colour, ...] = (_colour("d8b284"), _colour("b98350"), _colour("8a5a36"), _colour("5a3a28"))
"""Birch, oak, walnut, wenge: light to dark."""

BRASS = _colour("c9a24c")
STEEL = _colour("b9bec4")
BLACK = _colour("26272a")
PAPER = _colour("f7f4ec")


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """Return the colour that lies `share` (0..1) of the way from one to the other."""
    r, g, b = (a + (c - a) * share for a, c in zip(one, other, strict=True))
    return r, g, b


def darker(colour: Colour, share: float) -> Colour:
    """Return the colour mixed with a near black."""
    return mixed(colour, (0.08, 0.07, 0.10), share)


def lighter(colour: Colour, share: float) -> Colour:
    """Return the colour mixed with a warm white."""
    return mixed(colour, (1.0, 0.99, 0.96), share)
