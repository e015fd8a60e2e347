"""The catalog that one demo shows: its records, where their pictures lie, and an item to be new during the tour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from models.errors import BadEvent
from models.image import encode_jpeg, thumbnail
from streams.demo.catalog import file_links, folder_items
from streams.demo.drawing import draw
from streams.demo.page import PICTURE_SIDE_MAX
from streams.demo.products import product
from streams.demo.studio import draw_catalog

SEED = 7
"""Of the drawn shop: everybody sees the same one."""
TRIED_MAX = 200
"""Pictures that are tried before none is kept back."""

UNPRINTED = ("plain", "gradient", "speckles", "dipped")

SOURCES_MIN = 10

Record = dict[str, Any]
T = TypeVar("T")


@dataclass
class Showcase:
    """What is in the catalog, by item id, as it was last told on `catalog-changes`; and what will be new."""

    image_root: Path
    records: dict[str, Record]
    newcomer: Record | None = None
    """A record that is kept back; None: one can be drawn when it is wanted."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """By item id its number as a product, if it is drawn."""

    @property
    def sources(self) -> list[str]:
        """Items to ask for: of a drawn shop those with a print, on which one sees best what is alike."""
        printed = [item_id for item_id, record in self.records.items() if record.get("pattern") not in UNPRINTED]
        return printed if self.numbers and len(printed) >= SOURCES_MIN else list(self.records)

    def picture(self, record: Record) -> bytes | None:
        """The bytes of a record's picture; None when they cannot be read."""
        try:
            return (self.image_root / str(record["image"])).read_bytes()
        except OSError:
            return None

    def draw_like(self, item_id: str) -> Record:
        """Draw one more item of the line of a drawn one, and return its record."""
        number = self.numbers[item_id]
        _, style, record = product(number, SEED)
        rng = np.random.default_rng([SEED, number, 1])
        form = tuple(min(1.0, max(0.0, value + float(rng.normal(0, 0.05)))) for value in style.form)
        picture = encode_jpeg(draw(replace(style, form=form)))
        new_id = f"{style.kind}-new"
        title = str(record["title"]).partition(" No. ")[0] + ", just in"
        new = {"objectID": new_id, "title": title, "stock": 40, "price": record["list_price"]}
        return {**record, **new, "image": file_links(self.image_root)(new_id, picture)}


def drawn_showcase(count: int, image_root: Path, told: Callable[[int], None]) -> Showcase:
    """Draw a shop of so many items; `told` hears of each."""
    records = {item.item_id: item.record for item in draw_catalog(count, SEED, image_root, told)}
    return Showcase(image_root, records, numbers={item_id: number for number, item_id in enumerate(records)})


def folder_records(folder: Path, count: int | None = None) -> list[Record]:
    """Return the records of all pictures in a folder and below, or of the first `count`."""
    return [item.record for item in islice(folder_items(folder), count)]


def folder_showcase(records: Sequence[Record], image_root: Path) -> Showcase:
    """Keep one picture back that can be shown, from the middle of the folder on; the others are the catalog."""
    middle = len(records) // 2
    for place in [*range(middle, len(records)), *range(middle)][:TRIED_MAX]:
        try:
            thumbnail((image_root / str(records[place]["image"])).read_bytes(), PICTURE_SIDE_MAX)
        except (BadEvent, OSError):
            continue
        others = [record for number, record in enumerate(records) if number != place]
        return Showcase(image_root, _by_id(others), newcomer=records[place])
    return Showcase(image_root, _by_id(records))


def spread(things: Sequence[T], count: int) -> list[T]:
    """Return so many of the things, evenly from the first to the last, so that every category has its share."""
    if count >= len(things):
        return list(things)
    return [things[number * len(things) // count] for number in range(count)]


def sample_records(count: int) -> list[Record]:
    """Return the first records of the drawn shop, without drawing."""
    samples = [product(number, SEED) for number in range(count)]
    return [{**record, "image": f"{item_id}.jpg"} for item_id, _, record in samples]


def _by_id(records: Sequence[Record]) -> dict[str, Record]:
    return {str(record["objectID"]): record for record in records}
