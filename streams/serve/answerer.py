"""From the bytes of a body to results: what Kafka serving and the HTTP gateway do alike, each in its own rhythm.

1. `parse`: entries, each understood or told why not.
2. `images`: what has to be fetched and embedded first; the only step that waits.
3. `answer`: all entries together, by one matrix product a shard.  It holds the loop while it runs.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from indexes.answering import KeptAnswering
from indexes.results import AnswerSettings
from indexes.shard import Shard
from models.answer import Result
from models.colour import NUMBERS
from models.errors import BadEvent, BadRequest, KindredError, Unavailable
from models.request import HITS_DEFAULT, Batch, ImageKey, ImageSeed, Request, RequestLimits, parse_requests
from models.rules import RuleBook
from models.vectors import Vectors, half_numbers, unpack_half
from streams.embed.vectors import ImageVectors
from streams.settings import Settings

Entry = Request | BadRequest
Images = Mapping[ImageKey, Vectors | KindredError]
"""By `ImageSeed.key` float32[D], or why there is none."""


class LoadedShards(Protocol):
    """What answers are made from: the shards of this worker, as the index stage keeps them."""

    shards: Mapping[int, Shard]
    loaded: bool

    @property
    def mean(self) -> Vectors | None:
        """float32[D] that rows are centred by; another object once it changes."""

    @property
    def dimension(self) -> int:
        """D, numbers of a row, its colour's included."""

    def raw_row(self, look: Vectors, colour: Vectors) -> Vectors:
        """float32[D] of a picture's vector and colour."""

    def lags_ms(self, now_ms: int) -> dict[str, int]:
        """By truth, how old what was read last is while more waits."""


class Answerer:
    """Answers from the shards and the rules of this worker."""

    def __init__(
        self,
        settings: Settings,
        clock_ms: Callable[[], int],
        index: LoadedShards,
        vectors: ImageVectors,
        rules: RuleBook,
        asked: Callable[[], None] = lambda: None,
    ) -> None:
        """`asked` is told of every answer."""
        self.settings = settings
        self.clock_ms = clock_ms
        self.index = index
        self.vectors = vectors
        self.asked = asked
        self.answering = KeptAnswering(rules)
        self.limits = RequestLimits(
            entries_max=settings.entries_max,
            hits_max=settings.hits_max,
            hits_default=min(HITS_DEFAULT, settings.hits_max),
        )

    def parse(self, body: bytes | None) -> Batch:
        """The entries of a body; never raises for what a caller wrote."""
        return parse_requests(body, self.limits, self.settings.index)

    async def images(self, seeds: Iterable[ImageSeed]) -> Images:
        """The vectors of images, fetched and embedded all at once."""
        distinct = {seed.key: seed for seed in seeds}
        outcomes = await asyncio.gather(*map(self._image, distinct.values()))
        return dict(zip(distinct, outcomes, strict=True))

    async def _image(self, seed: ImageSeed) -> Vectors | KindredError:
        """float32[D] of an image, or why there is none."""
        try:
            packed = (await self.vectors.of_link(seed.link, seed.crop)).packed
        except (BadEvent, Unavailable) as error:
            return error.kept()
        vector = unpack_half(packed.vector, half_numbers(packed.vector))
        return self.index.raw_row(vector, unpack_half(packed.colour, NUMBERS))

    def answer(self, entries: Sequence[Entry], images: Images) -> list[Result]:
        """The results of entries in their order, answered together; `images` has all that they name."""
        self.asked()
        started = time.perf_counter()
        now_ms = self.clock_ms()
        return self.answering.run(
            entries,
            images,
            shards_at(self.index, now_ms),
            now_ms,
            self.index.mean,
            AnswerSettings(
                index_name=self.settings.index,
                shards_total=self.settings.shards,
                lag_ms=self.index.lags_ms(now_ms),
                new_query_id=lambda: secrets.token_hex(16),
                elapsed_ms=lambda: int((time.perf_counter() - started) * 1000),
            ),
        )


def shards_at(index: LoadedShards, now_ms: int) -> list[Shard]:
    """The shards as they are at a moment (Unix ms): sale windows opened and closed."""
    shards = list(index.shards.values())
    for shard in shards:
        shard.advance(now_ms)
    return shards


def images_of(entries: Iterable[Entry]) -> list[ImageSeed]:
    """Images that have to be embedded before the entries can be answered."""
    return [each for entry in entries if isinstance(entry, Request) for each in entry.images]
