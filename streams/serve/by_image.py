"""Requests by image: how many wait, apart from all others, since their hosts may let them wait for long.

They have an amount of their own, so that hundreds of them that wait for slow hosts keep no other request from its
answer.  Only so many are fetched and embedded at once, as the catalog's new pictures go the same way.
"""

from __future__ import annotations

import asyncio

AT_ONCE_MAX = 512
WAITING_MAX = 4_096
"""Those at once among them; beyond, no more requests of any kind are taken."""
WAITING_BYTES_MAX = 64_000_000
"""Of their bodies: `data:` links are long."""


class ByImage:
    """Those in work; `len` says how many."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(AT_ONCE_MAX)
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether no more are to be taken."""
        return self._count > WAITING_MAX or self._bytes > WAITING_BYTES_MAX

    def begin(self, size: int) -> None:
        """One more has come, with a body of so many bytes."""
        self._count += 1
        self._bytes += size

    def end(self, size: int) -> None:
        """It is answered."""
        self._count -= 1
        self._bytes -= size
