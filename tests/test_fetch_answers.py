"""Answers to fetches, read by their layout: what aiokafka reads of the same bytes."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchResponse_v11
from hypothesis import given
from hypothesis import strategies as st

from streams.fetch_answers import QuickAnswer

HEADER = b"\0\0\0\7"
"""What stands before an answer, and is read already."""

numbers = st.integers(-(2**31), 2**31 - 1)
offsets = st.integers(-(2**63), 2**63 - 1)
aborted = st.none() | st.lists(st.tuples(offsets, offsets), max_size=3)
partitions = st.tuples(
    numbers,
    st.integers(-(2**15), 2**15 - 1),
    offsets,
    offsets,
    offsets,
    aborted,
    numbers,
    st.none() | st.binary(max_size=40),
)
topics = st.tuples(st.text(max_size=12), st.lists(partitions, max_size=5))
answers = st.builds(FetchResponse_v11, numbers, st.integers(-(2**15), 2**15 - 1), numbers, st.lists(topics, max_size=3))


def at_the_answer(content: bytes) -> io.BytesIO:
    data = io.BytesIO(HEADER + content)
    data.seek(len(HEADER))
    return data


def fields(answer: Any) -> list[Any]:
    return [getattr(answer, name) for name in answer.SCHEMA.names]


@given(answers)
def test_it_is_what_aiokafka_reads(answer: FetchResponse_v11) -> None:
    """Any answer, with every number at any value, lists that are missing among them."""
    content = answer.encode()

    assert fields(FetchResponse_v11.decode(at_the_answer(content))) == fields(
        QuickAnswer.decode(at_the_answer(content))
    )


@given(answers, st.data())
def test_an_answer_that_ends_too_soon_is_an_error(answer: FetchResponse_v11, data: st.DataObject) -> None:
    """Wherever it is cut off: nothing is made of a part."""
    content = answer.encode()
    cut = data.draw(st.integers(0, len(content) - 1))

    with pytest.raises((struct.error, ValueError)):
        QuickAnswer.decode(at_the_answer(content[:cut]))
