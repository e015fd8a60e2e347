"""The clock of a worker, which says so when somebody sets it back.

Windows of sales and of rules are of its time, whatever that is; what only has to wait does not ask it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from models.stock import CLOCK_STEP_MS

log = logging.getLogger(__name__)


def system_ms() -> int:
    """Unix ms."""
    return time.time_ns() // 1_000_000


class WallClock:
    """Unix ms when called."""

    def __init__(self, source: Callable[[], int] = system_ms) -> None:
        self._source = source
        self._seen_ms = 0

    def __call__(self) -> int:
        now_ms = self._source()
        if now_ms < self._seen_ms - CLOCK_STEP_MS:
            log.warning(
                "the system clock was set back by %.1f s: sales and rules are in force as it says now",
                (self._seen_ms - now_ms) / 1000,
            )
        self._seen_ms = now_ms
        return now_ms
