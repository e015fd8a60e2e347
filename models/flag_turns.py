"""When time alone turns the flags of items: windows of sales that open or close."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

OUTDATED_MAX = 1_000
"""Moments that hold no longer which may be kept, beside as many as do."""


class FlagTurns:
    """The next moment of each item that has one, in Unix ms."""

    def __init__(self) -> None:
        self._moments: dict[str, int] = {}
        self._queue: list[tuple[int, str]] = []
        """A heap, also of moments that hold no longer."""

    def schedule(self, item_id: str, at_ms: int | None) -> None:
        """The next moment of an item, in place of the one it had; None: there is none."""
        if at_ms is None:
            self._moments.pop(item_id, None)
        elif at_ms != self._moments.get(item_id):
            self._moments[item_id] = at_ms
            heapq.heappush(self._queue, (at_ms, item_id))
            # They gather where the ends of sales are moved again and again.
            if len(self._queue) > 2 * len(self._moments) + OUTDATED_MAX:
                self._queue = [(moment, each) for each, moment in self._moments.items()]
                heapq.heapify(self._queue)

    def next_due_ms(self) -> int | None:
        """When something may be due; None: nothing ever."""
        return self._queue[0][0] if self._queue else None

    def take(self, now_ms: int) -> Iterator[str]:
        """Items whose moment has come.  Each is then to be scheduled anew, also while this goes on."""
        while self._queue and self._queue[0][0] <= now_ms:
            at_ms, item_id = heapq.heappop(self._queue)
            if self._moments.get(item_id) == at_ms:
                del self._moments[item_id]
                yield item_id
