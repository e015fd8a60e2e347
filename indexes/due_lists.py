"""Watched lists that are due to be asked again: why, since when, and which comes next.

A list is due once, however much touches it; what it is due for goes with it.  Taking it does not end that: until it has
been asked, more reasons may come.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

from models.watch import REASONS_MAX, Reason


class Due(NamedTuple):
    """That a list is to be asked again."""

    reasons: list[Reason]
    since_ms: int
    """As `now_ms` of `put`."""
    ticket: int
    """Tells its entry in the queue from those of earlier times."""


class DueLists:
    """By slot, as `Watches` numbers its lists.  All moments are of one clock that is never set back, in ms."""

    def __init__(self) -> None:
        self._due: dict[int, Due] = {}
        self._queue: list[tuple[int, int, int]] = []
        """A heap of moments, tickets and slots."""
        self._tickets = 0

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, slot: int) -> bool:
        return slot in self._due

    def put(self, slot: int, reason: Reason, now_ms: int, not_before_ms: int) -> bool:
        """A list is to be asked, not before a moment; False if it was due already, and has a reason more."""
        known = self._due.get(slot)
        if known is not None:
            if len(known.reasons) < 4 * REASONS_MAX and reason not in known.reasons:
                known.reasons.append(reason)
            return False
        self._tickets += 1
        self._due[slot] = Due([reason], now_ms, self._tickets)
        heapq.heappush(self._queue, (max(now_ms, not_before_ms), self._tickets, slot))
        return True

    def put_taken(self, slot: int, reason: Reason, now_ms: int) -> None:
        """The same of a list that is asked at once, as if `take` had given it."""
        self._due[slot] = Due([reason], now_ms, 0)

    def take(self, now_ms: int, count: int) -> list[int]:
        """Those to be asked now, that have waited longest first; at most `count`."""
        found: list[int] = []
        while self._queue and len(found) < count:
            due_ms, ticket, slot = self._queue[0]
            waiting = self._due.get(slot)
            if waiting is not None and waiting.ticket == ticket:
                if due_ms > now_ms:
                    break
                found.append(slot)
            heapq.heappop(self._queue)
        return found

    def end(self, slot: int) -> Due:
        """The list has been asked: why it was, and since when it had to be."""
        return self._due.pop(slot)

    def drop(self, slot: int) -> None:
        """The list is not to be asked, whether it was due or not."""
        self._due.pop(slot, None)
