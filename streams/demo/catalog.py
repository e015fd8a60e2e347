"""The demo's catalog: drawn items, or the pictures of any folder, as records that a shop would send."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from models.errors import BadEvent
from models.image import encode_jpeg
from models.record import parse_record
from streams.demo.drawing import SIZE, draw
from streams.demo.products import product
from streams.publishing.picture_folder import picture_files, picture_record

Link = Callable[[str, bytes], str]
"""(item id, JPEG bytes) -> the link that the item's record carries."""


class CatalogItem(NamedTuple):
    """An item: what goes onto `catalog-changes` (key and record), and its picture's bytes for showing it."""

    item_id: str
    record: dict[str, Any]
    picture: bytes


def data_link(item_id: str, picture: bytes) -> str:
    """Return a link that holds the picture itself."""
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode("ascii")


def file_links(image_root: Path) -> Link:
    """Return a `Link` that writes each picture under the image root, which is there, and links to it relatively."""

    def link(item_id: str, picture: bytes) -> str:
        name = f"{item_id}.jpg"
        (image_root / name).write_bytes(picture)
        return name

    return link


def drawn_items(count: int, seed: int, link: Link = data_link, size: int = SIZE) -> Iterator[CatalogItem]:
    """Yield drawn items, one after the other; the same seed gives the same bytes, a larger count only more items."""
    for number in range(count):
        item_id, style, record = product(number, seed)
        picture = encode_jpeg(draw(style, size))
        yield CatalogItem(item_id, {**record, "image": link(item_id, picture)}, picture)


def folder_items(folder: Path) -> Iterator[CatalogItem]:
    """Yield an item for each picture in a folder and below, its link relative to the folder.

    Ids, titles and categories are those of `kindred publish catalog DIR`.  Left out are links to what lies outside the
    folder, files that cannot be read, and names that a record cannot carry (too long, with control characters).
    Price and stock are made up from the id, for the demo to change.
    """
    root = folder.resolve()
    for path in picture_files(root):
        if not path.resolve().is_relative_to(root):
            continue
        record = picture_record(path, root, root)
        item_id = str(record["objectID"])
        record |= _made_up(item_id)
        try:
            parse_record(item_id, record)
            picture = path.read_bytes()
        except (BadEvent, OSError):
            continue
        yield CatalogItem(item_id, record, picture)


def _made_up(item_id: str) -> dict[str, Any]:
    drawn = hashlib.sha256(item_id.encode()).digest()
    price = 9.95 + drawn[0] // 2
    return {"price": price, "list_price": price, "stock": 8 + drawn[1] % 60}
