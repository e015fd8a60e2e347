"""Indexes that are compared: Kindred's shard, exact NumPy, one Annoy file, hnswlib.

All of them hold the same vectors, centred by the same mean, and are asked for the same centred queries.  Ids are
numbers of vectors; `lot[i]` of a vector is 0..99, so that "lot below n" lets n % of them through.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.ground import LOADED_AT_MS
from indexes.shard import EMBEDDINGS, RECORDS, STOCKS, TRUTHS, Shard
from indexes.shard_settings import ShardSettings
from indexes.ticks import monotonic_ms
from models.colour import NUMBERS
from models.filters import parse_filter
from models.truth_messages import Facts, ImageEmbedding, ItemEmbedding, ItemRecord, Written, write_message
from models.vectors import centre, pack_half, unit

Vectors = NDArray[np.float32]
Ids = list[list[int]]

TREES, SEARCH_K = 24, 12_000
LINKS, EF_BUILD, EF_SEARCH = 16, 100, 100
THREADS = 2
"""Of a build, where the library can use them."""
MODEL = "bench@000000000000"
BATCH = 500
COLOURS = [pack_half(colour) for colour in unit(np.random.default_rng(0).standard_normal((1_000, NUMBERS)))]


class Contender(Protocol):
    """What each can do.  Figures of `build`: seconds by name."""

    def build(self, raw: Vectors, mean: Vectors, lots: NDArray[np.intp], folder: Path) -> dict[str, float]: ...
    def search(self, queries: Vectors, count: int, share: int | None, together: int) -> Ids: ...
    def insert(self, raw: Vectors, mean: Vectors) -> list[float]: ...
    def reopen(self) -> float: ...


class ExactNumpy:
    """A matrix and a product; the truth that recall is measured by."""

    def build(self, raw: Vectors, mean: Vectors, lots: NDArray[np.intp], folder: Path) -> dict[str, float]:
        begin = time.perf_counter()
        self.size = len(raw)
        self.rows = np.concatenate([centre(raw, mean), np.zeros((1_000, raw.shape[1]), np.float32)])
        self.lots, self.file = lots, folder / "rows.npy"
        np.save(self.file, self.rows)
        return {"build": time.perf_counter() - begin}

    def search(self, queries: Vectors, count: int, share: int | None, together: int) -> Ids:
        found: Ids = []
        for start in range(0, len(queries), together):
            asked = queries[start : start + together]
            places = None if share is None else np.flatnonzero(self.lots < share)
            rows = self.rows[: self.size] if places is None else self.rows[places]
            scores = asked @ rows.T
            few = min(count, len(rows))
            best = np.argpartition(scores, -few, axis=1)[:, -few:]
            found += (best if places is None else places[best]).tolist()
        return found

    def insert(self, raw: Vectors, mean: Vectors) -> list[float]:
        took = []
        for row in centre(raw, mean):
            begin = time.perf_counter()
            self.rows[self.size] = row
            self.size += 1
            found = self.search(row[None], 10, None, 1)
            took.append(time.perf_counter() - begin)
            assert self.size - 1 in found[0]
        return took

    def reopen(self) -> float:
        begin = time.perf_counter()
        self.rows = np.load(self.file)
        return time.perf_counter() - begin


class OneAnnoy:
    """One Annoy file over everything, built anew for every insert; filters are applied to more neighbours."""

    def build(self, raw: Vectors, mean: Vectors, lots: NDArray[np.intp], folder: Path) -> dict[str, float]:
        from annoy import AnnoyIndex

        begin = time.perf_counter()
        self.lots, self.file, self.dimension = lots, folder / "one.ann", raw.shape[1]
        trees = AnnoyIndex(self.dimension, "angular")
        trees.set_seed(1)
        for number, row in enumerate(centre(raw, mean)):
            trees.add_item(number, row)
        trees.build(TREES, n_jobs=THREADS)
        trees.save(str(self.file))
        took = time.perf_counter() - begin
        self.reopen()
        return {"build": took}

    def search(self, queries: Vectors, count: int, share: int | None, together: int) -> Ids:
        asked = count if share is None else 150 * count // share
        found: Ids = []
        for query in queries:
            near = np.array(self.trees.get_nns_by_vector(query, asked, search_k=max(SEARCH_K, 4 * asked)))
            found.append((near if share is None else near[self.lots[near] < share])[:count].tolist())
        return found

    def insert(self, raw: Vectors, mean: Vectors) -> list[float]:
        return []

    def reopen(self) -> float:
        from annoy import AnnoyIndex

        begin = time.perf_counter()
        self.trees = AnnoyIndex(self.dimension, "angular")
        self.trees.load(str(self.file))
        return time.perf_counter() - begin


class Hnsw:
    """hnswlib's graph; filters are applied to more neighbours (its own take a Python call a node)."""

    def build(self, raw: Vectors, mean: Vectors, lots: NDArray[np.intp], folder: Path) -> dict[str, float]:
        import hnswlib

        begin = time.perf_counter()
        self.lots, self.file, self.size = lots, str(folder / "graph.bin"), len(raw)
        self.graph = hnswlib.Index(space="ip", dim=raw.shape[1])
        self.graph.init_index(len(raw) + 1_000, M=LINKS, ef_construction=EF_BUILD, random_seed=1)
        self.graph.add_items(centre(raw, mean), num_threads=THREADS)
        self.graph.set_num_threads(1)
        took = time.perf_counter() - begin
        self.graph.save_index(self.file)
        return {"build": took}

    def search(self, queries: Vectors, count: int, share: int | None, together: int) -> Ids:
        asked = count if share is None else min(150 * count // share, self.size)
        self.graph.set_ef(max(EF_SEARCH, asked))
        found: Ids = []
        for start in range(0, len(queries), together):
            for near in self.graph.knn_query(queries[start : start + together], asked)[0].astype(np.intp):
                found.append((near if share is None else near[self.lots[near] < share])[:count].tolist())
        return found

    def insert(self, raw: Vectors, mean: Vectors) -> list[float]:
        took = []
        for row in centre(raw, mean):
            begin = time.perf_counter()
            self.graph.add_items(row[None], [self.size])
            found = self.graph.knn_query(row[None], 10)[0]
            took.append(time.perf_counter() - begin)
            assert self.size in found[0]
            self.size += 1
        return took

    def reopen(self) -> float:
        import hnswlib

        begin = time.perf_counter()
        graph = hnswlib.Index(space="ip", dim=self.graph.dim)
        graph.load_index(self.file, max_elements=self.size + 1_000)
        graph.set_num_threads(1)
        self.graph = graph
        return time.perf_counter() - begin


class KindredShard:
    """One shard with a worker's settings, fed with the messages of the truths as the index stage feeds it.

    Its rows have colours, too, as a worker's have; no query asks for them.
    """

    def build(self, raw: Vectors, mean: Vectors, lots: NDArray[np.intp], folder: Path) -> dict[str, float]:
        self.folder, self.mean, self.next, self._began = folder, _with_colour(mean[None])[0], 0, 0.0
        self.settings = ShardSettings(
            dimension=raw.shape[1] + NUMBERS,
            colour=NUMBERS,
            model=MODEL,
            delta_rows_max=30_000,
            segment_rows_min=30_000,
        )
        self.shard = self._opened()
        self.took = {"insert": 0.0, "seal": 0.0, "merge": 0.0, "seals": 0.0, "merges": 0.0}
        for start in range(0, len(raw), BATCH):
            self._apply(raw[start : start + BATCH], lots[start : start + BATCH])
            self._tend()
        while self.shard.sealing or self.shard.seal_due:
            self._tend()
            time.sleep(0.002)
        self.masks: dict[int, NDArray[np.bool_]] = {}
        return self.took

    def _opened(self) -> Shard:
        shard = Shard.open(
            self.folder,
            0,
            self.settings,
            cluster_id="bench",
            now_ms=int(time.time() * 1000),
            retention_ms=86_400_000,
            offsets=dict.fromkeys(TRUTHS, (0, self.next)),
        )
        shard.use_mean(self.mean)
        return shard

    def _apply(self, raw: Vectors, lots: NDArray[np.intp]) -> None:
        records, embeddings = [], []
        for number, (vector, lot) in enumerate(zip(raw, lots.tolist(), strict=True), self.next):
            item_id = f"{number}"
            body = msgspec.Raw(b'{"objectID":"%d","title":"Item %d","price":%d,"lot":%d}' % (number, number, 5, lot))
            version = LOADED_AT_MS
            record = ItemRecord(body, Facts(), ("picture",), version, version, Written(0, number))
            image = ImageEmbedding("picture", "0", pack_half(vector), COLOURS[number % len(COLOURS)])
            embedding = ItemEmbedding(version, MODEL, (image,))
            records.append((item_id, write_message(record)))
            embeddings.append((item_id, write_message(embedding)))
        self.next += len(raw)
        begin = time.process_time()
        now_ms = int(time.time() * 1000)
        for truth, changes in ((RECORDS, records), (EMBEDDINGS, embeddings), (STOCKS, [])):
            rejected = self.shard.apply(truth, changes, self.next, now_ms)
            assert not rejected, rejected[0]
        self.took["insert"] += time.process_time() - begin

    def _tend(self) -> None:
        """As the worker does every half second, and note how long the other process takes."""
        idle = not self.shard.sealing
        before = self.shard.statistics()
        self.shard.tend(monotonic_ms())
        after = self.shard.statistics()
        now = time.perf_counter()
        for kind in ("seal", "merge"):
            if done := after[f"{kind}s"] - before[f"{kind}s"]:
                self.took[kind] += now - self._began
                self.took[f"{kind}s"] += done
        if self.shard.sealing and (idle or after != before):
            self._began = now

    def search(self, queries: Vectors, count: int, share: int | None, together: int) -> Ids:
        allowed = None
        if share is not None:
            if share not in self.masks:
                self.masks[share] = self.shard.columns.mask(parse_filter(f"lot < {share}"))
            allowed = self.masks[share]
        item_ids, found = self.shard.item_ids, []
        asking = _with_colour(queries)
        for start in range(0, len(queries), together):
            asked = asking[start : start + together]
            for best in self.shard.search(asked, count, [allowed] * len(asked), [None] * len(asked)):
                found.append([int(item_ids[ordinal]) for ordinal in best.ordinals.tolist()])
        return found

    def insert(self, raw: Vectors, mean: Vectors) -> list[float]:
        took = []
        for row, query in zip(raw, centre(raw, mean), strict=True):
            before, number = self.took["insert"], self.next
            self._apply(row[None], np.array([100]))
            begin = time.perf_counter()
            found = self.search(query[None], 10, None, 1)
            took.append(self.took["insert"] - before + time.perf_counter() - begin)
            assert number in found[0]
        return took

    def reopen(self) -> float:
        self.shard.close()
        begin = time.perf_counter()
        self.shard = self._opened()
        took = time.perf_counter() - begin
        assert self.shard.next_offsets == dict.fromkeys(TRUTHS, self.next), "the checkpoint was not trusted"
        self.masks = {}
        return took


def _with_colour(vectors: Vectors) -> Vectors:
    """float32[N, D] with zeros for colours."""
    return np.hstack((vectors, np.zeros((len(vectors), NUMBERS), np.float32)))


CONTENDERS: dict[str, type[Contender]] = {
    "exact NumPy": ExactNumpy,
    "Annoy, one file": OneAnnoy,
    "hnswlib": Hnsw,
    "Kindred": KindredShard,
}
