"""Rules tried: two answers compared, many added up, and the same as answering twice; no broker needed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexes.answering import answer_requests
from indexes.tried_answers import Tried, try_rules
from models.errors import BadRequest
from models.request import RequestLimits, parse_requests
from models.rule_trial import FIRST, RulesAt, SeenHit, Totals, candidate_rules, compare, same_meaning, why_never
from models.rules import Rule, RuleBook, parse_rule
from tests.look_catalog import NOW_MS, Catalog, drawn, fan_of, turned

ITEMS = [f"i{number}" for number in range(30)]
hits = st.builds(SeenHit, st.sampled_from(ITEMS), st.integers(0, 10_000), st.booleans(), st.booleans())
answers = st.lists(hits, max_size=25, unique_by=lambda hit: hit.item_id)


def rule(rule_id: str, **fields: Any) -> Rule:
    return parse_rule(rule_id, orjson.dumps(fields))


def first_scores(seen: Sequence[SeenHit]) -> list[float]:
    return [hit.score / 100 for hit in seen[:FIRST]]


# Two answers.


@given(answers, answers)
def test_what_enters_leaves_and_moves(before: list[SeenHit], after: list[SeenHit]) -> None:
    """As sets say it, in the order of the answers; an order is another one where two items have changed places."""
    compared = compare(before, after)
    were, are = [hit.item_id for hit in before], [hit.item_id for hit in after]
    both = set(were) & set(are)
    swapped = any(
        (were.index(one) < were.index(other)) != (are.index(one) < are.index(other)) for one in both for other in both
    )

    assert list(compared.entered) == [item for item in are if item not in both]
    assert list(compared.left) == [item for item in were if item not in both]
    assert compared.moved == swapped
    assert compared.changed == (were != are)


@given(st.lists(st.tuples(answers, answers, st.integers(1, 5)), max_size=8))
def test_totals_are_those_of_every_request_on_its_own(pairs: list[tuple[list[SeenHit], list[SeenHit], int]]) -> None:
    """Shares are of all first hits, scores the mean over requests that have hits on both sides, as often as asked."""
    totals = Totals()
    for before, after, times in pairs:
        totals.add(compare(before, after), times)
    every = [(before, after) for before, after, times in pairs for _ in range(times)]
    scored = [(first_scores(before), first_scores(after)) for before, after in every if before and after]
    means = [(sum(one) / len(one), sum(other) / len(other)) for one, other in scored]

    for side, seen in ((totals.before, [one for one, _ in every]), (totals.after, [other for _, other in every])):
        first = [hit for each in seen for hit in each[:FIRST]]
        assert (side.answers, side.hits, side.empty) == (len(seen), sum(map(len, seen)), sum(not each for each in seen))
        assert (side.first, side.on_sale) == (len(first), sum(hit.on_sale for hit in first))
        assert side.low_stock == sum(hit.low_stock for hit in first)
    given_up = sum(one - other for one, other in means) / len(means) if means else None
    assert totals.given_up == (None if given_up is None else pytest.approx(given_up, abs=1e-6))
    ids = [([hit.item_id for hit in one], [hit.item_id for hit in other]) for one, other in every]
    assert totals.changed == sum(one != other for one, other in ids)
    assert totals.exchanged == sum(set(one) != set(other) for one, other in ids)
    assert totals.entered.total() == sum(len(set(other) - set(one)) for one, other in ids)


def test_an_emptied_answer_costs_no_score() -> None:
    """A rule that leaves nothing is told by the answers without hits, not by a score that nobody sees."""
    totals = Totals()
    totals.add(compare([SeenHit("a", 9_000)], []))
    totals.add(compare([SeenHit("a", 9_000)], [SeenHit("b", 8_000)]), 3)

    assert totals.after.empty == 1
    assert totals.score(totals.before) == 90
    assert totals.given_up == totals.given_up_where_changed == 10


def test_a_comparison_comes_through_json() -> None:
    """As it goes from worker to command."""
    compared = compare([SeenHit("a", 1), SeenHit("b", 2, True)], [SeenHit("b", 2, True), SeenHit("ü", 9, False, True)])

    assert compared == msgspec.json.decode(msgspec.json.encode(compared), type=type(compared))


# The candidate.


def test_a_candidate_is_what_publishing_would_leave() -> None:
    """Rules of the same id are replaced, deletes come last, and `only` leaves none of those in force."""
    stored = [rule("a"), rule("b"), rule("default", enabled=False)]
    put = [rule("b", description="new"), rule("c")]

    assert [each.rule_id for each in candidate_rules(stored, put, {"a"}, only=False)] == ["b", "default", "c"]
    assert candidate_rules(stored, put, {"c"}, only=True) == [put[0]]
    assert same_meaning(rule("a", enabled=True), rule("a"))
    assert not same_meaning(rule("a", enabled=False), rule("a"))


def test_windows_are_judged_at_the_moment_that_is_asked_for() -> None:
    """At Christmas, whatever the time is now."""
    christmas = rule("christmas", validity=[{"from": 2_000, "until": 3_000}])
    book = RulesAt([christmas, rule("default", enabled=False)])

    assert book.applicable([], (), 5) == ()
    book.at_ms = 2_000_000
    assert book.applicable([], (), 5) == (christmas,)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"enabled": False}, "disabled"),
        ({"validity": [{"until": 5}]}, "windows"),
        ({"condition": {"context": "app"}}, "its context, app"),
        ({"condition": {"context": "web", "filters": "a:b"}}, "condition"),
        ({}, "no request met it"),
    ],
)
def test_why_a_rule_never_applied(fields: dict[str, Any], words: str) -> None:
    """The first reason that holds."""
    assert words in why_never(rule("r", **fields), NOW_MS, {"web"}, 5)
    if fields.get("condition") or not fields:
        assert "with rules" in why_never(rule("r", **fields), NOW_MS, {"web"}, 0)


# The same as answering twice.


def some_rules(numbers: random.Random) -> list[Rule]:
    """A few rules of every kind over the drawn catalog."""
    found = []
    for number in range(numbers.randrange(1, 6)):
        condition = numbers.choice([{}, {"filters": f"category:{numbers.choice('abc')}"}, {"context": "m"}])
        consequence: dict[str, Any] = {}
        if numbers.random() < 0.5:
            consequence["promote"] = [
                {"objectID": f"i{numbers.randrange(45)}", "position": numbers.randrange(12)} for _ in range(3)
            ]
        if numbers.random() < 0.4:
            consequence["hide"] = [{"objectID": f"i{numbers.randrange(40)}"}]
        boost = {"filters": numbers.choice(["on_sale:true", "price < 5"]), "factor": numbers.choice([0.2, 3.0])}
        consequence["params"] = numbers.choice([{}, {"boosts": [boost]}, {"filters": "price < 7"}])
        found.append(rule(f"r{numbers.randrange(4)}{number}", condition=condition, consequence=consequence))
    return found


def asked(numbers: random.Random) -> dict[str, Any]:
    """A request of any kind."""
    fields: dict[str, Any] = {"objectID": f"i{numbers.randrange(42)}", "maxRecommendations": numbers.randrange(1, 15)}
    more: list[dict[str, Any]] = [
        {"sameAs": ["category"]},
        {"diversity": 0.4},
        {"walk": {"steps": 3}},
        {"fallbackParameters": {}},
        {},
        {},
    ]
    parameters: dict[str, Any] = numbers.choice(
        [{}, {"ruleContexts": ["m"]}, {"enableRules": False}, {"filters": "price > 2"}]
    )
    return fields | numbers.choice(more) | {"queryParameters": parameters}


@pytest.mark.parametrize("seed", range(6))
def test_the_same_as_answering_twice(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """For any rules and requests: hits, applied rules and failures are those of two answers, each on its own."""
    catalog = drawn(tmp_path_factory, seed % 3)
    numbers = random.Random(seed)
    before, after = RuleBook(some_rules(numbers)), RuleBook(some_rules(numbers))
    bodies = [asked(numbers) for _ in range(40)]
    entries = [
        entry for body in bodies for entry in parse_requests(orjson.dumps(body), RequestLimits(), "items").entries
    ]
    tried = try_rules(entries, {}, catalog.shards, before, after, NOW_MS, mean=catalog.mean)
    plain = [answer_requests(entries, {}, catalog.shards, book, NOW_MS, mean=catalog.mean) for book in (before, after)]

    changes = 0
    for each, one, other in zip(tried, *plain, strict=True):
        if isinstance(each, BadRequest):
            assert (str(each), each.status) == (one.message, one.status) == (other.message, other.status)
            continue
        results = [orjson.loads(result.body) for result in (one, other)]
        assert [[rule.rule_id for rule in rules] for rules in (each.rules_before, each.rules_after)] == [
            result["appliedRules"] for result in results
        ]
        sides = [[seen_hit(catalog, hit) for hit in result["hits"]] for result in results]
        assert each.comparison == compare(*sides)
        changes += each.comparison.changed
        pinned = {hit["objectID"]: place for place, hit in enumerate(results[1]["hits"]) if hit["_source"] == "pin"}
        assert pinned == {fate.pin.item_id: fate.place for fate in each.fates if fate.obstacle is None}
    assert changes > 3


def seen_hit(catalog: Catalog, hit: dict[str, Any]) -> SeenHit:
    """A hit of an answer with its flags, as the catalog's oracle has them."""
    values = catalog.values(hit["objectID"])
    return SeenHit(hit["objectID"], round(hit["_score"] * 100), values["on_sale"][0], values["low_stock"][0])


