"""The messages of the truths: what stands on `item-records`, `item-stocks`, `item-embeddings`, `catalog-statistics`.

Everything Kindred knows can be rebuilt from these four compacted topics; the last message of a key wins.
Each is one JSON object, written and read with msgspec.  Easy to get wrong:

* `writer` is the *last* key of every message, so that a reader can tell its own messages by their last bytes alone.
* A delete is two messages: first one with `gone` (it has a count, so a late writer can be told apart), then null.
* `record` is kept as the bytes that came; parse it only where its attributes are needed.
"""

from __future__ import annotations

import hashlib

import msgspec


class Written(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """When a message was written, in the order of its writers: `[epoch, count]`, compared from left to right.

    `epoch` counts up with every new owner of a partition, `count` with every message of that owner.
    """

    epoch: int = 0
    count: int = 0


class LogPlace(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where an event stood that came by way of `item-changes`: its topic, partition and offset there."""

    topic: str
    partition: int
    offset: int

    def precedes(self, other: LogPlace) -> bool:
        """Whether it stood before another one of the same log, or is the same."""
        return (self.topic, self.partition) == (other.topic, other.partition) and self.offset <= other.offset


class Facts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the flags need of a record, derived once."""

    sale: bool = False
    """On sale whenever the sale's window is open."""
    discount: float = 0.0
    """Share of the old price that is saved, 0..1."""
    sale_from: int | None = None
    """Unix ms, inclusive."""
    sale_until: int | None = None
    """Unix ms, exclusive."""
    in_stock: bool | None = None
    low_stock_at: float | None = None
    group: str | None = None


class ItemRecord(msgspec.Struct, frozen=True):
    """A message of `item-records`."""

    record: msgspec.Raw
    """The record as it came, a JSON object with `objectID`; `{}` when `gone`."""
    facts: Facts
    images: tuple[str, ...]
    """Names of its images (`image_name` of their links), in the record's order, each once."""
    image_version: int
    """Counts up whenever `images` changes, also over a delete."""
    at: int
    """Unix ms of the catalog event."""
    written: Written
    origin: LogPlace | None = None
    """Of the catalog event, if it was forwarded: a late one is told by it."""
    gone: bool = False
    writer: str = ""


class ItemStock(msgspec.Struct, frozen=True, gc=False):
    """A message of `item-stocks`.  `quantity` is None when the level is not known any more."""

    quantity: float | None
    at: int
    """Unix ms at which the level held."""
    written: Written
    writer: str = ""


class ImageEmbedding(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One image of an item: its vector, or the reason why it has none."""

    link: str
    """Its name (`image_name`); in a request to fetch it, the link itself."""
    digest: str | None = None
    """BLAKE2b-128 of the bytes, hexadecimal."""
    vector: str | None = None
    """What the model makes of it: unit length, little-endian float16[D], base64."""
    colour: str | None = None
    """How much of it is of which colour (`models/colour.py`): unit length, little-endian float16[16], base64."""
    error: str | None = None
    """Why there is no vector, for people."""
    attempt: int = 0
    """How often it was to be fetched from a host that did not answer."""
    rests: int = 0
    """How many of these times the host was not asked, because it was left alone."""
    retry_at: int | None = None
    """Unix ms of the next attempt; None with an error: given up."""


class ItemEmbedding(msgspec.Struct, frozen=True):
    """A message of `item-embeddings`: all images of an item."""

    image_version: int
    model: str
    images: tuple[ImageEmbedding, ...]
    writer: str = ""


class ImageRequest(msgspec.Struct, frozen=True):
    """A message of the internal `image-changes`: these images, and no others, are what the item has now.

    An image with a vector is known already and is only carried over; the others are fetched and embedded.
    `gone`: the item was deleted, its embedding is to be deleted.
    """

    image_version: int
    images: tuple[ImageEmbedding, ...]
    model: str = ""
    """Model of the vectors that are carried over."""
    gone: bool = False
    at: int = 0
    """Unix ms of the event that asked."""


class CatalogStatistics(msgspec.Struct, frozen=True):
    """The message `mean` of `catalog-statistics`: fitted on the catalog as a whole, again and again."""

    version: int
    model: str
    count: int
    """How many vectors the mean was fitted on."""
    mean: str
    """Mean of the unit vectors, little-endian float32[D], base64."""
    colour: str
    """Mean of the colours, as `mean`."""
    at: int
    writer: str = ""


class CatalogProjection(msgspec.Struct, frozen=True):
    """The message `projection` of `catalog-statistics`: fitted once, on the first vectors of a wide model."""

    model: str
    count: int
    """How many vectors it was fitted on."""
    width: int
    """Numbers of the model's vectors."""
    basis: str
    """Little-endian float16[width, 256], row by row, base64: a vector times it is the projected vector."""
    at: int
    writer: str = ""


def image_name(link: str) -> str:
    """What an image is called on the truths and in answers: its link, or the digest of a `data:` link."""
    if not link.startswith("data:"):
        return link
    return "data:" + hashlib.blake2b(link.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


read_item_record = msgspec.json.Decoder(ItemRecord).decode
read_item_stock = msgspec.json.Decoder(ItemStock).decode
read_item_embedding = msgspec.json.Decoder(ItemEmbedding).decode
read_image_request = msgspec.json.Decoder(ImageRequest).decode
read_catalog_statistics = msgspec.json.Decoder(CatalogStatistics).decode
read_catalog_projection = msgspec.json.Decoder(CatalogProjection).decode
MEAN, PROJECTION = b"mean", b"projection"
"""Keys of `catalog-statistics`."""
_encode = msgspec.json.Encoder().encode


def write_message(
    message: ItemRecord | ItemStock | ItemEmbedding | ImageRequest | CatalogStatistics | CatalogProjection,
) -> bytes:
    """The message's JSON; fields in the order of the class, so `writer` is last.

    By msgspec and not by orjson: a typed message is written in a fifth of the time, and `record` goes in as it is.
    """
    return _encode(message)
