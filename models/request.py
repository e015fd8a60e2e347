"""Requests: the bytes of a body become entries, each understood or told why not.

    {"objectID": "a", ...}          one entry
    {"requests": [{...}, {...}]}    up to 50, answered one by one

What is easy to get wrong:

* Nothing here raises for what a caller wrote: a bad body is a batch of one `BadRequest`, a bad entry is one among good
  ones.
* Null is the same as absent: many serializers write every field.
* A field that nobody knows is an error; Algolia's that mean nothing here are not (`models/algolia_parameters.py`).
* `fallbackParameters: {}` asks for something: whatever looks most alike, filters aside, may fill up.
"""

from __future__ import annotations

from typing import Any

import msgspec

from models.algolia_parameters import WITHOUT_EFFECT
from models.errors import BadRequest
from models.field_values import shown
from models.filter_arrays import Optional
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
    whole_from,
)
from models.query_parameters import WITH_EFFECT, read_query_parameters
from models.request_seeds import Crop, ImageKey, ImageSeed, ItemSeed, SeedReader

__all__ = [
    "Batch", "Crop", "Fallback", "ImageKey", "ImageSeed", "ItemSeed", "Request", "RequestLimits", "Walk",
    "parse_requests",
]  # fmt: skip

MODEL = "looking-similar"
SAME_AS_MAX = 100
COMMON_BYTES_MAX = 1_000
WALK_STEPS_MAX = 100
"""Each is a search of its own."""


HITS_DEFAULT = 30
"""Of a request that does not say how many it wants, unless fewer are allowed."""


class RequestLimits(msgspec.Struct, frozen=True):
    """What a request may cost."""

    body_bytes_max: int = 8_000_000
    """Several pictures as `data:` links, each up to 1.4 MB of base64."""
    entries_max: int = 50
    hits_max: int = 1_000
    hits_default: int = HITS_DEFAULT
    seeds_max: int = 100
    item_id_bytes_max: int = 512
    link_length_max: int = 1_400_000


class Walk(msgspec.Struct, frozen=True, gc=False):
    """Hop from item to item instead of staying with the source."""

    steps: int = 8
    leash: float = 0.0
    """The least visual score to the source, 0..100."""
    seed: int = 0
    """The same seed takes the same way."""


class Fallback(msgspec.Struct, frozen=True):
    """What may fill up when too few hits remain, in place of the request's own filters."""

    filter: Filter | None = None
    optional: tuple[Optional, ...] = ()


class Request(msgspec.Struct, frozen=True):
    """One entry, understood.  Its meaning is in `docs/` and `indexes/answering.py`."""

    items: tuple[ItemSeed, ...] = ()
    images: tuple[ImageSeed, ...] = ()
    count: int = 30
    threshold: float = 0.0
    filter: Filter | None = None
    """All kinds of filters, joined by AND."""
    optional: tuple[Optional, ...] = ()
    same_as: tuple[str, ...] = ()
    attributes: tuple[str, ...] | None = None
    """`attributesToRetrieve`; None: all."""
    contexts: frozenset[str] = frozenset()
    rules_enabled: bool = True
    out_of_stock: bool = False
    highlight: bool = False
    click_analytics: bool = False
    distinct: int = 0
    """Hits of one family at most; 0: any number."""
    diversity: float = 0.0
    fallback: Fallback | None = None
    walk: Walk | None = None
    explain: bool = False
    colour: float | None = None
    """What colour alone counts beside the look, 0..1; None: as it is set for the worker."""


class Batch(msgspec.Struct, frozen=True):
    """The entries of one body, in its order.  `single`: the body was one request, or could not be read at all."""

    single: bool
    entries: tuple[Request | BadRequest, ...]


def parse_requests(body: bytes | None, limits: RequestLimits, index_name: str) -> Batch:
    """The entries of a body; never raises for what a caller wrote."""
    if (common := _common(body, limits, index_name)) is not None:
        return Batch(True, (common,))
    try:
        fields = read_object(body, limits.body_bytes_max)
        if "requests" not in fields:
            return Batch(True, (_entry(fields, limits, index_name),))
        entries = list_of(object_of(fields, "", ("requests",)).get("requests"), "requests")
        if not 1 <= len(entries) <= limits.entries_max:
            raise BadRequest(f"requests: expected 1 to {limits.entries_max} entries, got {len(entries):,}")
    except BadRequest as error:
        return Batch(True, (error.kept(),))
    return Batch(False, tuple([_entry(entry, limits, index_name) for entry in entries]))


class _Common(msgspec.Struct, forbid_unknown_fields=True):
    """The body of most requests."""

    item_id: str = msgspec.field(name="objectID")
    count: int = msgspec.field(name="maxRecommendations", default=0)
    index: str = msgspec.field(name="indexName", default="")
    model: str = ""


_decode_common = msgspec.json.Decoder(_Common).decode


