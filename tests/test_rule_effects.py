"""What rules do to answers, by table: conflicts between two, precedence, windows at their edges, places of pins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.look_catalog import NOW_MS, Catalog, fan_of, turned

NOW_S = NOW_MS // 1000


@pytest.fixture
def fan(tmp_path: Path) -> Catalog:
    """Items s, a, b, c, d, e at 0, 10, 20, 30, 40, 50 degrees; s, b, d are shoes, the others hats; rank 0 to 5."""
    return fan_of(tmp_path)


def pin(**positions: int) -> dict[str, Any]:
    return {"promote": [{"objectID": item_id, "position": position} for item_id, position in positions.items()]}


def hide(*item_ids: str) -> dict[str, Any]:
    return {"hide": [{"objectID": item_id} for item_id in item_ids]}


def keep(filters: str) -> dict[str, Any]:
    return {"params": {"filters": filters}}


def boost(filters: str, factor: float) -> dict[str, Any]:
    return {"params": {"boosts": [{"filters": filters, "factor": factor}]}}


def same(facet: str, negative: bool = False) -> dict[str, Any]:
    return {"params": {"automaticFacetFilters": [{"facet": facet, "negative": negative}]}}


@pytest.mark.parametrize(
    ("one", "other", "hits"),
    [
        (pin(e=0), hide("e"), "abcd"),
        (pin(e=0), keep("rank < 5"), "abcd"),
        (pin(e=0), boost("objectID:e", 0.001), "eabcd"),
        (pin(e=0), same("category"), "bd"),
        (pin(e=0), pin(e=3), "eabcd"),
        (pin(e=0), pin(d=0), "edabc"),
        (pin(e=1, d=1), pin(c=1), "aedcb"),
        (pin(s=0), pin(e=0), "eabcd"),
        (hide("a"), hide("b"), "cde"),
        (hide("a"), boost("objectID:a", 1000), "bcde"),
        (keep("rank > 1"), keep("rank < 4"), "bc"),
        (keep("rank > 3"), keep("rank < 3"), ""),
        (keep("rank > 3"), same("category"), "d"),
        (same("category"), same("category", negative=True), ""),
        (boost("rank = 5", 4), boost("rank = 5", 0.25), "abcde"),
        (boost("rank = 5", 4), boost("rank > 3", 0.25), "abced"),
        (boost("rank = 5", 1000), boost("rank = 5", 1000), "eabcd"),
    ],
)
def test_two_rules_in_conflict(fan: Catalog, one: dict[str, Any], other: dict[str, Any], hits: str) -> None:
    """All hiding and filters hold, factors multiply, and of pins the first rule's stand."""
    fan.rule("1", consequence=one)
    fan.rule("2", consequence=other)

    assert fan.hits(objectID="s") == hits


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"condition": {"context": "m"}}, {"consequence": boost("rank > 9", 2)}),
        ({"consequence": keep("rank >= 0")}, {"validity": [{"from": 0}]}),
        ({"consequence": boost("rank > 9", 2)}, {"validity": [{"from": 0}]}),
        ({"validity": [{"from": 0}]}, {}),
        ({"validity": [{"from": 0}], "condition": {"filters": "category:shoes"}}, {}),
    ],
)
def test_the_rule_that_precedes_pins(fan: Catalog, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Whatever its id: context, then filter or boosts, then a window, then the lowest id."""
    for rule_id, fields, position in (("z", first, 0), ("a", second, 4)):
        fan.rule(rule_id, **{**fields, "consequence": fields.get("consequence", {}) | pin(e=position)})

    answer = fan.one(objectID="s", queryParameters={"ruleContexts": ["m"]})

    assert answer["hits"][0]["objectID"] == "e"
    assert answer["appliedRules"] == ["z", "a"]


@pytest.mark.parametrize(
    ("validity", "hits"),
    [
        ([{"from": NOW_S, "until": NOW_S + 1}], "bcde"),
        ([{"from": NOW_S - 1, "until": NOW_S}], "abcde"),
        ([{"from": NOW_S + 1}], "abcde"),
        ([{"until": NOW_S + 0.001}], "bcde"),
        ([{"until": 5}, {"from": NOW_S - 5}], "bcde"),
        ([{}], "bcde"),
    ],
)
def test_a_window_holds_from_its_first_moment_to_before_its_last(
    fan: Catalog, validity: list[dict[str, float]], hits: str
) -> None:
    """Unix seconds; any of several."""
    fan.rule("r", consequence=hide("a"), validity=validity)

    assert fan.hits(objectID="s") == hits


@pytest.mark.parametrize(
    ("promote", "asked", "hits"),
    [
        (pin(e=0), {}, "eabcd"),
        (pin(e=1), {}, "aebcd"),
        (pin(e=4), {}, "abcde"),
        (pin(a=0), {}, "abcde"),
        (pin(a=4), {}, "bcdea"),
        (pin(a=5), {}, "abcde"),
        (pin(a=999), {}, "abcde"),
        (pin(a=2), {"maxRecommendations": 3}, "bca"),
        (pin(a=3), {"maxRecommendations": 3}, "abc"),
        (pin(e=0), {"maxRecommendations": 1}, "e"),
        (pin(a=4), {"threshold": 90}, "ba"),
        (pin(e=3), {"threshold": 90}, "abe"),
        (pin(e=9), {"maxRecommendations": 10, "threshold": 90}, "abe"),
        (pin(d=8, e=7), {"maxRecommendations": 10, "threshold": 90}, "abed"),
        (pin(e=0, d=1, c=2, b=3, a=4), {}, "edcba"),
        (pin(s=0), {}, "abcde"),
        (pin(nobody=0), {}, "abcde"),
        (pin(e=0) | hide("e"), {}, "abcd"),
        (pin(e=0), {"queryParameters": {"filters": "rank < 5"}}, "abcd"),
        (pin(e=0), {"queryParameters": {"enableRules": False}}, "abcde"),
    ],
)
def test_pins_count_from_nought(fan: Catalog, promote: dict[str, Any], asked: dict[str, Any], hits: str) -> None:
    """At the place, at the end of fewer hits, not beyond those asked for; a source item, hidden or filtered never."""
    fan.rule("r", consequence=promote)

    assert fan.hits(objectID="s", **asked) == hits


def test_a_rule_is_in_force_for_the_next_request(fan: Catalog) -> None:
    """And gone for the one after it is removed."""
    assert fan.hits(objectID="s") == "abcde"
    fan.rule("r", consequence=hide("a"))
    assert fan.hits(objectID="s") == "bcde"
    fan.rule("r", consequence=hide("b"))
    assert fan.hits(objectID="s") == "acde"
    fan.rules.remove("r")
    assert fan.hits(objectID="s") == "abcde"


def test_rules_that_a_request_does_not_touch_change_none_of_its_bytes(fan: Catalog) -> None:
    """Thousands of rules about other items and contexts."""
    before = fan.ask({"objectID": "s"})[0].body
    for number in range(2_000):
        condition: dict[str, Any] = {"filters": f"category:c{number} AND rank:100 TO {200 + number}"}
        fan.rule(f"a{number}", consequence=hide("a"), condition=condition)
        fan.rule(f"b{number}", consequence=pin(e=0), condition={"context": f"c{number}"})

    assert fan.ask({"objectID": "s"})[0].body == before


def test_each_request_of_a_batch_meets_its_own_rules(fan: Catalog) -> None:
    """Together as alone, byte for byte: rules for some sources, for their flags, for contexts, and about what is the
    same as each source; among requests that none of them touches.
    """
    fan.put("d", [turned(40)], quantity=0, category="shoes", rank=4)
    fan.rule("hats", condition={"filters": "category:hats AND rank < 2"}, consequence=hide("c"))
    fan.rule("last", condition={"filters": "rank > 4"}, consequence=pin(a=1))
    fan.rule("gone", condition={"filters": "out_of_stock:true"}, consequence=boost("rank = 2", 3))
    fan.rule("alike", condition={"filters": "category:shoes", "context": "alike"}, consequence=same("category"))
    fan.rule("apart", condition={"context": "apart"}, consequence=same("category", negative=True))
    contexts: list[list[str]] = [[], ["alike"], ["apart"]]
    bodies = [
        {"objectID": item_id, "queryParameters": {"ruleContexts": context}}
        for item_id in "sabcde"
        for context in contexts
    ]

    together = [result.body for result in fan.ask(*bodies)]

    fan.rule("always", consequence=same("category"))
    bound = [result.body for result in fan.ask(*bodies)]

    assert bound == [fan.ask(body)[0].body for body in bodies]
    fan.rules.remove("always")
    assert together == [fan.ask(body)[0].body for body in bodies]
    applied = {(*orjson.loads(body)["appliedRules"],) for body in together}
    assert applied >= {(), ("alike",), ("apart", "hats"), ("gone",), ("last",)}


def test_flags_are_looked_up_only_while_a_rule_asks_for_them(fan: Catalog) -> None:
    """Whichever rule asked, and however often it was written."""
    fan.rule("r", condition={"filters": "category:hats OR NOT in_stock:true"})
    fan.rule("r", condition={"filters": "category:hats OR NOT in_stock:true"})

    asked = [fan.rules.asks_flags]
    fan.rule("r", condition={"filters": "category:hats"})
    asked.append(fan.rules.asks_flags)
    fan.rule("r", consequence=same("low_stock"))
    asked.append(fan.rules.asks_flags)
    fan.rules.remove("r")

    assert [*asked, fan.rules.asks_flags] == [True, False, True, False]
