"""Attempts at an image: its vector, why there will never be one, or when to try again.

* A picture that cannot be used is told with its reason, and not tried again.
* One of a host that does not answer is tried again, after pauses that double.  An image's attempts are counted, and
  the last of `KINDRED_IMAGE_ATTEMPTS_MAX` gives it up.
* A host that is left alone is not asked.  That counts as an attempt, so that its pictures, too, come later each time;
  but nothing is given up that was not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from models.errors import BadEvent, Unavailable
from models.truth_messages import ImageEmbedding
from streams.embed.silent_hosts import HostRests
from streams.embed.vectors import ImageVectors
from streams.metrics import Metrics
from streams.settings import Settings

RETRY_DELAY_S_MAX = 3600.0


class ImageAttempts:
    """Makes them; what came of one is in the image that comes back."""

    def __init__(
        self, settings: Settings, metrics: Metrics, clock_ms: Callable[[], int], vectors: ImageVectors
    ) -> None:
        self.metrics = metrics
        self.clock_ms = clock_ms
        self.vectors = vectors
        self.retry_s = settings.image_retry_s
        self.attempts_max = settings.image_attempts_max

    async def attempt(self, image: ImageEmbedding, name: str) -> ImageEmbedding:
        """One more, at an image as it was requested; `name` is what it is called from now on."""
        attempt, rests = image.attempt + 1, image.rests
        try:
            found = await self.vectors.of_link(image.link)
        except BadEvent as error:
            self.metrics.images.labels("refused").inc()
            return ImageEmbedding(name, error=str(error))
        except Unavailable as error:
            self.metrics.images.labels("unavailable").inc()
            rested = isinstance(error, HostRests)
            last = attempt >= self.attempts_max and not rested
            retry_at = None if last else self.clock_ms() + int(self._pause_s(attempt, error) * 1000)
            return ImageEmbedding(name, error=str(error), attempt=attempt, rests=rests + rested, retry_at=retry_at)
        self.metrics.images.labels(found.outcome).inc()
        return ImageEmbedding(name, digest=found.digest, vector=found.packed.vector, colour=found.packed.colour)

    def _pause_s(self, attempt: int, error: Unavailable) -> float:
        doublings = min(attempt - 1, 30)  # attempts have no bound while a host rests
        pause_s = min(self.retry_s * 2**doublings, RETRY_DELAY_S_MAX)
        return max(pause_s, error.retry_after_s or 0.0)

    def given_up(self, requested: Sequence[ImageEmbedding], images: Sequence[ImageEmbedding]) -> str | None:
        """Which of the images of a request was given up with it, and why; None: none was."""
        if not any(each.attempt for each in requested if not each.error):
            return None
        given_up = (each for each in images if each.error and each.retry_at is None)
        return next((_in_words(each) for each in given_up if each.attempt >= self.attempts_max), None)


def _in_words(image: ImageEmbedding) -> str:
    left_alone = f", and left alone {_times(image.rests)}" if image.rests else ""
    return f"{image.link}: {image.error} (asked {_times(image.attempt - image.rests)}{left_alone})"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
