"""Durations: counted as prometheus_client's histogram counts them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from streams.durations import Durations

BOUNDS_S = (0.001, 0.05, 1, 10)


@given(st.lists(st.lists(st.one_of(st.sampled_from(BOUNDS_S), st.integers(0, 20_000).map(lambda ms: ms / 1000)))))
def test_the_page_says_what_a_histogram_would_say(batches: list[list[float]]) -> None:
    """Line for line, but for the time that a histogram was made."""
    registry, other = CollectorRegistry(), CollectorRegistry()
    durations = Durations("kindred_x_seconds", "Seconds.", registry=registry, bounds_s=BOUNDS_S)
    histogram = Histogram("kindred_x_seconds", "Seconds.", registry=other, buckets=BOUNDS_S)
    for batch in batches:
        durations.observe(batch)
        for duration_s in batch:
            histogram.observe(duration_s)
    expected = [line for line in generate_latest(other).decode().splitlines() if "_created" not in line]

    assert generate_latest(registry).decode().splitlines() == expected
