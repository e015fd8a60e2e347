"""Seeds: the items and images that a request starts from, read from its fields.

A seed with a negative weight is one to move away from (`unlike`).  Its default is half of what is to be looked like:
with equal weights nothing of two pictures that are much alike would be left but their difference.
"""

from __future__ import annotations

import msgspec

from models.errors import BadRequest
from models.field_values import shown
from models.outside_json import kind_of, list_of, number_from, object_of

UNLIKE_WEIGHT = 0.5
CROP_MIN = 0.001
"""Of a side; less is hardly a pixel of the largest picture."""

Crop = tuple[float, float, float, float]
"""A part of a picture, upright as people see it: left, top, width, height as fractions of its sides."""
WHOLE: Crop = (0.0, 0.0, 1.0, 1.0)

ImageKey = str | tuple[str, Crop]
"""What names the picture of an image seed: its link, or with a crop both."""


class ItemSeed(msgspec.Struct, frozen=True, gc=False):
    """An item to look like, or, with a negative weight, to look unlike."""

    item_id: str
    weight: float = 1.0


class ImageSeed(msgspec.Struct, frozen=True, gc=False):
    """An image (a link or a `data:` URL) to look like, or, with a negative weight, to look unlike."""

    link: str
    weight: float = 1.0
    crop: Crop | None = None

    @property
    def key(self) -> ImageKey:
        """What its vector is found by."""
        return self.link if self.crop is None else (self.link, self.crop)


class SeedReader:
    """Reads the fields of one request that name seeds."""

    def __init__(self, item_id_bytes_max: int, link_length_max: int) -> None:
        self._item_id_bytes_max = item_id_bytes_max
        self._link_length_max = link_length_max
        self.items: list[ItemSeed] = []
        self.images: list[ImageSeed] = []
        self.positive = False
        """Whether there is anything to look like."""

    def object_id(self, value: object) -> None:
        """`objectID`."""
        self.items.append(ItemSeed(self._item_id(value, "objectID")))
        self.positive = True

    def object_ids(self, value: object) -> None:
        """`objectIDs`."""
        entries = list_of(value, "objectIDs")
        if not entries:
            raise BadRequest("objectIDs: expected at least one item")
        for number, entry in enumerate(entries):
            self._weighted(entry, f"objectIDs[{number}]", ("objectID", "weight"), 1.0, 1.0)

    def image(self, value: object) -> None:
        """`image`."""
        self.images.append(self._image(value, "image", 1.0))
        self.positive = True

    def unlike(self, value: object) -> None:
        """`unlike`."""
        for number, entry in enumerate(value if isinstance(value, list) else [value]):
            self._weighted(entry, f"unlike[{number}]", ("objectID", "image", "weight"), -1.0, UNLIKE_WEIGHT)

    def _weighted(self, entry: object, where: str, known: tuple[str, ...], sign: float, default: float) -> None:
        self.positive |= sign > 0
        if isinstance(entry, str):
            self.items.append(ItemSeed(self._item_id(entry, where), sign * default))
            return
        fields = object_of(entry, where, known)
        weight = sign * number_from(fields.get("weight", default), f"{where}.weight", 1e-6, 1e6)
        if "image" in fields and "objectID" not in fields:
            self.images.append(self._image(fields["image"], f"{where}.image", weight))
        elif "image" not in fields:
            self.items.append(ItemSeed(self._item_id(fields.get("objectID"), f"{where}.objectID"), weight))
        else:
            raise BadRequest(f"{where}: expected objectID or image, got both")

    def _item_id(self, value: object, where: str) -> str:
        bytes_max = self._item_id_bytes_max
        if type(value) is not str or not value:
            raise BadRequest(f"{where}: expected the id of an item as text, got {shown(value)}")
        if len(value) * 4 > bytes_max and len(value.encode()) > bytes_max:
            raise BadRequest(f"{where}: expected at most {bytes_max} bytes, got {len(value.encode()):,}")
        return value

    def _image(self, value: object, where: str, weight: float) -> ImageSeed:
        crop = None
        if isinstance(value, dict):
            fields = object_of(value, where, ("url", "crop"))
            if "crop" in fields:
                crop = read_crop(fields["crop"], f"{where}.crop")
            value, where = fields.get("url"), f"{where}.url"
        if not isinstance(value, str) or not value.strip():
            raise BadRequest(f"{where}: expected a link or a data: URL, got {shown(value)}")
        if len(value) > self._link_length_max:
            raise BadRequest(f"{where}: expected at most {self._link_length_max:,} characters, got {len(value):,}")
        return ImageSeed(value, weight, crop)


def read_crop(value: object, where: str) -> Crop | None:
    """`[x, y, width, height]`, fractions of the picture; None if that is all of it.  BadRequest for anything else."""
    expected = f"{where}: expected [x, y, width, height] as fractions from 0 to 1"
    if not isinstance(value, list) or len(value) != 4:
        got = f"{len(value)} numbers" if isinstance(value, list) else kind_of(value)
        raise BadRequest(f"{expected}, got {got}")
    x, y, width, height = [number_from(part, f"{where}[{number}]", 0, 1) for number, part in enumerate(value)]
    if min(width, height) < CROP_MIN:
        raise BadRequest(f"{expected}, width and height at least {CROP_MIN}")
    if x + width > 1 + 1e-6 or y + height > 1 + 1e-6:  # what was divided by the picture's sides may not add up to 1
        raise BadRequest(f"{expected}, but the part ends outside of the picture")
    crop: Crop = (x, y, width, height)
    return None if crop == WHOLE else crop
