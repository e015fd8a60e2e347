"""A catalog of items whose looks are directions in a plane, in shards, and what a plain evaluation knows of it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from indexes.answering import answer_requests
from indexes.results import AnswerSettings
from indexes.shard import EMBEDDINGS, RECORDS, STOCKS, Shard
from indexes.shard_settings import ShardSettings
from models.answer import Result
from models.attributes import attribute_values
from models.errors import KindredError
from models.request import ImageKey, RequestLimits, parse_requests
from models.rules import RuleBook, parse_rule
from models.stock import derived_attributes, flags
from models.truth_messages import (
    Facts,
    ImageEmbedding,
    ItemEmbedding,
    ItemRecord,
    ItemStock,
    Written,
    write_message,
)
from models.vectors import centre, pack_half, unit, unpack_half

D = 8
NOW_MS = 1_700_000_000_000
SETTINGS = ShardSettings(dimension=D, model="m@1")
Images = Mapping[ImageKey, NDArray[np.float32] | KindredError]


class Catalog:
    """A few shards and, beside them, what was put into them."""

    def __init__(self, folder: Path, shards: int = 3) -> None:
        self.shards = [
            Shard.open(
                folder / str(number),
                number,
                SETTINGS,
                cluster_id="c",
                now_ms=NOW_MS,
                retention_ms=86_400_000,
                offsets={},
            )
            for number in range(shards)
        ]
        self.items: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Facts] = {}
        self.quantities: dict[str, float | None] = {}
        self.vectors: dict[str, NDArray[np.float32]] = {}
        self.mean: NDArray[np.float32] | None = None
        self.rules = RuleBook()

    def shard_of(self, item_id: str) -> Shard:
        return self.shards[sum(item_id.encode()) % len(self.shards)]

    def put(
        self,
        item_id: str,
        vectors: Sequence[Sequence[float]] = (),
        *,
        facts: Facts = Facts(),
        quantity: float | None = None,
        errors: Sequence[ImageEmbedding] = (),
        waiting: Sequence[str] = (),
        **attributes: Any,
    ) -> None:
        """Puts an item with one image a vector; `errors` are further images, `waiting` ones not embedded yet."""
        shard = self.shard_of(item_id)
        record = {"objectID": item_id} | attributes
        rows = [unpack_half(pack_half(unit(np.array(vector, np.float32))), D) for vector in vectors]
        names = [f"{item_id}-{number}.jpg" for number in range(len(rows))]
        images = [ImageEmbedding(name, vector=pack_half(row)) for name, row in zip(names, rows, strict=True)]
        links = (*names, *(image.link for image in errors), *waiting)
        written = Written(1, 1)
        message = ItemRecord(msgspec.Raw(orjson.dumps(record)), facts, links, 1, NOW_MS - 5, written)
        apply(shard, RECORDS, item_id, write_message(message))
        if images or errors:
            apply(shard, EMBEDDINGS, item_id, write_message(ItemEmbedding(1, "m@1", (*images, *errors))))
        if quantity is not None:
            apply(shard, STOCKS, item_id, write_message(ItemStock(quantity, NOW_MS - 3, written)))
        self.items[item_id], self.facts[item_id], self.quantities[item_id] = record, facts, quantity
        self.vectors[item_id] = np.array(rows, np.float32).reshape(-1, D)

    def use_mean(self, mean: NDArray[np.float32] | None) -> None:
        self.mean = mean
        for shard in self.shards:
            shard.use_mean(mean)

    def rule(self, rule_id: str, **fields: Any) -> None:
        self.rules.put(parse_rule(rule_id, orjson.dumps(fields)))

    def ask(self, *bodies: dict[str, Any], images: Images | None = None, **options: Any) -> list[Result]:
        entries = [
            entry
            for body in bodies
            for entry in parse_requests(orjson.dumps(body), RequestLimits(hits_default=5), "items").entries
        ]
        return answer_requests(
            entries, images or {}, self.shards, self.rules, NOW_MS, mean=self.mean, settings=AnswerSettings(**options)
        )

    def one(self, images: Images | None = None, **fields: Any) -> dict[str, Any]:
        """The result of one request, which must be good."""
        (result,) = self.ask(fields, images=images)
        assert result.status == 200, result.message
        answer: dict[str, Any] = orjson.loads(result.body)
        return answer

    def hits(self, images: Images | None = None, **fields: Any) -> str:
        """The ids of the hits of one request, joined: for items that are named by one letter."""
        return "".join(hit["objectID"] for hit in self.one(images, **fields)["hits"])

    def failure(self, images: Images | None = None, **fields: Any) -> tuple[int, str]:
        (result,) = self.ask(fields, images=images)
        assert orjson.loads(result.body)["hits"] == []
        return result.status, str(result.message)

    # The oracle

    def values(self, item_id: str) -> dict[str, Sequence[Any]]:
        now = flags(self.facts[item_id], self.quantities[item_id], NOW_MS, SETTINGS.low_stock_at)
        return {**attribute_values(self.items[item_id]), **derived_attributes(now)}

    def centred(self, item_id: str) -> NDArray[np.float32]:
        rows = self.vectors[item_id]
        return unit(rows) if self.mean is None else centre(rows, self.mean)


def apply(shard: Shard, truth: str, key: str, value: bytes | None) -> None:
    """One message into a shard, which must take it."""
    assert shard.apply(truth, [(key, value)], 1, NOW_MS) == []


def turned(degrees: float) -> list[float]:
    """A direction in the first plane: its cosine with `turned(0)` is that of the angle."""
    return [float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))] + [0.0] * (D - 2)


def drawn(folders: pytest.TempPathFactory, seed: int) -> Catalog:
    """A catalog of forty items, some with two images, some without, on sale, low, sold out."""
    numbers = random.Random(seed)
    vectors = np.random.default_rng(seed).standard_normal((80, D))
    catalog = Catalog(folders.mktemp("drawn"), shards=1 + seed)
    for number in range(40):
        images = vectors[2 * number : 2 * number + (2 if number % 5 == 1 else 1)]
        catalog.put(
            f"i{number}",
            images.tolist(),
            facts=Facts(sale=number % 3 == 0, discount=0.1),
            quantity=numbers.choice([None, 0, 2, 50]),
            category=numbers.choice("abc"),
            price=numbers.randrange(10),
        )
    catalog.use_mean(vectors.mean(axis=0).astype(np.float32) if seed % 2 else None)
    return catalog


def without_default(folder: Path, shards: int = 3) -> Catalog:
    """Empty shards without the built-in rule."""
    empty = Catalog(folder, shards)
    empty.rule("default", enabled=False)
    return empty


def fan_of(folder: Path) -> Catalog:
    """Items s, a, b, c, d, e at 0, 10, 20, 30, 40, 50 degrees, without the built-in rule."""
    catalog = without_default(folder)
    for number, item_id in enumerate("sabcde"):
        catalog.put(item_id, [turned(10 * number)], category="shoes" if item_id in "sbd" else "hats", rank=number)
    return catalog
