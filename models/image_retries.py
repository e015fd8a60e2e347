"""When hosts of images that did not answer are to be asked again."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from models.truth_messages import ItemEmbedding


class ImageRetries:
    """Items of which images are to be asked for again, and when."""

    def __init__(self) -> None:
        self._queue: list[tuple[int, str, int]] = []
        """A heap: due when by our clock (Unix ms), the item, and when as its embedding says, which is the same unless
        the clock was set back in between."""

    def schedule(self, item_id: str, embedding: ItemEmbedding) -> None:
        """Remember what an embedding says of its images."""
        for each in embedding.images:
            if each.retry_at is not None:
                heapq.heappush(self._queue, (each.retry_at, item_id, each.retry_at))

    def next_due_ms(self) -> int | None:
        """Unix ms at which the next item is due; None: none waits."""
        return self._queue[0][0] if self._queue else None

    def take(self, now_ms: int) -> Iterator[tuple[str, int]]:
        """Items that are due, each with the latest `retry_at` of its images that are (Unix ms)."""
        while self._queue and self._queue[0][0] <= now_ms:
            _, item_id, retry_at = heapq.heappop(self._queue)
            yield item_id, max(now_ms, retry_at)

    def set_back(self, by_ms: int) -> None:
        """The clock was set back: all wait for as long as they were to wait."""
        self._queue = [(due_ms - by_ms, item_id, retry_at) for due_ms, item_id, retry_at in self._queue]
