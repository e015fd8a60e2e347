"""What a member of a group commits: never what is in work, and what no consumer is handed as soon as nothing is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.kafka.group_offsets import GroupOffsets

A, B = TopicPartition("catalog-changes", 0), TopicPartition("catalog-changes", 1)


def messages(*offsets: int) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in offsets]


@pytest.fixture
def offsets() -> GroupOffsets:
    """Of a member that was given two partitions, one of which has been read up to offset 7."""
    made = GroupOffsets()
    made.begin(A, 7)
    made.begin(B, 0)
    return made


def test_nothing_new_is_not_committed(offsets):
    """A group that has never committed says so until something was there."""
    assert {} == offsets.to_commit({}, {A: 7, B: 0}.get)


def test_what_is_done_is_committed(offsets):
    """Less than was handed out, when that is all that is done."""
    offsets.handed({A: messages(7, 8, 9)})

    assert {A: 8} == offsets.to_commit({A: 8}, {A: 10, B: 0}.get)


def test_what_is_behind_the_last_message_is_committed_with_it(offsets):
    """A marker of a transaction took offset 10."""
    offsets.handed({A: messages(7, 8, 9)})

    assert {A: 11} == offsets.to_commit({A: 10}, {A: 11, B: 0}.get)


def test_what_comes_behind_it_later_is_committed_by_itself(offsets):
    """The marker came alone; and on B nothing came but what was taken back."""
    offsets.handed({A: messages(7)})
    offsets.committed(offsets.to_commit({A: 8}, {A: 8, B: 0}.get))

    for end in (9, 11):
        due = offsets.to_commit({}, {A: end, B: end - 6}.get)
        offsets.committed(due)

        assert {A: end, B: end - 6} == due


def test_nothing_is_skipped_that_is_in_work(offsets):
    """The position is past a message as soon as it was handed out; not so what was committed."""
    offsets.handed({A: messages(7)})

    assert {} == offsets.to_commit({}, {A: 8, B: 0}.get)


def test_a_commit_does_not_go_back(offsets):
    """A stage that says again what was done last does not undo what was committed past it."""
    offsets.handed({A: messages(7)})
    offsets.committed(offsets.to_commit({A: 8}, {A: 9, B: 0}.get))

    assert {} == offsets.to_commit({A: 8}, {A: 9, B: 0}.get)


def test_a_log_that_begins_anew_is_followed(offsets):
    """A topic that was deleted and made again is committed from its new beginning on."""
    offsets.handed({A: messages(0, 1)})

    assert 2 == offsets.lag(A, 2)
    assert {A: 2} == offsets.to_commit({A: 2}, {A: 2, B: 0}.get)


def test_what_was_handed_out_is_not_begun_again():
    """The position that comes too late is past what is in work, and says nothing of where that began."""
    offsets = GroupOffsets()
    offsets.handed({A: messages(3, 4)})
    offsets.begin(A, 5)

    assert 2 == offsets.lag(A, 5)
    assert {} == offsets.to_commit({}, {A: 5}.get)
    assert {A: 6} == offsets.to_commit({A: 5}, {A: 6}.get)


def test_lag_counts_from_the_start(offsets):
    """A stage that is stuck on its first message has a lag, too; one whose partition's end is not known has none."""
    assert (3, 0, 0) == (offsets.lag(A, 10), offsets.lag(A, 7), offsets.lag(A, None))

    offsets.drop()
    assert 0 == offsets.lag(A, 10)
