"""Turns of the loop for bulk work, which rests while visitors ask.

A request takes some eight turns of the loop on its way from socket to socket, and in each of them it waits for what the
bulk stages do in one piece.  Small pieces are not enough while a feed is worked off without a pause, so each bulk stage
leaves the loop alone for a moment after each of its pieces, as long as there are visitors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

VISITORS_S = 1.0
"""So long after a request the next one is expected."""
REST_S = 6e-6
"""For each message of a piece: about as long as it took to handle it."""
REST_S_MIN = 0.001
"""A loop waits for no less; below it the turn alone must do."""


class Turns:
    """Shared by all that work on one loop."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._asked_s = -VISITORS_S

    def asked(self) -> None:
        """Somebody asked just now."""
        self._asked_s = self._clock_s()

    @property
    def visitors(self) -> bool:
        """Whether somebody asked a moment ago."""
        return self._clock_s() - self._asked_s < VISITORS_S

    async def give(self, count: int) -> None:
        """Give the loop a turn after a piece of so many messages, or a moment when there are visitors."""
        rest_s = REST_S * count
        await asyncio.sleep(rest_s if rest_s >= REST_S_MIN and self.visitors else 0)
