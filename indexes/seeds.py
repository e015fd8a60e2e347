"""Seeds: the items and images that a request starts from become one query vector.

1. Each seed's images are centred by the catalog's mean and averaged to one row.
2. The seeds' rows are added by weight, those of `unlike` negative, and each part is as long as a row's again.
3. What colour counts for this request weighs the two parts against each other (`models/parts.py`).

Easy to get wrong: a seed that cannot be used fails its request only if nothing is left to be looked like; otherwise the
answer says which were left out.  Lists of recently viewed items hold deleted ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.shard import Shard
from models.errors import BadRequest, KindredError, Unavailable
from models.parts import rows_of, unit_parts, weighing
from models.request import ImageKey, Request

Vectors = NDArray[np.float32]


class Unused(NamedTuple):
    """A seed that was left out, and why."""

    name: str
    """Item id or link."""
    message: str
    status: int


class Source(NamedTuple):
    """What one seed brings: an item's looks, or an image's."""

    name: str
    """Item id or link, shortened."""
    at: tuple[int, int] | None
    """Shard and ordinal of an item; None: an image."""
    images: tuple[int, ...]
    """Which of the item's images they are; (0,) for an image."""
    vectors: Vectors
    """float32[R, D] centred rows."""
    weight: float


class Seeds(NamedTuple):
    """What one request starts from."""

    row: Vectors
    """float32[D], what they come to, as rows are; zero if they take each other away, or none is usable."""
    query: Vectors
    """float32[D], its product with a row is their similarity; of unit length where colour does not count, or zero."""
    sources: tuple[Source, ...]
    unused: tuple[Unused, ...]
    usable: bool
    """Whether anything is left to be looked like."""
    colour_weight: float = 0.0
    """What colour counts, 0..1."""
    weights: Vectors | None = None
    """float32[D] by which a row becomes a query (`models.parts.weighing`); None: by nothing, vectors have no colour."""

    def asked(self, row: Vectors) -> Vectors:
        """The query float32[D] that asks for what looks like a row float32[D], colour counting as in this request."""
        return row if self.weights is None else row * self.weights

    def compared(self, rows: Vectors) -> Vectors:
        """float32[K, D] of rows float32[K, D], whose products with each other are their similarities."""
        return rows if self.weights is None else rows * np.sqrt(self.weights)

    @property
    def items(self) -> list[tuple[int, int]]:
        """Shard and ordinal of the items to look like."""
        return [source.at for source in self.sources if source.at is not None and source.weight > 0]


def seeds_of_items(requests: Sequence[Request], shards: Sequence[Shard]) -> list[Seeds | None]:
    """The seeds of those requests that start from one item with one picture, as most do; None for any other.

    They are what `resolve_seeds` makes of each, but all vectors are fetched at once.
    """
    seeds: list[Seeds | None] = [None] * len(requests)
    found: list[list[tuple[int, int, int]]] = [[] for _ in shards]
    weighings: dict[float, Vectors | None] = {}
    for at, request in enumerate(requests):
        if place := _only_row(request, shards):
            number, ordinal, row = place
            found[number].append((at, ordinal, row))
    for number, (shard, mine) in enumerate(zip(shards, found, strict=True)):
        if not mine:
            continue
        settings = shard.settings
        rows = shard.centred([row for _, _, row in mine])
        by_request = []
        for at, _, _ in mine:
            weight = requests[at].colour
            weight = settings.colour_weight if weight is None else weight
            if weight not in weighings:
                weighings[weight] = weighing(rows.shape[1], settings.colour, weight)
            by_request.append((weight, weighings[weight]))
        queries = rows * np.array([weights for _, weights in by_request]) if settings.colour else rows
        for (at, ordinal, _), row, query, weigh in zip(mine, rows, queries, by_request, strict=True):
            (item,) = requests[at].items
            source = Source(item.item_id, (number, ordinal), (0,), row[None], item.weight)
            seeds[at] = Seeds(row, query, (source,), (), True, *weigh)
    return seeds


def seeds_of_item(request: Request, shards: Sequence[Shard]) -> Seeds | None:
    """The same of one request."""
    place = _only_row(request, shards)
    if place is None:
        return None
    number, ordinal, row_id = place
    settings, (item,) = shards[number].settings, request.items
    rows = shards[number].centred_row(row_id)
    weight = settings.colour_weight if request.colour is None else request.colour
    weights = weighing(rows.shape[1], settings.colour, weight)
    row: Vectors = rows[0]
    source = Source(item.item_id, (number, ordinal), (0,), rows, item.weight)
    return Seeds(row, row if weights is None else row * weights, (source,), (), True, weight, weights)


