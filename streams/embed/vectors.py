"""From an image link to its vector: fetch, digest, decode, embed.  Shared by the embed stage and by requests by image.

A picture goes from its bytes to its vector outside the event loop, without coming back in between: a file is read in
one small pool, digest, pixels and colour are made in another, and the model has a thread of its own, in which all that
wait for it run as one batch.  A picture that comes while no other is in work stays in the thread that it begins in:
there is nobody to make room for, and each change of threads costs it up to a millisecond.  The bytes of a picture seen
before (by digest), or the same part of them, are not embedded again.

Whoever knows that a picture will be asked for in a moment may have it begun (`begin`), as long as no other is in work.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.colour import colours
from models.embedder import Embedder
from models.errors import BadEvent
from models.image import ImageLimits, decode
from models.request_seeds import Crop
from models.vectors import pack_half
from streams.embed.fetch import ImageFetcher
from streams.metrics import Metrics

BATCH_MAX = 16
KNOWN_MAX = 100_000
"""Digests remembered, some 500 bytes each."""
READERS = 4
"""Apart from the decoders: a disk that hangs must not keep pictures of hosts waiting."""
DECODERS = 2
BEGUN_S_MAX = 1.0
"""A picture that came of what was begun before is fetched anew: its request takes some ms."""


class Packed(NamedTuple):
    """What a picture looks like, as messages have it: packed by `pack_half`."""

    vector: str
    """What the model makes of it."""
    colour: str


class Embedded(NamedTuple):
    """What came of a picture."""

    digest: str
    """Of the bytes of the whole file."""
    packed: Packed
    outcome: str
    """`known` or `embedded`."""
    key: str
    """Its name among those known."""


class _Decoded(NamedTuple):
    """A picture that waits for the model: uint8[S, S, 3], its colour, and the future that its vector is for."""

    pixels: NDArray[np.uint8]
    colour: str
    digest: str
    key: str
    found: asyncio.Future[Embedded]

    def result(self, outcome: str | Exception) -> Embedded | Exception:
        """What to tell of it when the model made this of it."""
        if isinstance(outcome, Exception):
            return outcome
        return Embedded(self.digest, Packed(outcome, self.colour), "embedded", self.key)


class _Begun(NamedTuple):
    """A picture that was begun before it was asked for: its link, when by the monotonic clock, what comes of it."""

    link: str
    at_s: float
    made: asyncio.Task[Embedded]

    @property
    def is_late(self) -> bool:
        """Whether it came so long ago that what its link leads to may be another picture by now."""
        return self.made.done() and time.monotonic() - self.at_s > BEGUN_S_MAX


class ImageVectors:
    """Vectors of images, by link."""

    def __init__(self, embedder: Embedder, fetcher: ImageFetcher, limits: ImageLimits, metrics: Metrics) -> None:
        self.embedder = embedder
        self.fetcher = fetcher
        self.limits = limits
        self.metrics = metrics
        self._known: OrderedDict[str, Packed] = OrderedDict()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self._waiting: deque[_Decoded] = deque()
        """Filled by the decoders, emptied by whoever runs the model."""
        self._one_batch = threading.Lock()
        self._in_work = 0
        self._begun: _Begun | None = None

    @property
    def model(self) -> str:
        """Id of the model that all vectors come from."""
        return self.embedder.model

    async def of_link(self, link: str, crop: Crop | None = None) -> Embedded:
        """What a picture looks like.  BadEvent: never will work; Unavailable: later perhaps.

        `crop`: only that part of the picture; the digest is that of the whole file.
        """
        begun = self._take_begun(link) if crop is None else None
        return await (begun or self._made(link, crop))

    def begin(self, link: str) -> None:
        """Begin with a picture that `of_link` will be asked for in a moment; not while others are in work.

        Nor while one that was begun is still to be asked for: its host would be asked twice.
        """
        if self._in_work or (self._begun and not self._begun.is_late):
            return
        made = asyncio.ensure_future(self._made(link, None))
        made.add_done_callback(_look_at)
        self._begun = _Begun(link, time.monotonic(), made)

    def _take_begun(self, link: str) -> asyncio.Task[Embedded] | None:
        """What will come of a picture that was begun, for one who asks for it."""
        begun = self._begun
        if begun is None or begun.link != link:
            return None
        self._begun = None
        return None if begun.is_late else begun.made

    async def _made(self, link: str, crop: Crop | None) -> Embedded:
        found: asyncio.Future[Embedded] = asyncio.get_running_loop().create_future()
        alone = not self._in_work
        self._in_work += 1
        try:
            if read := self.fetcher.reader(link):
                self._readers.submit(self._read, read, crop, found, alone)
            else:
                self._decoders.submit(self._decode, await self.fetcher.fetch(link), crop, found, alone)
            embedded = await found
        finally:
            self._in_work -= 1
        self._known[embedded.key] = embedded.packed
        self._known.move_to_end(embedded.key)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return embedded

    def _read(self, read: Callable[[], bytes], crop: Crop | None, found: asyncio.Future[Embedded], alone: bool) -> None:
        """In a thread of the pool: the bytes of a file or of a `data:` link, handed on to the decoders."""
        try:
            data = read()
            if alone:
                self._decode(data, crop, found, alone)
            else:
                self._decoders.submit(self._decode, data, crop, found, alone)
        except Exception as error:
            _tell([(found, error)])

    def _decode(self, data: bytes, crop: Crop | None, found: asyncio.Future[Embedded], alone: bool) -> None:
        """In a thread of the pool: find a picture among those known, or decode it and hand it on to the model."""
        if found.cancelled():
            return
        try:
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            key = digest if crop is None else f"{digest} {crop}"  # a part of a picture is another picture
            if packed := self._known.get(key):
                _tell([(found, Embedded(digest, packed, "known", key))])
            else:
                pixels = decode(data, self.embedder.size, self.limits, crop)
                colour = pack_half(colours(pixels[None])[0])
                self._waiting.append(_Decoded(pixels, colour, digest, key, found))
                if alone:
                    self._run_batch()
                else:
                    self._model_thread.submit(self._run_batch)
        except Exception as error:
            _tell([(found, error)])

    def _run_batch(self) -> None:
        """Once for each picture: embed all that wait, which may be none any more."""
        with self._one_batch:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
            if not batch:
                return
            started = time.perf_counter()
            outcomes = self._run([each.pixels for each in batch])
            self.metrics.embed_seconds.observe(time.perf_counter() - started)
        _tell([(each.found, each.result(outcome)) for each, outcome in zip(batch, outcomes, strict=True)])

    def _run(self, pictures: Sequence[NDArray[np.uint8]]) -> list[str | Exception]:
        """The packed vector of each, or an exception; one that the model finds nothing in costs the others nothing."""
        try:
            return [pack_half(vector) for vector in self.embedder.embed(np.stack(pictures))]
        except BadEvent as error:
            if len(pictures) == 1:
                return [error]
            return [outcome for picture in pictures for outcome in self._run([picture])]
        except Exception as error:
            return [error] * len(pictures)

    async def close(self) -> None:
        """Stop the threads and the connections of the fetcher."""
        if self._begun is not None:
            self._begun.made.cancel()
        await self.fetcher.close()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._model_thread.shutdown(wait=False, cancel_futures=True)


def _look_at(task: asyncio.Task[Embedded]) -> None:
    """So that asyncio does not tell of its error as of one that nobody has seen: it may never be asked for."""
    if not task.cancelled():
        task.exception()


def _tell(outcomes: Sequence[tuple[asyncio.Future[Embedded], Embedded | Exception]]) -> None:
    """From a thread: let those who wait go on, in one turn of their loop."""
    outcomes[0][0].get_loop().call_soon_threadsafe(_settle, outcomes)


def _settle(outcomes: Sequence[tuple[asyncio.Future[Embedded], Embedded | Exception]]) -> None:
    for future, outcome in outcomes:
        if future.done():  # nobody waits for it any more
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
