"""A shard by brute force: the logs of the truths, and answers worked out from their last messages in float64.

It shares no code with `indexes/`: what the logs mean is written down here a second time, in the plainest way.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from indexes.shard import EMBEDDINGS, RECORDS, STOCKS, Shard
from indexes.shard_settings import ShardSettings
from models.truth_messages import (
    Facts,
    ImageEmbedding,
    ItemEmbedding,
    ItemRecord,
    ItemStock,
    Written,
    write_message,
)

DIMENSION = 16
MODEL = "tests@1"
CLUSTER = "cluster-1"
DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000

SMALL = ShardSettings(
    dimension=DIMENSION,
    model=MODEL,
    delta_rows_max=50,
    segment_rows_min=50,
    trees=4,
    search_k=1_000_000,  # every row: then trees are exact, and what is tested is everything around them
    exact_share=0.0,
    exact_rows=0,
    seal_retry_ms=100,
    nice=0,
)


def record_message(
    item_id: str, images: Sequence[str], version: int = 1, facts: Facts = Facts(), at: int = 1, **attributes: Any
) -> bytes:
    """A message of `item-records`."""
    record = msgspec.Raw(orjson.dumps({"objectID": item_id, **attributes}))
    return write_message(ItemRecord(record, facts, tuple(images), version, at, Written(1, at)))


def gone_message(at: int = 1) -> bytes:
    return write_message(ItemRecord(msgspec.Raw(b"{}"), Facts(), (), 9, at, Written(1, at), gone=True))


def stock_message(quantity: float | None, at: int = 1) -> bytes:
    return write_message(ItemStock(quantity, at, Written(1, at)))


def embedding_message(vectors: Mapping[str, NDArray[Any] | None], version: int = 1, model: str = MODEL) -> bytes:
    """A message of `item-embeddings`; None for a vector: an image that could not be used."""
    images = tuple(
        ImageEmbedding(link, error="broken")
        if vector is None
        else ImageEmbedding(link, digest="d", vector=base64.b64encode(vector.astype("<f2").tobytes()).decode())
        for link, vector in vectors.items()
    )
    return write_message(ItemEmbedding(version, model, images))


def unit_vectors(rng: np.random.Generator, count: int, dimension: int = DIMENSION) -> NDArray[np.float64]:
    """Unit vectors that lean to one side, as real embeddings do."""
    vectors = rng.normal(size=(count, dimension)) + 0.4
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Oracle:
    """The last message of each key, and what follows from them."""

    def __init__(self) -> None:
        self.logs: dict[str, list[tuple[str, bytes | None]]] = {RECORDS: [], STOCKS: [], EMBEDDINGS: []}
        self.mean = np.zeros(DIMENSION)

    def last(self, truth: str) -> dict[str, Any]:
        """Of each key that is not away, the last message, parsed; what cannot be parsed is away too."""
        found = {}
        for key, value in dict(self.logs[truth]).items():
            if value is None:
                continue
            try:
                message = orjson.loads(value)
            except ValueError:
                continue
            if not message.get("gone"):
                found[key] = message
        return found

    def rows(self) -> list[tuple[str, int, NDArray[np.float64]]]:
        """Item, index of the image in its record, raw vector: all that is to be found."""
        embeddings = self.last(EMBEDDINGS)
        rows = []
        for item_id, record in self.last(RECORDS).items():
            vectors = {
                image["link"]: image.get("vector") for image in embeddings.get(item_id, {"images": []})["images"]
            }
            for number, link in enumerate(record["images"]):
                if vectors.get(link):
                    vector = np.frombuffer(base64.b64decode(vectors[link]), "<f2").astype(np.float64)
                    rows.append((item_id, number, vector))
        return rows

    def similarities(self, query: NDArray[Any]) -> dict[str, tuple[float, int]]:
        """By item, the centred cosine of its best image, and which that is."""
        best: dict[str, tuple[float, int]] = {}
        for item_id, number, vector in self.rows():
            centred = vector / np.linalg.norm(vector) if not self.mean.any() else vector - self.mean
            length = np.linalg.norm(centred)
            similarity = float(centred @ query / length) if length > 1e-6 else 0.0
            if item_id not in best or similarity > best[item_id][0]:
                best[item_id] = (similarity, number)
        return best


class Pair:
    """A shard and its oracle, told the same."""

    def __init__(self, folder: Path, settings: ShardSettings = SMALL, seed: int = 0) -> None:
        self.folder = folder
        self.settings = settings
        self.rng = np.random.default_rng(seed)
        self.oracle = Oracle()
        self.now_ms = NOW_MS
        self.shard = self.open()

    def open(self, **changes: Any) -> Shard:
        """Open the shard from its folder, with the ends that the logs have now."""
        asked: dict[str, Any] = {
            "cluster_id": CLUSTER,
            "now_ms": self.now_ms,
            "retention_ms": DAY_MS,
            "offsets": {truth: (0, len(log)) for truth, log in self.oracle.logs.items()},
        }
        return Shard.open(self.folder, 0, self.settings, **asked | changes)

    def reopen(self, **changes: Any) -> None:
        """Leave the shard as a crash would, open it again and read on to the end."""
        self.shard.close(checkpoint=False)
        self.shard = self.open(**changes)
        self.shard.use_mean(self.oracle.mean.astype(np.float32) if self.oracle.mean.any() else None)
        self.read_on()

    def read_on(self) -> None:
        for truth, log in self.oracle.logs.items():
            start = self.shard.next_offsets.get(truth, 0)
            for at in range(start, len(log), 7):
                self.shard.apply(truth, log[at : at + 7], min(at + 7, len(log)), self.now_ms)

    def tell(self, truth: str, *changes: tuple[str, bytes | None]) -> list[Any]:
        """Append to a log and apply."""
        log = self.oracle.logs[truth]
        log += changes
        return self.shard.apply(truth, changes, len(log), self.now_ms)

    def use_mean(self, mean: NDArray[Any] | None) -> None:
        self.oracle.mean = np.zeros(DIMENSION) if mean is None else mean.astype(np.float32).astype(np.float64)
        self.shard.use_mean(None if mean is None else mean.astype(np.float32))

    def add_items(self, start: int, stop: int, images: Callable[[int], int] = lambda number: 1) -> None:
        """Items `i<number>` with vectors, some on sale, some sold out, in four colours."""
        for number in range(start, stop):
            item_id = f"i{number}"
            links = [f"{item_id}-{image}.jpg" for image in range(images(number))]
            facts = Facts(sale=number % 5 == 0, discount=0.25 if number % 5 == 0 else 0.0)
            colour = ("red", "green", "blue", "black")[number % 4]
            vectors = dict(zip(links, unit_vectors(self.rng, len(links)), strict=True))
            self.tell(EMBEDDINGS, (item_id, embedding_message(vectors)))
            self.tell(RECORDS, (item_id, record_message(item_id, links, facts=facts, at=number + 1, colour=colour)))
            self.tell(STOCKS, (item_id, stock_message(number % 7, at=number + 1)))

    # Comparison

    def check(self, count: int = 10, batch: int = 6) -> None:
        """The shard finds what brute force finds: unfiltered, filtered, boosted, a whole batch at once."""
        shard, oracle = self.shard, self.oracle
        directions = self.rng.normal(size=(batch, DIMENSION))
        queries = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
        columns = shard.columns
        masks = [None, columns.in_stock, columns.in_stock, np.zeros(shard.capacity, np.bool_), None, None]
        some = self.rng.random(shard.capacity) < 0.2
        factors = np.where(columns.on_sale, 1.5, 0.8)
        allowed = [*masks[:batch], *[some] * max(0, batch - len(masks))][:batch]
        boosts = [None, None, factors, None, factors, None][:batch] + [factors] * max(0, batch - len(masks))
        answers = shard.search(queries, count, allowed, boosts)
        for query, mask, boost, answer in zip(queries, allowed, boosts, answers, strict=True):
            expected = {}
            for item_id, (similarity, image) in oracle.similarities(query.astype(np.float64)).items():
                item = shard.item(item_id)
                assert item is not None, item_id
                if mask is None or mask[item.ordinal]:
                    factor = 1.0 if boost is None else float(boost[item.ordinal])
                    expected[item_id] = (
                        similarity * factor if similarity > 0 else similarity / factor,
                        similarity,
                        image,
                    )
            self._compare(answer, expected, count, boost)

    def _compare(self, answer: Any, expected: dict[str, tuple[float, float, int]], count: int, boost: Any) -> None:
        ids = [self.shard.item_ids[ordinal] for ordinal in answer.ordinals]
        best = sorted((score for score, _, _ in expected.values()), reverse=True)[:count]

        assert len(best) == len(ids) == len(set(ids))
        assert set(ids) <= set(expected)
        np.testing.assert_allclose([expected[item_id][0] for item_id in ids], best, atol=3e-6)
        np.testing.assert_allclose(answer.similarity, [expected[item_id][1] for item_id in ids], atol=3e-6)
        factors = np.ones(len(ids)) if boost is None else boost[answer.ordinals]
        scores = np.where(answer.similarity > 0, answer.similarity * factors, answer.similarity / factors)
        assert (np.diff(scores) <= 1e-6).all()
        for item_id, image in zip(ids, answer.image.tolist(), strict=True):
            item = self.shard.item(item_id)
            assert item is not None
            assert item.images[image].embedded
