"""Requests of a poll: answered together, as long as nobody else has to wait long for it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from models.request import RequestLimits, parse_requests
from streams.serve.replies import Address
from streams.serve.stage import HITS_MAX, REQUESTS_MAX, Asked, parts

TP = TopicPartition("similar-requests", 0)


def asked(body: dict[str, Any]) -> Asked:
    """A request as it is taken from the topic."""
    batch = parse_requests(orjson.dumps(body), RequestLimits(), "items")
    return Asked(TP, None, Address("similar-responses", None, None), batch)


def hits(each: Asked) -> int:
    """What all of its entries want, a bad one nothing."""
    return sum(getattr(entry, "count", 0) for entry in each.batch.entries)


one = st.integers(1, 1_100).map(lambda count: {"objectID": "a", "maxRecommendations": count})  # beyond 1,000: bad
bodies = st.one_of(one, st.lists(one, min_size=1, max_size=5).map(lambda entries: {"requests": entries}))


@given(st.lists(bodies.map(asked), max_size=30))
def test_a_part_asks_for_so_many_hits_at_most_or_is_one_request(requests: list[Asked]) -> None:
    """Every request is in one part, in its order; no two neighbours would have fitted together."""
    found = list(parts(requests))

    assert [each for part in found for each in part] == requests
    assert all(sum(map(hits, part)) <= HITS_MAX or len(part) == 1 for part in found)
    assert all(sum(map(hits, part)) + hits(following[0]) > HITS_MAX for part, following in pairwise(found))


def test_common_requests_of_a_poll_are_answered_at_once() -> None:
    """128 requests for 20 hits each share one search."""
    assert len(list(parts([asked({"objectID": "a", "maxRecommendations": 20})] * REQUESTS_MAX))) == 1


def test_a_walk_counts_as_the_searches_that_it_is() -> None:
    """A hundred steps are more than a hundred hits."""
    walk = asked({"objectID": "a", "maxRecommendations": 1, "walk": {"steps": 100}})

    assert [len(part) for part in parts([walk, walk])] == [1, 1]
