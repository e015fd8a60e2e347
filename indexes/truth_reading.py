"""Messages of the truths, checked, in the shape that a shard keeps.  BadEvent says what was expected.

The writers are ours, so a bad message is a fault or an attack; either way the shard must go on and stay a function of
the logs (see `shard.py`).
"""

from __future__ import annotations

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from indexes.segment import LENGTH_TOLERANCE
from indexes.stored import StoredRecord
from models.errors import BadEvent, KindredError
from models.projection import Projection
from models.stock import Level
from models.truth_messages import ImageEmbedding, read_item_embedding, read_item_record, read_item_stock
from models.vectors import half_numbers, unpack_half


class OtherModel(KindredError):
    """An embedding comes from another model than this index is of.  No event can mend that: the worker stops."""


class ReadEmbedding(msgspec.Struct, frozen=True):
    """An embedding with its vectors unpacked: beside each image its raw unit vector float16[D], or None."""

    image_version: int
    images: tuple[ImageEmbedding, ...]
    vectors: tuple[NDArray[np.float16] | None, ...]


def read_record(value: bytes) -> StoredRecord | None:
    """A message of `item-records`; None: the item is gone."""
    try:
        message = read_item_record(value)
        if message.gone:
            return None
        record = bytes(message.record)
        attributes = orjson.loads(record)
    except (msgspec.DecodeError, UnicodeDecodeError, orjson.JSONDecodeError) as error:
        raise BadEvent(f"expected a message of item-records: {error}") from error
    if not isinstance(attributes, dict):
        raise BadEvent(f"expected record to be a JSON object, got {type(attributes).__name__}")
    return StoredRecord(record, message.facts, message.images, message.image_version, message.at)


def deleted_at(value: bytes) -> int | None:
    """Unix ms of the delete that a message of `item-records` tells; None: it tells none."""
    try:
        message = read_item_record(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return message.at if message.gone else None


def read_level(value: bytes) -> Level:
    """A message of `item-stocks`."""
    try:
        message = read_item_stock(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadEvent(f"expected a message of item-stocks: {error}") from error
    return Level(message.quantity, message.at)


def read_embedding(
    value: bytes, model: str, dimension: int, colour: int = 0, projection: Projection | None = None
) -> ReadEmbedding:
    """A message of `item-embeddings`.  OtherModel if it is not of `model` or its vectors not of `dimension`.

    `colour`: how many of the `dimension` numbers are colour.  An image whose colour is not told has zeros there.
    `projection`: what makes the other numbers of those in the message.
    """
    try:
        message = read_item_embedding(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadEvent(f"expected a message of item-embeddings: {error}") from error
    if message.model != model:
        theirs = next((half_numbers(image.vector) for image in message.images if image.vector), None)
        ours = dimension - colour if projection is None else projection.width
        raise OtherModel(
            f"an embedding on item-embeddings is of model {message.model!r}{_dimensions(theirs)}, "
            f"this index is of {model!r}{_dimensions(ours)}: use the model of the topic, or another topic prefix"
        )
    images = {image.link: image for image in reversed(message.images)}  # the first of a name counts
    kept = tuple(images.values())[::-1]
    vectors = tuple(
        None if image.vector is None else _raw_row(image, model, dimension - colour, colour, projection)
        for image in kept
    )
    return ReadEmbedding(message.image_version, kept, vectors)


def _dimensions(numbers: int | None) -> str:
    return "" if numbers is None else f" ({numbers} dimensions)"


def _raw_row(
    image: ImageEmbedding, model: str, numbers: int, colour: int, projection: Projection | None
) -> NDArray[np.float16]:
    assert image.vector is not None
    look = _vector(image.vector, model, numbers if projection is None else projection.width)
    if projection is not None:
        look = projection.of(look).astype(np.float16)
    if not colour:
        return look
    tint = np.zeros(colour, np.float16) if image.colour is None else _unit(image.colour, colour)
    return np.concatenate((look, tint))


def _vector(text: str, model: str, dimension: int) -> NDArray[np.float16]:
    if len(text) % 4 == 0 and text:
        content = len(text) // 4 * 3 - text[-2:].count("=")
        if content % 2 == 0 and content != 2 * dimension:
            raise OtherModel(
                f"an embedding of model {model!r} has {content // 2} dimensions, this index has {dimension}"
            )
    return _unit(text, dimension)


def _unit(text: str, numbers: int) -> NDArray[np.float16]:
    vector = unpack_half(text, numbers)
    length = float(np.sqrt(vector @ vector))
    if abs(length - 1) > LENGTH_TOLERANCE:
        raise BadEvent(f"expected a vector of length 1, got {length:.4f}")
    return vector.astype(np.float16)
