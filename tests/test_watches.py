"""Watched lists in the core: whatever happens, what was pushed last is what a fresh request answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from indexes.watches import INTERVAL_MS
from models.truth_messages import Facts
from tests.watch_world import BEGIN_MS, D, World

ITEMS = [f"i{number}" for number in range(18)]
KINDS = "abc"


def vector(numbers: random.Random) -> list[float]:
    return [numbers.gauss(0.4, 1) for _ in range(D)]


def facts(numbers: random.Random, now_ms: int) -> Facts:
    return Facts(
        sale=numbers.random() < 0.4,
        discount=0.2,
        sale_from=numbers.choice([None, None, now_ms + 1_500, now_ms + 4_000]),
        sale_until=numbers.choice([None, None, now_ms + 2_500, now_ms + 6_000]),
        in_stock=numbers.choice([None, None, None, False]),
        low_stock_at=numbers.choice([None, 20.0]),
        group=numbers.choice([None, None, "g", "h"]),
    )


def asked(numbers: random.Random) -> dict[str, Any]:
    """A watch's body: each field now and then."""
    parameters: dict[str, Any] = {}
    fields: dict[str, Any] = {"maxRecommendations": numbers.choice([1, 2, 4, 4, 9])}
    may: list[Callable[[], None]] = [
        lambda: fields.update(threshold=numbers.choice([20, 60])),
        lambda: fields.update(outOfStock=True),
        lambda: fields.update(sameAs=[numbers.choice(["kind", "on_sale"])]),
        lambda: fields.update(diversity=0.4),
        lambda: parameters.update(distinct=1),
        lambda: parameters.update(filters=numbers.choice(["kind:a OR kind:b", "stock > 3", "NOT on_sale:true"])),
        lambda: parameters.update(optionalFilters=["kind:a<score=4>", "low_stock:-true<score=9>"]),
        lambda: parameters.update(optionalFilters=[["kind:a", "on_sale:true<score=2>"]], sumOrFiltersScores=True),
        lambda: parameters.update(ruleContexts=["mobile"]),
        lambda: parameters.update(enableRules=False),
        lambda: parameters.update(attributesToRetrieve=numbers.choice([["objectID"], ["kind", "stock"]])),
    ]
    for change in numbers.sample(may, numbers.choice([0, 0, 1, 1, 2, 3])):
        change()
    return fields | ({"queryParameters": parameters} if parameters else {})


def rule(numbers: random.Random, now_ms: int) -> dict[str, Any]:
    conditions = [
        {"filters": "kind:a"},
        {"filters": "on_sale:true"},
        {"filters": "low_stock:true"},
        {"context": "mobile"},
    ]
    consequences = [
        {"hide": [{"objectID": numbers.choice(ITEMS)}]},
        {"promote": [{"objectID": numbers.choice(ITEMS), "position": numbers.randrange(3)}]},
        {"params": {"filters": numbers.choice(["kind:a OR kind:c", "NOT low_stock:true"])}},
        {"params": {"boosts": [{"filters": "stock < 30", "factor": numbers.choice([0.5, 3])}]}},
        {"params": {"automaticFacetFilters": [{"facet": "kind", "negative": numbers.random() < 0.5}]}},
    ]
    body: dict[str, Any] = {"consequence": numbers.choice(consequences)}
    if numbers.random() < 0.6:
        body["condition"] = numbers.choice(conditions)
    if numbers.random() < 0.4:
        begin = now_ms // 1000 + numbers.choice([-5, 2, 4])
        body["validity"] = [{"from": begin, "until": begin + numbers.choice([3, 8])}]
    return body


