"""Pictures that are begun ahead of their requests: nothing but time depends on it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import BadEvent, Unavailable
from models.image import ImageLimits, encode_png
from models.truth_messages import ImageRequest
from streams.embed.vectors import ImageVectors
from streams.metrics import Metrics
from tests.test_embed_stage import Stage, T, _app

LINKS = [f"http://pictures/{number}" for number in range(5)] + ["data:image/png;base64,AAAA", "data:image/png;base64,B"]
STEPS = 80
LATER_MS = 10**9
"""When every host may be asked again."""


class Host:
    """Pictures by link, some that are none, some that do not come, each after some turns of the loop; and a model."""

    model, size, dimension = "greys@1", 8, 2

    def __init__(self, seed: int) -> None:
        self.numbers = random.Random(seed)
        self.asked: Counter[str] = Counter()

    def reader(self, link: str) -> Callable[[], bytes] | None:
        if not link.startswith("data:"):
            return None
        return lambda: self._picture(link)

    async def fetch(self, link: str) -> bytes:
        for _ in range(self.numbers.choice([0, 1, 3, 40])):
            await asyncio.sleep(0)
        return self._picture(link)

    def _picture(self, link: str) -> bytes:
        self.asked[link] += 1
        if link.endswith("3"):
            raise Unavailable("away", retry_after_s=5)
        if link.endswith("4"):
            raise BadEvent("no picture")
        return encode_png(np.full((4, 4, 3), 10 * LINKS.index(link), np.uint8))

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        greys = pixels[:, 0, 0, 0].astype(np.float32)
        return np.stack([greys, 1 - greys], axis=1)

    async def close(self) -> None:
        """Nothing is open."""


class Told(NamedTuple):
    """What came of one course of events."""

    written: dict[str, list[bytes | None]]
    """By item, in its order."""
    dead_letters: list[bytes]
    outcomes: dict[str, float]
    """How many images came to what; of a picture whose bytes are known by then, it may be either."""
    asked: Counter[str]
    """How often each link was."""


async def lived_through(seed: int, *, ahead: bool) -> Told:
    """Items that change, come back and go in any haste, with what is asked for told `ahead` or not."""
    numbers, host, metrics = random.Random(seed), Host(seed), Metrics()
    vectors: Any = ImageVectors(host, host, ImageLimits(), metrics)  # type: ignore[arg-type]
    stage = Stage(image_attempts_max="2")
    embed, send = stage.embed, stage.request
    embed.vectors = embed.attempts.vectors = vectors
    embed.metrics = embed.attempts.metrics = metrics
    embed._app = _app(0)

    def tell(item_id: str, request: ImageRequest) -> None:
        if ahead:
            embed.ahead(0, item_id, request)
        send(item_id, request)

    stage.request = tell  # type: ignore[method-assign]
    async with stage.running():
        for _ in range(STEPS):
            step, item_id = numbers.randrange(8), numbers.choice("ab")
            if step < 5:
                stage.catalog(*numbers.sample(LINKS, numbers.choice([1, 1, 1, 2, 3])), item_id=item_id)
            elif step == 5:
                stage.delete(item_id)
            else:
                await stage.settled()
                stage.read_back()
                stage.tracker.advance(T + LATER_MS)
                stage.ask_due(T + LATER_MS)
            for _ in range(numbers.choice([0, 0, 1, 5, 100])):
                await asyncio.sleep(0)
        await stage.settled()
    embed._app = None
    await vectors.close()
    written: dict[str, list[bytes | None]] = defaultdict(list)
    for each in stage.topics.logs["item-embeddings"]:
        written[each.key].append(each.value)
    outcomes: dict[str, float] = defaultdict(float)
    for outcome in ("carried", "refused", "unavailable", "known", "embedded"):
        outcomes["made" if outcome in ("known", "embedded") else outcome] += metrics.images.labels(outcome)._value.get()
    return Told(written, [each.value for each in stage.topics.logs["dead-letters"]], outcomes, host.asked)


@pytest.mark.parametrize("seed", range(16))
async def test_nothing_but_time_depends_on_what_is_begun(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same is written, set aside and counted; and no link is asked for more often."""
    monkeypatch.setattr("streams.embed.vectors.BEGUN_S_MAX", 1_000.0)  # on a slow machine, too
    plain = await lived_through(seed, ahead=False)
    begun = await lived_through(seed, ahead=True)

    assert begun._replace(asked=plain.asked) == plain
    assert begun.asked <= plain.asked
    assert plain.outcomes["unavailable"] > 3
    assert plain.dead_letters
