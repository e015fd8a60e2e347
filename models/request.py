"""Requests: the bytes of a body become entries, each understood or told why not.

    {"objectID": "a", ...}          one entry
    {"requests": [{...}, {...}]}    up to 50, answered one by one

What is easy to get wrong:

* Nothing here raises for what a caller wrote: a bad body is a batch of one `BadRequest`, a bad entry is one among good
  ones.
* Null is the same as absent: many serializers write every field.
* A field that nobody knows is an error; Algolia's that mean nothing here are not (`models/algolia_parameters.py`).
* A seed with a negative weight is one to move away from (`unlike`).  Its default is half of what is to be looked like:
  with equal weights nothing of two pictures that are much alike would be left but their difference.
"""

from __future__ import annotations

from typing import Any

import msgspec

from models.algolia_parameters import WITHOUT_EFFECT
from models.errors import BadRequest
from models.field_values import shown
from models.filter_arrays import OptionalFilter
from models.filter_tree import Filter
from models.outside_json import (
    flag_of,
    kind_of,
    list_of,
    number_from,
    object_of,
    read_object,
    text_of,
    texts_of,
    unknown_field,
)
from models.query_parameters import read_query_parameters

MODEL = "looking-similar"
SAME_AS_MAX = 100
UNLIKE_WEIGHT = 0.5


class RequestLimits(msgspec.Struct, frozen=True):
    """What a request may cost."""

    body_bytes_max: int = 8_000_000
    """Several pictures as `data:` links, each up to 1.4 MB of base64."""
    entries_max: int = 50
    hits_max: int = 1_000
    hits_default: int = 30
    seeds_max: int = 100
    item_id_bytes_max: int = 512
    link_length_max: int = 1_400_000


class ItemSeed(msgspec.Struct, frozen=True, gc=False):
    """An item to look like, or, with a negative weight, to look unlike."""

    item_id: str
    weight: float = 1.0


class ImageSeed(msgspec.Struct, frozen=True, gc=False):
    """An image (a link or a `data:` URL) to look like, or, with a negative weight, to look unlike."""

    link: str
    weight: float = 1.0


class Request(msgspec.Struct, frozen=True):
    """One entry, understood.  Its meaning is in `docs/` and `indexes/answering.py`."""

    items: tuple[ItemSeed, ...] = ()
    images: tuple[ImageSeed, ...] = ()
    count: int = 30
    threshold: float = 0.0
    filter: Filter | None = None
    """All kinds of filters, joined by AND."""
    optional: tuple[OptionalFilter, ...] = ()
    same_as: tuple[str, ...] = ()
    attributes: tuple[str, ...] | None = None
    """`attributesToRetrieve`; None: all."""
    contexts: frozenset[str] = frozenset()
    rules_enabled: bool = True
    out_of_stock: bool = False
    highlight: bool = False
    click_analytics: bool = False


class Batch(msgspec.Struct, frozen=True):
    """The entries of one body, in its order.  `single`: the body was one request, or could not be read at all."""

    single: bool
    entries: tuple[Request | BadRequest, ...]


def parse_requests(body: bytes | None, limits: RequestLimits, index_name: str) -> Batch:
    """The entries of a body; never raises for what a caller wrote."""
    try:
        fields = read_object(body, limits.body_bytes_max)
        if "requests" not in fields:
            return Batch(True, (_entry(fields, limits, index_name),))
        entries = list_of(object_of(fields, "", ("requests",)).get("requests"), "requests")
        if not 1 <= len(entries) <= limits.entries_max:
            raise BadRequest(f"requests: expected 1 to {limits.entries_max} entries, got {len(entries):,}")
    except BadRequest as error:
        return Batch(True, (error,))
    return Batch(False, tuple([_entry(entry, limits, index_name) for entry in entries]))


def _entry(fields: Any, limits: RequestLimits, index_name: str) -> Request | BadRequest:
    try:
        if type(fields) is not dict:
            raise BadRequest(f"expected a request as an object, got {kind_of(fields)}")
        return _Reader(limits, index_name).read(fields)
    except BadRequest as error:
        return error