def _only_row(request: Request, shards: Sequence[Shard]) -> tuple[int, int, int] | None:
    """Shard, ordinal and row of what a request starts from, if that is one item with one picture."""
    if len(request.items) != 1 or request.images or request.items[0].weight <= 0:
        return None
    item_id = request.items[0].item_id
    for number, shard in enumerate(shards):
        if place := shard.only_row(item_id):
            return (number, *place)
    return None


def resolve_seeds(
    request: Request,
    images: Mapping[ImageKey, Vectors | KindredError],
    shards: Sequence[Shard],
    mean: Vectors | None,
) -> Seeds:
    """The seeds of a request, with those that cannot be used.

    `images`: by key the raw unit vector float32[D] of each image that the request names, or why there is none.
    `mean` float32[D] as the shards were told.
    """
    settings = shards[0].settings if shards else None
    colour = settings.colour if settings else 0
    sources: list[Source] = []
    wanted: list[Unused] = []
    unwanted: list[Unused] = []
    for item in request.items:
        found = _item(item.item_id, shards, item.weight)
        if found is not None:
            sources.append(found)
        else:
            (wanted if item.weight > 0 else unwanted).append(_why_not(item.item_id, shards))
    for image in request.images:
        vector = images[image.key]
        name = image.link if len(image.link) <= 200 else image.link[:200] + "..."
        if settings and not isinstance(vector, KindredError) and len(vector) != settings.dimension:
            vector = Unavailable("vectors have just been projected, ask again")  # once in the life of an index
        if isinstance(vector, KindredError):
            (wanted if image.weight > 0 else unwanted).append(Unused(name, f"image: {vector}", _status(vector)))
        else:
            sources.append(Source(name, None, (0,), rows_of(vector[None], mean, colour), image.weight))
    usable = any(source.weight > 0 for source in sources)
    row = _row(sources, shards, colour)
    weight = request.colour if request.colour is not None else settings.colour_weight if settings else 0.0
    weights = weighing(len(row), colour, weight)
    query = row if weights is None else row * weights
    return Seeds(row, query, tuple(sources), tuple(wanted + unwanted), usable, weight, weights)


def _item(item_id: str, shards: Sequence[Shard], weight: float) -> Source | None:
    for number, shard in enumerate(shards):
        ordinal = shard.ordinal(item_id)
        if ordinal is not None:
            look = shard.look(ordinal)
            return Source(item_id, (number, ordinal), look.images, look.vectors, weight) if look.images else None
    return None


def _row(sources: Sequence[Source], shards: Sequence[Shard], colour: int) -> Vectors:
    """float32[D], the row that all sources come to."""
    if len(sources) == 1 and len(sources[0].vectors) == 1:
        return sources[0].vectors[0]
    dimension = sources[0].vectors.shape[1] if sources else shards[0].settings.dimension if shards else 0
    total = np.zeros(dimension, np.float32)
    for source in sources:
        total += np.float32(source.weight) * mean_look(source.vectors, colour)
    return unit_parts(total, colour)


def mean_look(vectors: Vectors, colour: int) -> Vectors:
    """float32[D] of an item's centred rows float32[R, D]: their mean direction, look and colour apart."""
    return vectors[0] if len(vectors) == 1 else unit_parts(vectors.sum(axis=0), colour)


def _status(error: KindredError) -> int:
    if isinstance(error, BadRequest):
        return error.status
    return 503 if isinstance(error, Unavailable) else 422


def _why_not(item_id: str, shards: Sequence[Shard]) -> Unused:
    """Why an item has no vector."""
    item = next((item for shard in shards if (item := shard.item(item_id)) is not None), None)
    if item is None:
        return Unused(item_id, f"item {item_id!r} is not known", 404)
    if not item.images:
        return Unused(item_id, f"item {item_id!r} has no image", 422)
    failed = [image for image in item.images if image.error is not None and image.retry_at is None]
    if len(failed) == len(item.images):
        return Unused(item_id, f"item {item_id!r} has no image that can be used: {failed[0].error}", 422)
    waiting = next(
        (image.error for image in item.images if image.error is not None and image.retry_at is not None), None
    )
    reason = f" (last attempt: {waiting})" if waiting else ""
    return Unused(item_id, f"item {item_id!r} is known, but its images are not embedded yet{reason}", 404)