def _common(body: bytes | None, limits: RequestLimits, index_name: str) -> Request | None:
    """The request of a body that says what most say, in a quarter of the time; None of any other, right or wrong."""
    if not body or len(body) > min(COMMON_BYTES_MAX, limits.body_bytes_max):
        return None
    try:
        fields = _decode_common(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    item_id, count, index, model = fields.item_id, fields.count, fields.index, fields.model
    keys = 1 + (count != 0) + (index != "") + (model != "")
    if body.count(b":") != keys or not item_id or len(item_id) * 4 > limits.item_id_bytes_max:
        return None  # a key may stand twice
    if index not in ("", index_name) or model not in ("", MODEL) or not 0 <= count <= limits.hits_max:
        return None
    return Request((ItemSeed(item_id),), count=count or limits.hits_default)


def _entry(fields: Any, limits: RequestLimits, index_name: str) -> Request | BadRequest:
    try:
        if type(fields) is not dict:
            raise BadRequest(f"expected a request as an object, got {kind_of(fields)}")
        return _Reader(limits, index_name).read(fields)
    except BadRequest as error:
        return error.kept()


class _Reader:
    """Reads one entry, field by field, into the arguments of `Request`."""

    def __init__(self, limits: RequestLimits, index_name: str) -> None:
        self.limits = limits
        self.index_name = index_name
        self.seeds = SeedReader(limits.item_id_bytes_max, limits.link_length_max)
        self.arguments: dict[str, Any] = {"count": limits.hits_default}

    def read(self, fields: dict[str, Any]) -> Request:
        for name, value in fields.items():
            if read := _FIELDS.get(name):
                if value is not None:
                    read(self, value)
            elif name not in WITHOUT_EFFECT:
                raise BadRequest(self._unknown(name))
        seeds = self.seeds
        if len(seeds.items) + len(seeds.images) > self.limits.seeds_max:
            raise BadRequest(f"expected at most {self.limits.seeds_max} items and images to start from")
        if not seeds.positive:
            raise BadRequest("expected objectID, objectIDs or image: what is to be looked like")
        if "walk" in self.arguments and self.arguments.get("diversity"):
            raise BadRequest("diversity: expected 0 beside walk, which is a way and no ranking")
        return Request(tuple(seeds.items), tuple(seeds.images), **self.arguments)

    @staticmethod
    def _unknown(name: str) -> str:
        if name in WITH_EFFECT:
            return f"unknown field {shown(name)}; it belongs into queryParameters"
        return unknown_field(name, [*_FIELDS, *WITHOUT_EFFECT])

    def max_recommendations(self, value: object) -> None:
        self.arguments["count"] = whole_from(value, "maxRecommendations", 1, self.limits.hits_max)

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
        try:
            self.arguments |= read_query_parameters(value, "queryParameters")
        except BadRequest:
            if type(value) is dict:
                for name in value:
                    if name in _FIELDS and name not in WITH_EFFECT:
                        raise BadRequest(
                            f"queryParameters: unknown field {shown(name)}; it belongs beside queryParameters"
                        ) from None
            raise

    def diversity(self, value: object) -> None:
        self.arguments["diversity"] = number_from(value, "diversity", 0, 1)

    def explain(self, value: object) -> None:
        self.arguments["explain"] = flag_of(value, "explain")

    def fallback_parameters(self, value: object) -> None:
        read = read_query_parameters(value, "fallbackParameters")
        self.arguments["fallback"] = Fallback(read.get("filter"), read.get("optional", ()))

    def walk(self, value: object) -> None:
        given = object_of(value, "walk", ("steps", "leash", "seed"))
        default = Walk()
        self.arguments["walk"] = Walk(
            whole_from(given.get("steps", default.steps), "walk.steps", 1, WALK_STEPS_MAX),
            number_from(given.get("leash", default.leash), "walk.leash", 0, 100),
            whole_from(given.get("seed", default.seed), "walk.seed", 0, 2**63 - 1),
        )

    def colour(self, value: object) -> None:
        self.arguments["colour"] = number_from(value, "colour", 0, 1)


_FIELDS = {
    "objectID": lambda reader, value: reader.seeds.object_id(value),
    "objectIDs": lambda reader, value: reader.seeds.object_ids(value),
    "image": lambda reader, value: reader.seeds.image(value),
    "unlike": lambda reader, value: reader.seeds.unlike(value),
    "maxRecommendations": _Reader.max_recommendations,
    "threshold": _Reader.threshold,
    "queryParameters": _Reader.query_parameters,
    "fallbackParameters": _Reader.fallback_parameters,
    "sameAs": _Reader.same_as,
    "outOfStock": _Reader.out_of_stock,
    "model": _Reader.model,
    "indexName": _Reader.index,
    "diversity": _Reader.diversity,
    "explain": _Reader.explain,
    "walk": _Reader.walk,
    "colour": _Reader.colour,
}
