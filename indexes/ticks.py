"""The clock for what only has to wait: nobody can set it back.  What is in force by now asks the wall's."""

from __future__ import annotations

import time


def monotonic_ms() -> int:
    """Milliseconds since some moment."""
    return time.monotonic_ns() // 1_000_000
