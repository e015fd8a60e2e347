"""From an image link to its vector: fetch, digest, decode, embed.  Shared by the embed stage and by requests by image.

Decoding runs in a small pool and the model in a thread of its own, both outside the event loop; images that wait for
the model run as one batch.  The bytes of a picture seen before (by digest), or the same part of them, are not embedded
again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.embedder import Embedder
from models.errors import BadEvent
from models.image import ImageLimits, decode
from models.request_seeds import Crop
from models.vectors import Vectors, pack_half
from streams.fetch import ImageFetcher
from streams.metrics import Metrics

BATCH_MAX = 16
KNOWN_MAX = 100_000
"""Digests remembered, some 500 bytes each."""
DECODERS = 2


class ImageVectors:
    """Vectors of images, by link."""

    def __init__(self, embedder: Embedder, fetcher: ImageFetcher, limits: ImageLimits, metrics: Metrics) -> None:
        self.embedder = embedder
        self.fetcher = fetcher
        self.limits = limits
        self.metrics = metrics
        self._known: OrderedDict[str, str] = OrderedDict()
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self._waiting: list[tuple[NDArray[np.uint8], asyncio.Future[Vectors]]] = []
        self._running: asyncio.Task[None] | None = None

    @property
    def model(self) -> str:
        """Id of the model that all vectors come from."""
        return self.embedder.model

    async def of_link(self, link: str, crop: Crop | None = None) -> tuple[str, str, str]:
        """Digest, packed vector, and `known` or `embedded`.  BadEvent: never will work; Unavailable: later perhaps.

        `crop`: only that part of the picture; the digest is that of the whole file.
        """
        data = await self.fetcher.fetch(link)
        loop = asyncio.get_running_loop()
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        key = digest if crop is None else f"{digest} {crop}"  # a part of a picture is another picture
        if key in self._known:
            self._known.move_to_end(key)
            return digest, self._known[key], "known"
        pixels = await loop.run_in_executor(self._decoders, decode, data, self.embedder.size, self.limits, crop)
        vector = pack_half(await self._embed(pixels))
        self._known[key] = vector
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return digest, vector, "embedded"

    async def _embed(self, pixels: NDArray[np.uint8]) -> Vectors:
        """float32[D] of uint8[S, S, 3], in a batch with whatever waits beside it."""
        future: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        self._waiting.append((pixels, future))
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._run_batches())
        return await future

    async def _run_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            started = time.perf_counter()
            outcomes = await loop.run_in_executor(self._model_thread, self._run, [pixels for pixels, _ in batch])
            self.metrics.embed_seconds.observe(time.perf_counter() - started)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, BaseException):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    def _run(self, pictures: list[NDArray[np.uint8]]) -> list[Any]:
        """A vector or an exception for each picture; one that the model finds nothing in costs the others nothing."""
        try:
            return list(self.embedder.embed(np.stack(pictures)))
        except BadEvent:
            return [self._run_one(picture) for picture in pictures]
        except Exception as error:
            return [error] * len(pictures)

    def _run_one(self, picture: NDArray[np.uint8]) -> Any:
        try:
            return self.embedder.embed(picture[None])[0]
        except Exception as error:
            return error

    async def close(self) -> None:
        """Stop the threads and the connections of the fetcher."""
        await self.fetcher.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._model_thread.shutdown(wait=False, cancel_futures=True)
