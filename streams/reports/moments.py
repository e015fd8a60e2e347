"""Moments and durations as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(at_ms: int | None) -> str:
    """Unix ms as `2026-11-24 13:40:02 UTC`; a number that is no time of this calendar as itself, None as nothing."""
    if at_ms is None:
        return ""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return str(at_ms)


def duration(milliseconds: float) -> str:
    """A duration with its unit: `3 ms`, `1.2 s`, `5 min`, `3 h`, `2 d`."""
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3_600:.0f} h"
    return f"{seconds / 86_400:.0f} d"
