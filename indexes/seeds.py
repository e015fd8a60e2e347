"""Seeds: the items and images that a request starts from become one query vector.

1. Each seed's images are centred by the catalog's mean and averaged to one unit vector.
2. The seeds' vectors are added by weight, those of `unlike` negative, and the sum has unit length again.

Easy to get wrong: a seed that cannot be used fails its request only if nothing is left to be looked like; otherwise the
answer says which were left out.  Lists of recently viewed items hold deleted ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.shard import Shard
from indexes.stored import ShardItem
from models.attributes import attribute_values
from models.errors import BadRequest, KindredError, Unavailable
from models.filter_tree import Scalar
from models.request import Request
from models.stock import derived_attributes
from models.vectors import centre, unit

Vectors = NDArray[np.float32]


class Unused(NamedTuple):
    """A seed that was left out, and why."""

    name: str
    """Item id or link."""
    message: str
    status: int


class Seeds(NamedTuple):
    """What one request starts from."""

    query: Vectors
    """float32[D], centred, of unit length; zero if the seeds take each other away."""
    positive: tuple[tuple[Shard, str], ...]
    """The items to look like, each with its shard."""
    unused: tuple[Unused, ...]


def resolve_seeds(
    requests: Sequence[Request],
    images: Mapping[str, Vectors | KindredError],
    shards: Sequence[Shard],
    mean: Vectors | None,
) -> list[Seeds | Unused]:
    """For each request its seeds, or the reason why nothing is left of them.

    `images`: by link the raw unit vector float32[D] of each image that a request names, or why there is none.
    `mean` float32[D] as the shards were told.
    """
    parts: list[_Parts] = []
    rows: list[Vectors] = []
    for request in requests:
        parts.append(_gather(request, images, shards, rows))
    if not rows:
        return [part.failure() for part in parts]
    stacked = rows[0] if len(rows) == 1 else np.concatenate(rows)
    centred = unit(stacked) if mean is None else centre(stacked, mean)
    resolved: list[Seeds | Unused] = []
    start = 0
    for part in parts:
        stop = start + sum(part.counts)
        if part.usable:
            resolved.append(Seeds(part.combined(centred[start:stop]), tuple(part.positive), tuple(part.unused)))
        else:
            resolved.append(part.failure())
        start = stop
    return resolved


class _Parts:
    """One request's seeds before centring: how many rows each has, and its weight."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.weights: list[float] = []
        self.positive: list[tuple[Shard, str]] = []
        self.unused: list[Unused] = []
        self.usable = False

    def add(self, rows: int, weight: float) -> None:
        self.counts.append(rows)
        self.weights.append(weight)
        self.usable |= weight > 0

    def failure(self) -> Unused:
        return self.unused[0]

    def combined(self, centred: Vectors) -> Vectors:
        """float32[D] of centred rows float32[R, D], those of each seed following each other."""
        if len(centred) == 1:
            return centred[0]
        total = np.zeros(centred.shape[1], np.float32)
        start = 0
        for rows, weight in zip(self.counts, self.weights, strict=True):
            total += np.float32(weight) * unit(centred[start : start + rows].sum(axis=0))
            start += rows
        return unit(total)


def _gather(
    request: Request,
    images: Mapping[str, Vectors | KindredError],
    shards: Sequence[Shard],
    rows: list[Vectors],
) -> _Parts:
    """The request's seeds; their raw vectors are added to `rows`."""
    parts = _Parts()
    wanted: list[Unused] = []
    unwanted: list[Unused] = []
    for item in request.items:
        for shard in shards:
            vectors = shard.vectors(item.item_id)
            if len(vectors):
                rows.append(vectors)
                parts.add(len(vectors), item.weight)
                if item.weight > 0:
                    parts.positive.append((shard, item.item_id))
                break
        else:
            (wanted if item.weight > 0 else unwanted).append(_why_not(item.item_id, shards))
    for image in request.images:
        vector = images[image.link]
        if isinstance(vector, KindredError):
            name = image.link if len(image.link) <= 200 else image.link[:200] + "..."
            (wanted if image.weight > 0 else unwanted).append(Unused(name, f"image: {vector}", _status(vector)))
        else:
            rows.append(vector[None])
            parts.add(1, image.weight)
    parts.unused = wanted + unwanted
    return parts


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


def source_values(item: ShardItem, attributes: Mapping[str, object], now_ms: int) -> dict[str, Sequence[Scalar]]:
    """What rules and `sameAs` compare of a source item: its attributes by dotted path, the derived ones over them."""
    return {**attribute_values(attributes), **derived_attributes(item.flags(now_ms))}