# Pins.


def fates(catalog: Catalog, *rules: Rule, **fields: Any) -> dict[str, tuple[str, int | None]]:
    """What became of the pins: a code and a place."""
    entries = parse_requests(
        orjson.dumps({"objectID": "s", "maxRecommendations": 5} | fields), RequestLimits(), "items"
    )
    book = RuleBook([rule("default", enabled=False), *rules])
    (tried,) = try_rules(entries.entries, {}, catalog.shards, catalog.rules, book, NOW_MS, mean=catalog.mean)
    assert isinstance(tried, Tried)
    return {
        fate.pin.item_id: ("shown" if fate.obstacle is None else fate.obstacle.code, fate.place) for fate in tried.fates
    }


def pins(rule_id: str, *wanted: tuple[str, int], **more: Any) -> Rule:
    promote = [{"objectID": item_id, "position": position} for item_id, position in wanted]
    return rule(rule_id, consequence={"promote": promote} | more)


def test_every_way_for_a_pin_to_be_missing(tmp_path: Path) -> None:
    """Hidden, sold out, deleted, never known, filtered, beyond the end, without an image, the source itself."""
    catalog = fan_of(tmp_path)
    catalog.put("sold", [turned(5)], quantity=0, category="hats", rank=1)
    catalog.put("bare", category="hats", rank=1)
    catalog.put("gone", [turned(6)], category="hats", rank=1)
    assert catalog.shard_of("gone").apply("item-records", [("gone", None)], 2, NOW_MS) == []
    wanted = [("a", 0), ("b", 1), ("c", 2), ("sold", 3), ("bare", 3), ("gone", 3), ("nobody", 3), ("s", 3), ("e", 9)]
    rules = [
        pins("1", *wanted),
        rule("2", consequence={"hide": [{"objectID": "a"}], "params": {"filters": "NOT objectID:b"}}),
    ]

    assert fates(catalog, *rules) == {
        "a": ("hidden", None),
        "b": ("filtered", None),
        "c": ("shown", 2),
        "sold": ("sold_out", None),
        "bare": ("no_image", None),
        "gone": ("deleted", None),
        "nobody": ("unknown", None),
        "s": ("source", None),
        "e": ("beyond", None),
    }
    assert fates(catalog, *rules, outOfStock=True)["sold"] == ("shown", 3)
    assert fates(catalog, *rules, queryParameters={"filters": "rank > 8"})["c"] == ("filtered", None)
    assert fates(catalog, *rules, sameAs=["category"])["c"] == ("filtered", None)
    assert fates(catalog, *rules, walk={"steps": 2})["c"] == ("walk", None)