class _Reader:
    """Reads one entry, field by field, into the arguments of `Request`."""

    def __init__(self, limits: RequestLimits, index_name: str) -> None:
        self.limits = limits
        self.index_name = index_name
        self.items: list[ItemSeed] = []
        self.images: list[ImageSeed] = []
        self.positive = False
        self.arguments: dict[str, Any] = {"count": limits.hits_default}

    def read(self, fields: dict[str, Any]) -> Request:
        for name, value in fields.items():
            if read := _FIELDS.get(name):
                if value is not None:
                    read(self, value)
            elif name not in WITHOUT_EFFECT:
                raise BadRequest(unknown_field(name, [*_FIELDS, *WITHOUT_EFFECT]))
        if len(self.items) + len(self.images) > self.limits.seeds_max:
            raise BadRequest(f"expected at most {self.limits.seeds_max} items and images to start from")
        if not self.positive:
            raise BadRequest("expected objectID, objectIDs or image: what is to be looked like")
        return Request(tuple(self.items), tuple(self.images), **self.arguments)

    def object_id(self, value: object) -> None:
        self.items.append(ItemSeed(self._item_id(value, "objectID")))
        self.positive = True

    def object_ids(self, value: object) -> None:
        entries = list_of(value, "objectIDs")
        if not entries:
            raise BadRequest("objectIDs: expected at least one item")
        for number, entry in enumerate(entries):
            self._weighted_seed(entry, f"objectIDs[{number}]", ("objectID", "weight"), 1.0, 1.0)

    def image(self, value: object) -> None:
        self.images.append(ImageSeed(self._link(value, "image")))
        self.positive = True

    def unlike(self, value: object) -> None:
        for number, entry in enumerate(value if isinstance(value, list) else [value]):
            self._weighted_seed(entry, f"unlike[{number}]", ("objectID", "image", "weight"), -1.0, UNLIKE_WEIGHT)

    def max_recommendations(self, value: object) -> None:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not 1 <= value <= self.limits.hits_max:
            raise BadRequest(f"maxRecommendations: expected 1 to {self.limits.hits_max}, got {shown(value)}")
        self.arguments["count"] = value

    def threshold(self, value: object) -> None:
        self.arguments["threshold"] = number_from(value, "threshold", 0, 100)

    def same_as(self, value: object) -> None:
        names = texts_of(value, "sameAs", SAME_AS_MAX)
        if names and not all(names):
            raise BadRequest("sameAs: expected names of attributes, got an empty one")
        self.arguments["same_as"] = names

    def out_of_stock(self, value: object) -> None:
        self.arguments["out_of_stock"] = flag_of(value, "outOfStock")

    def model(self, value: object) -> None:
        if value != MODEL:
            raise BadRequest(f'model: expected "{MODEL}", got {shown(value)}')

    def index(self, value: object) -> None:
        if text_of(value, "indexName") != self.index_name:
            raise BadRequest(f"indexName: the index {shown(value)} is not here, only {shown(self.index_name)}", 404)

    def query_parameters(self, value: object) -> None:
        self.arguments |= read_query_parameters(value, "queryParameters")

    def _weighted_seed(self, entry: object, where: str, known: tuple[str, ...], sign: float, default: float) -> None:
        self.positive |= sign > 0
        if isinstance(entry, str):
            self.items.append(ItemSeed(self._item_id(entry, where), sign * default))
            return
        fields = object_of(entry, where, known)
        weight = sign * number_from(fields.get("weight", default), f"{where}.weight", 1e-6, 1e6)
        if "image" in fields and "objectID" not in fields:
            self.images.append(ImageSeed(self._link(fields["image"], f"{where}.image"), weight))
        elif "image" not in fields:
            self.items.append(ItemSeed(self._item_id(fields.get("objectID"), f"{where}.objectID"), weight))
        else:
            raise BadRequest(f"{where}: expected objectID or image, got both")

    def _item_id(self, value: object, where: str) -> str:
        bytes_max = self.limits.item_id_bytes_max
        if type(value) is not str or not value:
            raise BadRequest(f"{where}: expected the id of an item as text, got {shown(value)}")
        if len(value) * 4 > bytes_max and len(value.encode()) > bytes_max:
            raise BadRequest(f"{where}: expected at most {bytes_max} bytes, got {len(value.encode()):,}")
        return value

    def _link(self, value: object, where: str) -> str:
        if isinstance(value, dict):
            fields = object_of(value, where, ("url", "crop"))
            if "crop" in fields:
                raise BadRequest(f"{where}.crop is not supported")
            value, where = fields.get("url"), f"{where}.url"
        if not isinstance(value, str) or not value.strip():
            raise BadRequest(f"{where}: expected a link or a data: URL, got {shown(value)}")
        if len(value) > self.limits.link_length_max:
            raise BadRequest(
                f"{where}: expected at most {self.limits.link_length_max:,} characters, got {len(value):,}"
            )
        return value


def _unsupported(name: str) -> Any:
    """Reader of a field of the contract that is not served: what asks for nothing passes, the rest is told so."""

    def read(_: _Reader, value: object) -> None:
        if value not in (False, 0, {}, []):
            raise BadRequest(f"{name} is not supported")

    return read


_FIELDS = {
    "objectID": _Reader.object_id,
    "objectIDs": _Reader.object_ids,
    "image": _Reader.image,
    "unlike": _Reader.unlike,
    "maxRecommendations": _Reader.max_recommendations,
    "threshold": _Reader.threshold,
    "queryParameters": _Reader.query_parameters,
    "sameAs": _Reader.same_as,
    "outOfStock": _Reader.out_of_stock,
    "model": _Reader.model,
    "indexName": _Reader.index,
    **{name: _unsupported(name) for name in ("fallbackParameters", "diversity", "explain", "walk", "colour")},
}
