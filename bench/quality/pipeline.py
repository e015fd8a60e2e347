"""Pictures through Kindred's own decoding, resizing, model, centring and search, to similarities that figures are of.

An item for each picture in a shard; a request for each picture, in which every item may be found.  Vectors are stored
as a shard stores them, in float16.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.quality.packs import ROOT, Judged
from indexes.shard import EMBEDDINGS, RECORDS, Shard
from indexes.shard_settings import ShardSettings
from indexes.statistics import MeanFit
from models.embedder import Embedder
from models.image import decode
from models.truth_messages import Facts, ImageEmbedding, ItemEmbedding, ItemRecord, Written, write_message
from models.vectors import Vectors, centre, pack_half, unit

CACHE = ROOT / ".cache" / "quality"
BATCH = 16
AT_ONCE = 64
"""Requests of one search."""

Embed = Callable[[Sequence[bytes]], Vectors]
"""Files of pictures -> float32[N, D] of unit length."""


def embedding(embedder: Embedder, told: Callable[[int], None] = lambda count: None) -> Embed:
    """Kindred's own way from files to vectors; `told` hears of the pictures."""

    def embed(files: Sequence[bytes]) -> Vectors:
        parts = [np.empty((0, embedder.dimension), np.float32)]
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            parts.append(embedder.embed(np.stack([decode(file, embedder.size) for file in batch])))
            told(len(batch))
        return np.concatenate(parts)

    return embed


def kept(embed: Embed, name: str) -> Embed:
    """The same, with the vectors of files that were embedded before read from the cache.

    `name` must say all that vectors depend on: whoever changes decoding or embedding clears the cache (`make clean`).
    """

    def embed_or_read(files: Sequence[bytes]) -> Vectors:
        digest = hashlib.blake2b(b"".join(hashlib.blake2b(file).digest() for file in files), digest_size=16)
        path = CACHE / f"{name}-{digest.hexdigest()}.npy"
        if not path.is_file():
            CACHE.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part.npy")
            np.save(part, embed(files))
            part.replace(path)
        return np.asarray(np.load(path))

    return embed_or_read


class Catalog:
    """The pictures of one split as a catalog, searched as Kindred searches it."""

    def __init__(self, vectors: Vectors, centred: bool) -> None:
        """An item for each of the unit `vectors` float32[N, D]; `centred`: by their mean, as the product does it."""
        self._folder = tempfile.TemporaryDirectory(prefix="kindred-quality-")
        count, dimension = vectors.shape
        settings = ShardSettings(dimension=dimension, model="judged@1")
        self.shard = Shard.open(
            Path(self._folder.name), 0, settings, cluster_id="judged", now_ms=0, retention_ms=1 << 40, offsets={}
        )
        self.mean: Vectors | None = None
        fit = MeanFit(dimension)
        ids = [f"{number:06d}" for number in range(count)]
        for item_id, vector in zip(ids, vectors, strict=True):
            fit.add(item_id, vector[None])
            record = ItemRecord(msgspec.Raw(b"{}"), Facts(), ("p",), 1, 0, Written(1, 1))
            embedded = ItemEmbedding(1, settings.model, (ImageEmbedding("p", vector=pack_half(vector)),))
            for truth, message in ((RECORDS, record), (EMBEDDINGS, embedded)):
                rejected = self.shard.apply(truth, [(item_id, write_message(message))], 1, 0)
                assert not rejected, rejected
        if centred and fit.due():
            self.mean, _ = fit.fit()
            self.shard.use_mean(self.mean)
        self._places = np.full(self.shard.capacity, -1)
        for place, item_id in enumerate(ids):
            ordinal = self.shard.ordinal(item_id)
            assert ordinal is not None, f"{item_id} is not in the shard"
            self._places[ordinal] = place
        self._count = count

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *error: object) -> None:
        self.shard.close(checkpoint=False)
        self._folder.cleanup()

    def similarities(self, queries: Vectors) -> NDArray[np.float32]:
        """float32[B, N]: of each raw query float32[B, D] with every item, as its hits carry it."""
        asked = unit(queries) if self.mean is None else centre(queries, self.mean)
        out = np.full((len(asked), self._count), -np.inf, np.float32)
        for start in range(0, len(asked), AT_ONCE):
            batch = asked[start : start + AT_ONCE]
            found = self.shard.search(batch, self._count, [None] * len(batch), [None] * len(batch))
            for number, candidates in enumerate(found, start):
                out[number, self._places[candidates.ordinals]] = candidates.similarity
        return out


def compared(judged: Judged, embed: Embed, centred: bool) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Similarities of all pictures with all, float32[N, N], and by kind of the changed ones with all."""
    whole = embed(judged.whole)
    again = {kind: embed(files) for kind, files in judged.again.items()}
    with Catalog(whole, centred) as catalog:
        # A shop's own pictures are asked for by their stored vectors, which are rounded.
        own = np.stack([catalog.shard.vectors(f"{number:06d}")[0] for number in range(len(whole))])
        return catalog.similarities(own), {kind: catalog.similarities(each) for kind, each in again.items()}