def happen(world: World, numbers: random.Random) -> None:
    """One event, of any kind."""
    item_id = numbers.choice(ITEMS)
    events: list[tuple[int, Callable[[], object]]] = [
        (8, lambda: world.stock(item_id, numbers.choice([None, 0, 0, 2, 2, 50, 51]))),
        (
            6,
            lambda: world.record(
                item_id, numbers.choice([1, 1, 2]), facts(numbers, world.now_ms), kind=numbers.choice(KINDS)
            ),
        ),
        (5, lambda: world.look(item_id, *[vector(numbers) for _ in range(numbers.choice([0, 1, 1, 2]))])),
        (2, lambda: world.apply("item-records", item_id, None)),
        (1, lambda: world.apply("item-embeddings", item_id, None)),
        (2, lambda: world.rule(numbers.choice(["default", "r1", "r2"]), **rule(numbers, world.now_ms))),
        (1, lambda: world.rule(numbers.choice(["default", "r1", "r2"]))),
        (1, lambda: world.use_mean(numbers.choice([None, np.array(vector(numbers), np.float32) / np.float32(4)]))),
        (3, lambda: world.watch(item_id, **asked(numbers))),
        (1, lambda: world.unwatch(item_id)),
        (4, lambda: setattr(world, "now_ms", world.now_ms + numbers.choice([1, 400, 1_500, 3_000]))),
        (1, lambda: world.set_back(numbers.choice([1_001, 3_000, 9_000]))),
        (2, world.see),
        (2, world.ask),
    ]
    numbers.choices([event for _, event in events], [weight for weight, _ in events])[0]()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), shards=st.integers(1, 3))
@example(seed=17, shards=1)  # a level that turns, is answered with, and turns back before it is seen
@example(seed=601302, shards=1)  # a clock that goes back by less than a step as the source's sale begins
@example(seed=1127534, shards=1)  # a clock that is set back, asked at, and set forward again before rules are looked at
def test_lists_are_what_a_fresh_request_answers(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shards: int
) -> None:
    """After any events, in any order between seeing and asking, once all is settled every list is right."""
    numbers = random.Random(seed)
    world = World(tmp_path_factory.mktemp("world"), shards, seed=seed)
    for item_id in ITEMS[:12]:
        world.record(item_id, 1, facts(numbers, BEGIN_MS), kind=numbers.choice(KINDS))
        world.look(item_id, vector(numbers))
    for item_id in ITEMS[:8]:
        world.watch(item_id, **asked(numbers))
    for _ in range(numbers.choice([1, 4, 8])):
        world.settle()
        assert [] == world.wrong()

        for _ in range(numbers.choice([1, 1, 2, 5, 15])):
            happen(world, numbers)
    world.settle()

    assert [] == world.wrong()


# One thing at a time: items at angles of a plane, s the source


def turned(degrees: float) -> list[float]:
    return [float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))] + [0.0] * (D - 2)


@pytest.fixture
def fan(tmp_path: Path) -> World:
    """Items s, a, b, c, d, e at 0, 10, 20, 30, 40, 50 degrees, ten of each; the list of s has two hits."""
    world = World(tmp_path, 2)
    for number, item_id in enumerate("sabcde"):
        world.record(item_id, facts=Facts(group="g" if item_id in "ab" else None), kind="shoes")
        world.look(item_id, turned(10 * number))
        world.stock(item_id, 10)
    world.settle()
    world.watch("s", maxRecommendations=2, queryParameters={"attributesToRetrieve": ["objectID"]})
    world.settle()
    world.asked = 0
    return world


def hits(world: World) -> list[str]:
    return [hit["objectID"] for hit in orjson.loads(world.pushes[-1].result.body)["hits"]]


def test_the_first_list_says_that_it_is_the_first(fan: World) -> None:
    """A new watch is answered at once."""
    assert hits(fan) == ["a", "b"]
    assert fan.pushes[0].reasons == [{"event": "watch"}]


