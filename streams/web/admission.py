"""How many HTTP calls are let in, and how much of the loop they may take: the Kafka stages run on the same one.

* `Slots` bounds the calls in work.  Whoever finds none free is told to come again, and told so slowly: a flood of
  refusals would otherwise take the loop that the limit is to keep free.
* `Share` bounds the time: seconds that calls spend on the loop are paid from a bucket that fills at `share` seconds a
  second.  Whoever finds it empty waits until it is not.  A quiet service has it full, so a single call never waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from streams.web.answers import Overloaded

BURST_S = 0.05
"""What the bucket holds: some 50 calls."""
REFUSALS_PER_S = 300.0
REFUSAL_S_MAX = 0.75
"""Clients in browsers wait 1 s for the first byte."""


class Share:
    """A bucket of seconds of the loop.  Everything that a call does on the loop is spent, also when it is refused."""

    def __init__(self, share: float, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self.share = share
        self.clock_s = clock_s
        self._credit_s = BURST_S
        self._filled_s = clock_s()

    def spend(self, seconds: float) -> None:
        """Take from the bucket, also more than is in it."""
        self._fill()
        self._credit_s -= seconds

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Spend the time that the block takes.  It must not await anything."""
        began_s = self.clock_s()
        try:
            yield
        finally:
            self.spend(self.clock_s() - began_s)

    def wait_s(self) -> float:
        """How long until something may be spent again."""
        self._fill()
        return max(0.0, -self._credit_s / self.share)

    def _fill(self) -> None:
        now_s = self.clock_s()
        self._credit_s = min(BURST_S, self._credit_s + self.share * (now_s - self._filled_s))
        self._filled_s = now_s


class Pace:
    """Work that goes on in slices, each paid from several shares."""

    def __init__(self, *shares: Share) -> None:
        self.shares = shares

    async def turn(self) -> None:
        """Let the loop turn, for as long as the shares ask for."""
        await asyncio.sleep(max(share.wait_s() for share in self.shares))

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Spend the time that the block takes.  It must not await anything."""
        with ExitStack() as stack:
            for share in self.shares:
                stack.enter_context(share.spent())
            yield


class Slots:
    """Calls in work, at most `count_max`.  A context manager around each call."""

    def __init__(self, count_max: int, what: str) -> None:
        self.count_max = count_max
        self.what = what
        self.taken = 0

    def __enter__(self) -> None:
        """Raises Overloaded where no slot is free."""
        if self.taken >= self.count_max:
            raise Overloaded(f"{self.count_max} {self.what} are in work already; come again")
        self.taken += 1

    def __exit__(self, *error: object) -> None:
        self.taken -= 1


class Refusals:
    """Spaces refusals out, so that they stay cheap however many come.

    Whoever asks again at once waits in line again; a connection that was closed instead would cost more to make anew.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.clock_s = clock_s
        self._next_s = 0.0

    def wait_s(self) -> float:
        """How long the next refusal has to wait."""
        now_s = self.clock_s()
        at_s = min(max(now_s, self._next_s), now_s + REFUSAL_S_MAX)
        self._next_s = at_s + 1 / REFUSALS_PER_S
        return at_s - now_s

    async def turn(self) -> None:
        """Wait until the next refusal may be told."""
        await asyncio.sleep(self.wait_s())
