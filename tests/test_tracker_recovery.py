"""Recovery from the truths, case by case: what late writers and strangers left on a log, and what is written then.

`test_tracker.py` has the same by random histories; each case that is easy to get wrong stands here by its name.
"""

from __future__ import annotations

import msgspec

from models.record import AttributeNames, RecordLimits
from models.tracker import Tracker
from models.tracker_recovery import Recovery, read_record, read_stock
from models.truth_messages import Facts, ItemRecord, ItemStock, Written

NOW_MS = 1_700_000_000_000


def record(count: int, *, epoch: int = 1, gone: bool = False, price: int = 1) -> ItemRecord:
    body = b"{}" if gone else b'{"objectID":"a","price":%d}' % price
    return ItemRecord(msgspec.Raw(body), Facts(), (), 1, NOW_MS, Written(epoch, count), gone=gone, writer="w")


def level(quantity: float, at: int, count: int = 0, epoch: int = 1) -> ItemStock:
    return ItemStock(quantity, at, Written(epoch, count), "w")


def recovery() -> Recovery:
    return Recovery(Tracker("me", AttributeNames.parse(""), RecordLimits(), low_stock_at=5))


def test_a_late_writers_delete_does_not_hide_the_newer_record() -> None:
    """A record that stands after a newer one is written over; its own tombstone then changes nothing."""
    late = recovery()
    late.record("a", record(2, price=2), NOW_MS)
    late.record("a", record(1, price=1), NOW_MS)
    late.record("a", None, NOW_MS)
    late.finish(2, NOW_MS)
    (written,) = late.tracker.take(NOW_MS).records

    assert written[0] == "a"
    assert written[1] is not None
    assert bytes(written[1].record) == b'{"objectID":"a","price":2}'
    assert written[1].written > Written(1, 2)


def test_a_tombstone_of_what_was_never_seen_is_nothing() -> None:
    """Compaction may keep a tombstone longer than what it deleted."""
    empty = recovery()
    empty.record("a", None, NOW_MS)
    empty.finish(2, NOW_MS)

    assert not empty.tracker.items
    assert not empty.tracker.take(NOW_MS).records


def test_a_tombstone_after_the_record_deletes_it() -> None:
    """It is final: nothing has to be written for it."""
    deleted = recovery()
    deleted.record("a", record(1), NOW_MS)
    deleted.record("a", None, NOW_MS)
    deleted.finish(2, NOW_MS)

    assert not deleted.tracker.items
    assert not deleted.tracker.take(NOW_MS).records


def test_a_delete_without_its_tombstone_is_ended() -> None:
    """The owner died between the mark and the tombstone, so the next one writes it."""
    marked = recovery()
    marked.record("a", record(1, gone=True), NOW_MS)
    marked.finish(2, NOW_MS)

    assert [key for key, _ in marked.tracker.take(NOW_MS).records] == ["a", "a"]


def test_an_older_level_that_stands_last_is_written_over() -> None:
    """The newest `at` is right, in whatever order the levels stand."""
    late = recovery()
    late.stock("a", level(7, NOW_MS), NOW_MS)
    late.stock("a", level(3, NOW_MS - 1), NOW_MS)
    late.finish(2, NOW_MS)
    ((key, written),) = late.tracker.take(NOW_MS).stocks

    assert (key, written.quantity, written.at) == ("a", 7, NOW_MS)


def test_a_tombstone_forgets_a_level() -> None:
    """None of ours writes one, but whoever did asked for it."""
    forgotten = recovery()
    forgotten.stock("a", level(7, NOW_MS), NOW_MS)
    forgotten.stock("a", None, NOW_MS)
    forgotten.finish(2, NOW_MS)

    assert not forgotten.tracker.items
    assert not forgotten.tracker.take(NOW_MS).stocks


def test_what_a_stranger_hides_is_written_again() -> None:
    """A message that cannot be read stands last of its key: record and level are ours to repeat."""
    hidden = recovery()
    hidden.record("a", record(1), NOW_MS)
    hidden.stock("a", level(7, NOW_MS), NOW_MS)
    hidden.unreadable("a")
    hidden.unreadable("unknown")
    hidden.finish(2, NOW_MS)
    effects = hidden.tracker.take(NOW_MS)

    assert [key for key, _ in effects.records] == ["a"]
    assert [key for key, _ in effects.stocks] == ["a"]


def test_a_newer_owners_messages_are_left_alone() -> None:
    """Who reads an epoch above its own has been replaced, and answers nothing."""
    old = recovery()
    old.record("a", record(1), NOW_MS)
    old.finish(2, NOW_MS)
    old.tracker.take(NOW_MS)
    read_record(old.tracker, "a", record(1, epoch=9, price=5))
    read_stock(old.tracker, "a", level(1, NOW_MS + 1, epoch=9))
    effects = old.tracker.take(NOW_MS)

    assert not effects.records
    assert not effects.stocks


def test_an_older_owners_record_of_a_deleted_item_is_taken_back() -> None:
    """Its message brings the item back for all readers, so the delete is written after it."""
    owner = recovery()
    owner.finish(2, NOW_MS)
    read_record(owner.tracker, "a", record(5))
    keys = [(key, value is None or value.gone) for key, value in owner.tracker.take(NOW_MS).records]

    assert keys == [("a", True), ("a", True)]