@pytest.mark.parametrize(
    ("what", "event", "expected"),
    [
        (lambda world: world.stock("a", 0), {"event": "stock", "objectID": "a"}, ["b", "c"]),
        (lambda world: world.stock("a", 1), {"event": "stock", "objectID": "a"}, ["b", "c"]),
        (lambda world: world.apply("item-records", "b", None), {"event": "catalog", "objectID": "b"}, ["a", "c"]),
        (lambda world: world.look("c", turned(5)), {"event": "images", "objectID": "c"}, ["c", "a"]),
        (lambda world: world.look("s", turned(50)), {"event": "images", "objectID": "s"}, ["e", "d"]),
        (
            lambda world: world.rule("r", consequence={"hide": [{"objectID": "a"}]}),
            {"event": "rule", "rule": "r"},
            ["b", "c"],
        ),
        (lambda world: world.use_mean(np.array([0.9, 0, 0, 0, 0, 0], np.float32)), {"event": "mean"}, ["a", "b"]),
        (
            lambda world: world.record("c", facts=Facts(sale=True, discount=0.5), kind="shoes"),
            {"event": "catalog", "objectID": "c"},
            ["c", "a"],
        ),
        (
            lambda world: world.rule("default", consequence={"promote": [{"objectID": "e", "position": 0}]}),
            {"event": "rule", "rule": "default"},
            ["e", "a"],
        ),
    ],
)
def test_a_change_is_pushed_with_its_reason(
    fan: World, what: Callable[[World], None], event: dict[str, str], expected: list[str]
) -> None:
    """What changes a list is told with it."""
    what(fan)
    (pushed,) = fan.settle()

    assert pushed.reasons == [event]
    assert hits(fan) == expected
    assert fan.wrong() == []


@pytest.mark.parametrize(
    "what",
    [
        lambda world: world.stock("a", 9),
        lambda world: world.stock("e", 0),
        lambda world: world.stock("c", None),
        lambda world: world.stock("s", 0),
        lambda world: world.record("e", kind="hats"),
        lambda world: world.look("e", turned(55)),
        lambda world: world.look("new", turned(1)),
        lambda world: world.rule("r", condition={"filters": "kind:hats"}, consequence={"hide": [{"objectID": "a"}]}),
        lambda world: world.rule("r", condition={"context": "mobile"}, consequence={"hide": [{"objectID": "a"}]}),
    ],
)
def test_what_cannot_change_a_list_is_not_asked(fan: World, what: Callable[[World], None]) -> None:
    """A level that turns no flag, an item too far away or without a record, a rule for others: no question is asked."""
    what(fan)

    assert fan.settle() == []
    assert fan.asked == 0
    assert fan.wrong() == []


def test_a_sale_that_begins_by_itself(fan: World) -> None:
    """Time alone opens a sale's window, and the list follows."""
    fan.record("b", facts=Facts(sale=True, discount=0.5, sale_from=fan.now_ms + 10_000), kind="shoes")
    fan.settle()
    fan.now_ms += 10_000
    (pushed,) = fan.settle()

    assert pushed.reasons == [{"event": "sale", "objectID": "b"}]
    assert hits(fan) == ["b", "a"]


def test_a_rules_window_that_opens_by_itself(fan: World) -> None:
    """Time alone opens and closes a rule's window."""
    begin = fan.now_ms // 1000 + 10
    fan.rule("r", consequence={"hide": [{"objectID": "a"}]}, validity=[{"from": begin, "until": begin + 60}])
    assert fan.settle() == []

    fan.now_ms = begin * 1000
    assert [one.reasons for one in fan.settle()] == [[{"event": "rule", "rule": "r"}]]
    assert hits(fan) == ["b", "c"]

    fan.now_ms = (begin + 60) * 1000
    fan.settle()
    assert hits(fan) == ["a", "b"]


def test_a_pin_that_could_not_be_shown_comes_back(fan: World) -> None:
    """An item that a rule pins is waited for, though it would never come near by its look."""
    fan.stock("e", 0)
    fan.rule("r", consequence={"promote": [{"objectID": "e", "position": 0}]})
    fan.settle()
    assert hits(fan) == ["a", "b"]

    fan.stock("e", 3)
    fan.settle()
    assert hits(fan) == ["e", "a"]


