"""Requests written by their layout: the bytes that aiokafka writes, in the versions that it would write."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v10, FetchResponse_v11
from aiokafka.protocol.produce import ProduceRequest, ProduceRequest_v6, ProduceRequest_v7
from hypothesis import given
from hypothesis import strategies as st

from streams.fetch_answers import QuickAnswer
from streams.quick_requests import quick_fetch, quick_produce

NEWEST = {FetchRequest.API_KEY: (4, 18), ProduceRequest.API_KEY: (3, 13)}

numbers = st.integers(-(2**31), 2**31 - 1)
offsets = st.integers(-(2**63), 2**63 - 1)
names = st.text(max_size=12)
fetches = st.builds(
    FetchRequest,
    numbers,
    numbers,
    numbers,
    st.integers(0, 1),
    st.lists(st.tuples(names, st.lists(st.tuples(numbers, offsets, numbers), max_size=5)), max_size=3),
    rack_id=names,
)
produces = st.builds(
    ProduceRequest,
    transactional_id=st.none() | names,
    required_acks=st.integers(-1, 1),
    timeout=numbers,
    topics=st.lists(
        st.tuples(names, st.lists(st.tuples(numbers, st.binary(max_size=40).map(bytearray)), max_size=3)), max_size=3
    ),
)


def written(request: Any, versions: Any = NEWEST, correlation_id: int = 7, client_id: str = "Käthe") -> bytes:
    """As a connection of aiokafka writes it, but for the length before it."""
    prepared = request.prepare(versions)
    header = prepared.build_request_header(correlation_id=correlation_id, client_id=client_id)
    return bytes(header.encode() + prepared.encode())


@given(fetches, numbers, names)
def test_a_fetch_is_what_aiokafka_writes(request: FetchRequest, correlation_id: int, client_id: str) -> None:
    """Any fetch: with every number at any value, topics without partitions, and none."""
    expected = written(request, correlation_id=correlation_id, client_id=client_id)

    assert expected == written(quick_fetch(request), correlation_id=correlation_id, client_id=client_id)


@given(produces, numbers, names)
def test_what_is_produced_is_what_aiokafka_writes(request: ProduceRequest, correlation_id: int, client_id: str) -> None:
    """Any request to produce, within a transaction or not."""
    expected = written(request, correlation_id=correlation_id, client_id=client_id)

    assert expected == written(quick_produce(request), correlation_id=correlation_id, client_id=client_id)


FETCH = FetchRequest(500, 1, 1_000, 1, [("t", [(0, 5, 1_000)])], rack_id="")
PRODUCE = ProduceRequest(transactional_id=None, required_acks=-1, timeout=9, topics=[("t", [(0, b"records")])])


@pytest.mark.parametrize(("newest", "expected"), [(11, QuickAnswer), (10, FetchRequest_v10.RESPONSE_TYPE)])
def test_a_broker_of_another_version_is_asked_by_aiokafka(newest: int, expected: type) -> None:
    """The answer is in the version of the request."""
    versions = {FetchRequest.API_KEY: (0, newest)}
    quick = quick_fetch(FETCH)

    assert expected is quick.prepare(versions).RESPONSE_TYPE
    assert written(FETCH, versions) == written(quick, versions)
    assert quick.topics is FETCH.topics
    assert FetchResponse_v11 is not QuickAnswer


@pytest.mark.parametrize(("newest", "expected"), [(7, ProduceRequest_v7), (6, ProduceRequest_v6)])
def test_to_a_broker_of_another_version_aiokafka_produces(newest: int, expected: Any) -> None:
    """The version is one that the broker speaks."""
    versions = {ProduceRequest.API_KEY: (0, newest)}
    quick = quick_produce(PRODUCE)

    assert quick.prepare(versions).API_VERSION == expected.API_VERSION
    assert quick.prepare(versions).RESPONSE_TYPE is expected.RESPONSE_TYPE
    assert written(PRODUCE, versions) == written(quick, versions)
    assert quick.required_acks == PRODUCE.required_acks


@pytest.mark.parametrize(("quick", "version"), [(quick_fetch(FETCH), 11), (quick_produce(PRODUCE), 7)])
def test_to_a_broker_that_speaks_later_versions_alone_nothing_is_written(quick: Any, version: int) -> None:
    """aiokafka says so; the broker would hang up."""
    with pytest.raises(NotImplementedError, match="has not yet been added"):
        quick.prepare({quick.API_KEY: (version + 1, version + 9)})


@pytest.mark.parametrize("request_", [FETCH, PRODUCE])
def test_a_broker_that_does_not_say_what_it_speaks_is_no_case_of_ours(request_: Any) -> None:
    """aiokafka decides, and refuses."""
    quick = quick_fetch(FETCH) if request_ is FETCH else quick_produce(PRODUCE)
    with pytest.raises(Exception, match="API version is unknown"):
        quick.prepare({})


@pytest.mark.parametrize(("quick", "plain"), [(quick_fetch(FETCH), FETCH), (quick_produce(PRODUCE), PRODUCE)])
def test_a_log_of_requests_shows_their_fields(quick: Any, plain: Any) -> None:
    """aiokafka logs each when it is told to."""
    shown = repr(plain.prepare(NEWEST))
    assert repr(quick.prepare(NEWEST)) == shown
    assert "topic='t'" in shown or "'t'" in shown