def test_a_deleted_item_that_comes_back_is_no_longer_deleted(tmp_path: Path) -> None:
    """What is remembered of deletes is not believed against a record."""
    catalog = fan_of(tmp_path)
    catalog.shard_of("a").apply("item-records", [("a", None)], 2, NOW_MS)
    assert fates(catalog, pins("1", ("a", 0))) == {"a": ("deleted", None)}

    catalog.put("a", [turned(10)])
    assert fates(catalog, pins("1", ("a", 0))) == {"a": ("shown", 0)}


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    """The later pin takes the next place, if there is one; who is pinned twice stands where it was first said."""
    catalog = fan_of(tmp_path)
    two = [pins("1", ("d", 1), ("e", 1)), pins("2", ("e", 0))]

    assert fates(catalog, *two) == {"d": ("shown", 1), "e": ("already", None)}
    assert fates(catalog, two[0], maxRecommendations=3) == {"d": ("shown", 1), "e": ("shown", 2)}
    assert fates(catalog, two[0], maxRecommendations=2) == {"d": ("shown", 1), "e": ("taken", None)}
    few = rule("3", consequence={"params": {"filters": "rank > 3"}})
    assert fates(catalog, pins("1", ("d", 4)), few) == {"d": ("shown", 1)}, "hits are too few for place 4"
