"""The worker's clock: what the system says, and a word when it was set back."""

from __future__ import annotations

import logging

import pytest

from streams.wall_clock import WallClock


def test_a_clock_that_is_set_back_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """By how much; small steps, as time servers make them, are no news."""
    moments = [5_000, 4_500, 4_600, 9_000, 6_500, 6_600]
    clock = WallClock(iter(moments).__next__)

    with caplog.at_level(logging.WARNING):
        assert moments == [clock() for _ in moments]

    (record,) = caplog.records
    assert "set back by 2.5 s" in record.getMessage()