def test_what_diversity_chose_from_counts(tmp_path: Path) -> None:
    """An item that was only looked at leaves, and one that is unlike the others takes the place that it makes."""
    world = World(tmp_path, 1)
    for number, degrees in enumerate([0, *range(10, 20), 60]):
        world.record(f"i{number}")
        world.look(f"i{number}", turned(degrees))
    world.watch("i0", maxRecommendations=2, diversity=0.9)
    world.settle()
    assert hits(world) == ["i1", "i10"]

    world.stock("i5", 0)
    world.settle()
    assert hits(world) == ["i1", "i11"]
    assert world.wrong() == []


def test_a_family_member_takes_the_place(fan: World) -> None:
    """With `distinct` the next of the family comes when the first is gone."""
    fan.watch("s", maxRecommendations=2, queryParameters={"distinct": True})
    fan.settle()
    assert hits(fan) == ["a", "c"]

    fan.stock("a", 0)
    fan.settle()
    assert hits(fan) == ["b", "c"]


def test_a_watch_waits_for_its_item(fan: World) -> None:
    """Nothing is pushed for an item that is not there, an empty list when it goes, and the list when it is back."""
    fan.watch("new", maxRecommendations=2)
    assert fan.settle() == []

    fan.record("new")
    assert fan.settle() == []
    fan.look("new", turned(21))
    assert [one.item_id for one in fan.settle()] == ["new"]
    assert hits(fan) == ["b", "c"]

    fan.apply("item-records", "new", None)
    (gone,) = fan.settle()
    assert orjson.loads(gone.result.body)["hits"] == []
    assert (gone.result.status, gone.result.message) == (404, "item 'new' is not known")

    fan.record("new")
    fan.settle()
    assert hits(fan) == ["b", "c"]


def test_at_most_once_a_second(fan: World) -> None:
    """However often a list changes, it is asked once in a second, and then it is right."""
    for number in range(50):
        fan.now_ms += 100
        fan.stock("a", 9 * (number % 2))
        fan.see()
        fan.ask()

    assert 5 <= fan.asked <= 6
    fan.settle()
    assert fan.wrong() == []


def test_a_clock_that_is_set_back_delays_nothing(fan: World) -> None:
    """What waited for its second to be over does not wait until the clock is again where it was."""
    fan.stock("a", 0)
    fan.see()
    fan.set_back(3_600_000)
    fan.now_ms += INTERVAL_MS

    assert fan.ask()
    assert hits(fan)[0] != "a"


def test_a_list_of_another_writer_is_written_over(fan: World) -> None:
    """What others have been told is compared with what is right."""
    fan.watches.told("s", b"something else", {"event": "overwritten"})
    (again,) = fan.settle()
    assert again.reasons == [{"event": "overwritten"}]

    fan.watches.told("s", again.digest, {"event": "overwritten"})
    assert fan.settle() == []


def test_segments_make_lists_be_looked_over(fan: World) -> None:
    """After segments were built every list is asked once, and pushed only if it is another."""
    fan.watches.look_over({"event": "segments"})
    fan.now_ms += 5_000
    while fan.ask():
        pass

    assert fan.asked == 1
    assert len(fan.pushes) == 1


def test_nothing_is_left_of_a_list_that_ended(fan: World) -> None:
    """What an ended watch held is free for the next."""
    fan.unwatch("s")
    fan.stock("a", 0)
    assert fan.settle() == []
    assert (len(fan.watches), "s" in fan.watches, fan.watches._holders) == (0, False, {})

    fan.watch("b", maxRecommendations=1)
    fan.settle()
    assert hits(fan) == ["c"]


def test_a_list_that_cannot_be_asked_is_left_alone(fan: World) -> None:
    """A fault of ours stops one list until its item changes, not all."""
    fan.stock("a", 0)
    fan.see()
    fan.now_ms += 5_000
    assert fan.watches.due(9) == ["s"]
    fan.watches.give_up("s")
    assert fan.settle() == []

    fan.record("s", kind="boots")
    assert [one.item_id for one in fan.settle()] == ["s"]
