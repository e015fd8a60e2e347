"""Turns of the loop: bulk work rests while visitors ask, and visitors wait for a change that is on its way.

A request takes some eight turns of the loop on its way from socket to socket, and in each of them it waits for what the
bulk stages do in one piece.  Small pieces are not enough while a feed is worked off without a pause, so each bulk stage
leaves the loop alone for a moment after each of its pieces, as long as there are visitors.

A single change is the other way round.  It goes over the loop some ten times, in small steps, and an answer is the
largest thing that may come in between; so while one is on its way, a request lets whatever is ready go first.
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
CHANGE_S = 0.02
"""So long after a step of a change its next one is expected: a hop through Kafka takes one to a few ms."""
CHANGE_MESSAGES_MAX = 16
"""What comes in larger pieces is a feed, which requests do not wait for."""
CHANGE_TURNS = 4
"""Between the socket and whoever handles a fetched message lie three."""


class Turns:
    """Shared by all that work on one loop."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._asked_s = -VISITORS_S
        self._changed_s = -CHANGE_S

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

    def changed(self, count: int) -> None:
        """A stage has just handled so many messages of a feed; others will go on with what came of them."""
        if 0 < count <= CHANGE_MESSAGES_MAX:
            self._changed_s = self._clock_s()

    async def after_changes(self) -> None:
        """Before an answer: let steps of changes go first, if there are any."""
        if self._clock_s() - self._changed_s < CHANGE_S:
            for _ in range(CHANGE_TURNS):
                await asyncio.sleep(0)
