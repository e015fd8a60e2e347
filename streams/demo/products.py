"""Which products a drawn shop has: lines of a few items each that look alike, with what a shop says of them.

An item is told by its number alone: kinds take turns, six items of a kind make a line, and within a line

* the first shows the line as it is, two are its twins of a slightly other shape,
* one is photographed elsewhere,
* two come in another colour (and with another print's size).

So a catalog of 300 begins with the items of one of 100, and every item has neighbours that look like it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from streams.demo.drawing import KINDS
from streams.demo.offers import OFFERS, Offer
from streams.demo.palette import HARMONIES
from streams.demo.style import FORMS, Style

LINE_LENGTH = 6
"""Items of one line."""

_PRINTED = {
    "plain": "",
    "stripes": "striped",
    "bands": "banded",
    "dots": "dotted",
    "checks": "checked",
    "zigzag": "zigzag",
    "floral": "floral",
    "leaves": "leaf-print",
    "diamonds": "diamond-print",
    "speckles": "speckled",
    "gradient": "ombre",
    "dipped": "dip-dyed",
}

_NAMES = tuple(
    "Arlo Bryn Cala Dune Elva Fjord Gale Hale Isla Juno Kori Lumi Mira Nola Otis "  # noqa: SIM905  (one name a line is no clearer)
    "Pico Quill Runa Sol Tova Una Vida Wren Xena Ymir Zora Alba Bo Cleo Dara".split()
)

_BRANDS = ("Fennick", "Oloya", "Brackwater", "Tamsel", "Juniper Row", "Maroveld", "Pellam & Ost")


def product(number: int, seed: int) -> tuple[str, Style, dict[str, Any]]:
    """Return (item id, style, record without an image) of the item with this number, from 0."""
    kinds = tuple(KINDS)
    turn, place = divmod(number, len(kinds))
    kind = kinds[place]
    line, variant = divmod(turn, LINE_LENGTH)
    of_line = np.random.default_rng([seed, place, line])
    brand = str(of_line.choice(_BRANDS))
    first = _line_style(kind, of_line)
    usual_price = _price(OFFERS[kind], of_line)
    of_item = np.random.default_rng([seed, place, line, variant])
    style = _variant_style(first, variant, of_item)
    name = _NAMES[(line + 7 * place) % len(_NAMES)]
    item_id = f"{kind}-{turn + 1:03d}"
    record = {
        "objectID": item_id,
        "title": _title(style, name, variant),
        **_selling(usual_price, of_item),
        "brand": brand,
        "collection": f"{name} {line // len(_NAMES) + 1}" if line >= len(_NAMES) else name,
        **_looks(style),
    }
    return item_id, style, record


def _line_style(kind: str, rng: np.random.Generator) -> Style:
    offer = OFFERS[kind]
    colour, accent, second = _colours(rng)
    return Style(
        kind=kind,
        form=tuple(float(value) for value in rng.random(FORMS)),
        colour=colour,
        accent=accent,
        second=second,
        pattern=str(rng.choice(offer.patterns)),
        period=float(rng.uniform(*offer.period)),
        material=str(rng.choice(offer.materials)),
        scene=str(rng.choice(offer.scenes)),
        tone=int(rng.choice(offer.tones)),
        seed=int(rng.integers(1 << 30)),
    )


def _colours(rng: np.random.Generator) -> tuple[str, str, str]:
    colour = str(rng.choice(tuple(HARMONIES)))
    accent, second = HARMONIES[colour][int(rng.integers(len(HARMONIES[colour])))]
    return colour, accent, second


def _variant_style(first: Style, variant: int, rng: np.random.Generator) -> Style:
    if variant == 0:
        return first
    form = tuple(min(1.0, max(0.0, value + float(rng.normal(0, 0.05)))) for value in first.form)
    style = replace(first, form=form)
    if variant == 3:
        return replace(
            style, scene=str(rng.choice(OFFERS[style.kind].scenes)), tone=int(rng.choice(OFFERS[style.kind].tones))
        )
    if variant >= 4:
        colour, accent, second = _colours(rng)
        return replace(
            style, colour=colour, accent=accent, second=second, period=style.period * float(rng.uniform(0.85, 1.2))
        )
    return style


def _price(offer: Offer, rng: np.random.Generator) -> float:
    """Return a price, the lower end of the range more often than the upper."""
    lowest, highest = offer.prices
    return lowest + float(rng.random()) ** 1.7 * (highest - lowest)


def _title(style: Style, name: str, variant: int) -> str:
    words = " ".join(word for word in (name, _PRINTED[style.pattern], OFFERS[style.kind].noun) if word)
    return f"{words} in {style.colour}" + (f" No. {variant + 1}" if variant else "")


def _looks(style: Style) -> dict[str, Any]:
    """Return what a shop says of how an item looks."""
    category, printed = OFFERS[style.kind].category, _PRINTED[style.pattern]
    return {
        "category": category,
        "colour": style.colour,
        "pattern": style.pattern,
        "material": style.material,
        "tags": sorted({category, style.colour, style.material, *([printed] if printed else [])}),
    }


def _selling(usual_price: float, rng: np.random.Generator) -> dict[str, Any]:
    """Return prices as shops like them, and a stock: one item in eight reduced, few running low, fewer sold out."""
    whole = round(usual_price * float(rng.uniform(0.9, 1.1)))
    price = whole - 0.05 if whole < 60 else float(whole)
    reduced = float(rng.random()) < 0.125
    lot = float(rng.random())
    stock = 0 if lot < 0.02 else int(rng.integers(1, 6)) if lot < 0.08 else int(rng.integers(8, 90))
    return {"price": round(price * 0.8, 2) if reduced else price, "list_price": price, "stock": stock}
