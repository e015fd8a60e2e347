"""What has changed of which items: everything that turned, whatever turned it, however far the columns have grown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexes import columns
from indexes.item_changes import IMAGES, RECORD
from indexes.shard import RECORDS
from models.stock import DERIVED, derived_attributes, flags
from models.truth_messages import Facts
from tests.watch_world import BEGIN_MS, World

ITEMS = st.sampled_from("abcdefgh")
FACTS = st.builds(
    Facts,
    sale=st.booleans(),
    discount=st.sampled_from([0.0, 0.25]),
    sale_from=st.sampled_from([None, BEGIN_MS + 5]),
    sale_until=st.sampled_from([None, BEGIN_MS + 9]),
    low_stock_at=st.sampled_from([None, 2.0]),
)
EVENTS = st.one_of(
    st.tuples(st.just("record"), ITEMS, FACTS),
    st.tuples(st.just("stock"), ITEMS, st.sampled_from([None, 0, 1, 4, 9])),
    st.tuples(st.just("look"), ITEMS, st.none()),
    st.tuples(st.just("gone"), ITEMS, st.none()),
    st.tuples(st.just("time"), st.just(""), st.integers(1, 4)),
)
NOTHING = {name: None if name == "stock" else 0 for name in DERIVED}
"""What stands in the columns where no item is."""


class Shop:
    """What each item is, by plain dictionaries."""

    def __init__(self) -> None:
        self.facts: dict[str, Facts] = {}
        self.levels: dict[str, float | None] = {}

    def derived(self, now_ms: int) -> dict[str, dict[str, Any]]:
        """Derived attributes of the items that have a record."""
        found = {}
        for item_id, facts in self.facts.items():
            level = self.levels.get(item_id)
            attributes = derived_attributes(flags(facts, level, now_ms, low_stock_at=5))
            found[item_id] = {name: next(iter(attributes[name]), None) for name in DERIVED}
        return found


@given(st.lists(st.lists(EVENTS, max_size=6), max_size=5))
def test_all_that_has_turned_is_found(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[tuple[str, str, Any]]]
) -> None:
    """Each look finds the items of which a derived attribute is another one, and those told of; of others, nothing.

    An item that took the place of one that was deleted meanwhile may be said to have turned where it has not.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "CAPACITY_MIN", 1)
        world, shop = World(tmp_path_factory.mktemp("shard"), 1), Shop()
        before: dict[str, dict[str, Any]] = {}
        for events in rounds:
            told: dict[str, set[str]] = {}
            for kind, item_id, value in events:
                if kind == "record":
                    world.record(item_id, facts=value)
                    shop.facts[item_id] = value
                    told.setdefault(item_id, set()).add(RECORD)
                elif kind == "stock":
                    world.stock(item_id, value)
                    shop.levels[item_id] = value
                elif kind == "look":
                    world.look(item_id, [1, 0, 0, 0, 0, 0])
                    told.setdefault(item_id, set()).add(IMAGES)
                elif kind == "gone":
                    world.apply(RECORDS, item_id, None)
                    shop.facts.pop(item_id, None)
                    told.setdefault(item_id, set()).add(RECORD)
                else:
                    world.now_ms += value
            world.shards[0].advance(world.now_ms)

            found = {change.item_id: change for change in world.changes.take()}
            now = shop.derived(world.now_ms)
            for item_id in {*found, *now, *told}:
                was, is_ = before.get(item_id, NOTHING), now.get(item_id)
                turned = {name for name in DERIVED if is_ and was[name] != is_[name]}
                kinds = set(found[item_id].kinds) if item_id in found else set()
                assert told.get(item_id, set()) <= kinds
                if RECORD not in kinds:  # which says that anything may have changed
                    assert turned <= kinds
                    assert kinds == turned | told.get(item_id, set()) or any(kind == "gone" for kind, *_ in events)
                assert not kinds or (found[item_id].place is not None) == (item_id in shop.facts)
            before = now
        world.shards[0].close()
