"""Rules: what is understood, what is refused, which apply and in which order."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from models.errors import BadEvent
from models.filters import parse_filter
from models.ranking import pins_of
from models.rules import DEFAULT_RULE, Boost, Pin, Rule, RuleBook, SameAs, parse_rule

NOW_MS = 1_700_000_000_000
SHOES: dict[str, tuple[Any, ...]] = {"category": ("shoes",), "price": (20.0,), "on_sale": (True,)}
HATS: dict[str, tuple[Any, ...]] = {"category": ("hats",), "price": (5.0,)}


def rule(rule_id: str, **fields: Any) -> Rule:
    """A rule of these fields, through the reader."""
    return parse_rule(rule_id, orjson.dumps(fields))


def test_a_whole_rule_is_understood() -> None:
    """Every field of the contract's example lands where it belongs; optional filters are factors."""
    raw = orjson.dumps(
        {
            "objectID": "sale-first",
            "description": "what it is for",
            "enabled": True,
            "_metadata": {"lastUpdate": 1},
            "condition": {"filters": "category:shoes AND price > 10", "context": "mobile"},
            "consequence": {
                "promote": [{"objectID": "x", "position": 0}],
                "hide": [{"objectID": "y"}, {"objectID": "z"}],
                "params": {
                    "filters": "stock > 0",
                    "optionalFilters": ["on_sale:true<score=3>", "low_stock:-true"],
                    "automaticFacetFilters": [
                        {"facet": "category", "negative": False},
                        {"facet": "brand", "negative": True},
                    ],
                    "boosts": [{"filters": "stock < 5", "factor": 0.5}],
                },
            },
            "validity": [{"from": 1700000000, "until": 1700600000.5}, {"until": 5}, {}],
        }
    )

    read = parse_rule("sale-first", raw)

    assert read == Rule(
        rule_id="sale-first",
        condition=parse_filter("category:shoes AND price > 10"),
        context="mobile",
        hide=frozenset({"y", "z"}),
        pins=(Pin("x", 0),),
        filter=parse_filter("stock > 0"),
        same_as=(SameAs("category", False), SameAs("brand", True)),
        boosts=(
            Boost(parse_filter("on_sale:true"), 1.3, "on_sale:true<score=3>"),
            Boost(parse_filter("low_stock:true"), 1 / 1.1, "low_stock:-true"),
            Boost(parse_filter("stock < 5"), 0.5, "stock < 5"),
        ),
        validity=((1_700_000_000_000, 1_700_600_000_500), (None, 5_000), (None, None)),
        enabled=True,
        description="what it is for",
        raw=raw,
    )


def test_null_and_blank_are_absent() -> None:
    """Serializers write every field; a rule that does nothing is a rule."""
    fields: dict[str, Any] = dict.fromkeys(
        ("objectID", "condition", "consequence", "description", "enabled", "validity")
    )
    read = parse_rule("r", orjson.dumps(fields | {"condition": {"filters": " ", "context": None}}))

    assert read == Rule(rule_id="r", raw=read.raw)
    assert read.condition is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"", "expected a JSON object, got no bytes"),
        (b"[]", "expected a JSON object, got a list"),
        (b"{", "expected JSON"),
        (b'{"enabled":true,"enabled":false}', "'enabled' stands twice"),
        (b'{"consequense":{}}', "unknown field 'consequense'; did you mean consequence?"),
        (b'{"objectID":"other"}', "objectID: expected the key, 'r', got 'other'"),
        (b'{"objectID":5}', "objectID: expected the key"),
        (b'{"enabled":1}', "enabled: expected true or false, got 1"),
        (b'{"description":1}', "description: expected text, got 1"),
        (b'{"condition":"a:b"}', "condition: expected an object, got text"),
        (b'{"condition":{"filter":"a:b"}}', "condition: unknown field 'filter'; did you mean filters?"),
        (b'{"condition":{"filters":"a b"}}', "condition.filters at position 3"),
        (b'{"condition":{"filters":5}}', "condition.filters: expected text, got 5"),
        (b'{"condition":{"context":["m"]}}', "condition.context: expected text"),
        (b'{"consequence":{"hide":{"objectID":"x"}}}', "consequence.hide: expected a list, got an object"),
        (b'{"consequence":{"hide":["x"]}}', "consequence.hide[0]: expected an object, got text"),
        (b'{"consequence":{"hide":[{"objectID":""}]}}', "consequence.hide[0].objectID: expected an item id"),
        (
            b'{"consequence":{"promote":[{"objectID":"x"}]}}',
            "consequence.promote[0].position: expected 0 to 999, got null",
        ),
        (b'{"consequence":{"promote":[{"objectID":"x","position":-1}]}}', "position: expected 0 to 999, got -1"),
        (b'{"consequence":{"promote":[{"objectID":"x","position":true}]}}', "position: expected 0 to 999, got true"),
        (b'{"consequence":{"params":{"query":"x"}}}', "consequence.params: unknown field 'query'"),
        (b'{"consequence":{"params":{"filters":"a:"}}}', "consequence.params.filters at position 3"),
        (b'{"consequence":{"params":{"optionalFilters":["a"]}}}', "consequence.params.optionalFilters[0]"),
        (b'{"consequence":{"params":{"boosts":[{"factor":2}]}}}', "boosts[0].filters: expected a filter, got null"),
        (b'{"consequence":{"params":{"boosts":[{"filters":"a:b","factor":0}]}}}', "boosts[0].factor"),
        (b'{"consequence":{"params":{"boosts":[{"filters":"a:b","factor":"2"}]}}}', "boosts[0].factor"),
        (b'{"consequence":{"params":{"boosts":[{"filters":"a:b","factor":true}]}}}', "boosts[0].factor"),
        (b'{"consequence":{"params":{"automaticFacetFilters":[{"facet":""}]}}}', "automaticFacetFilters[0]"),
        (
            b'{"consequence":{"params":{"automaticFacetFilters":[{"facet":"a","negative":1}]}}}',
            "automaticFacetFilters[0]",
        ),
        (b'{"validity":[{"from":1700000000000}]}', "validity[0].from: expected Unix seconds, got 1700000000000 (ms?)"),
        (b'{"validity":[{"until":"2024-01-01"}]}', "validity[0].until: expected Unix seconds, got text"),
        (b'{"validity":[{"from":5,"until":5}]}', "validity[0]: expected until after from"),
    ],
)
def test_a_rule_that_cannot_be_understood_says_why(value: bytes, words: str) -> None:
    """BadEvent names the rule, the place, what was expected and what came."""
    with pytest.raises(BadEvent) as caught:
        parse_rule("r", value)

    assert str(caught.value).startswith("rule 'r': ")
    assert words in str(caught.value)


def test_a_rule_needs_an_id() -> None:
    """The key of its event."""
    with pytest.raises(BadEvent, match="rule id"):
        parse_rule("", b"{}")


def test_the_built_in_rule_applies_until_one_named_default_replaces_it() -> None:
    """Also a disabled one; when that goes, the built-in one is back.  It applies beside other rules."""
    book = RuleBook()
    assert book.in_force() == (DEFAULT_RULE,)
    assert [(boost.text, boost.factor) for boost in DEFAULT_RULE.boosts] == [
        ("on_sale:true", 1.15),
        ("low_stock:true", 0.7),
    ]

    book.put(rule("other", consequence={"hide": [{"objectID": "x"}]}))
    assert [one.rule_id for one in book.in_force()] == ["default", "other"]

    book.put(rule("default", enabled=False))
    assert [one.rule_id for one in book.in_force()] == ["other"]

    book.remove("default")
    book.remove("other")
    book.remove("never there")
    assert book.in_force() == (DEFAULT_RULE,)


def test_a_newer_rule_takes_the_place_of_the_older_one() -> None:
    """By id."""
    book = RuleBook([rule("a", condition={"context": "x"})])
    book.put(rule("a", condition={"context": "y"}))

    assert [one.context for one in book.in_force()] == ["y", None]
    assert book.get("a") is not None
    assert book.get("b") is None


def test_precedence_is_the_documented_order() -> None:
    """Context first, then filter and boost rules, then those with a window, then the lowest id."""
    hide = {"hide": [{"objectID": "x"}]}
    rules = [
        rule("a", consequence=hide),
        rule("b", consequence=hide),
        rule("c", consequence=hide, validity=[{"from": 0}]),
        rule("d", consequence={"params": {"filters": "a:b"}}),
        rule("e", consequence={"params": {"boosts": [{"filters": "a:b", "factor": 2}]}}, validity=[{"from": 0}]),
        rule("f", consequence=hide, condition={"context": "m"}),
        rule("g", consequence={"params": {"automaticFacetFilters": [{"facet": "a"}]}}, condition={"context": "m"}),
    ]

    book = RuleBook(reversed(rules))
    book.put(rule("default", enabled=False))

    assert "".join(one.rule_id for one in book.in_force()) == "gfedcab"


@pytest.mark.parametrize(
    ("condition", "sources", "applies"),
    [
        ({}, [], True),
        ({"filters": "category:shoes"}, [SHOES], True),
        ({"filters": "category:shoes"}, [HATS], False),
        ({"filters": "category:shoes AND price > 10"}, [HATS, SHOES], True),
        ({"filters": "category:hats AND price > 10"}, [HATS, SHOES], False),
        ({"filters": "on_sale:true"}, [SHOES], True),
        ({"filters": "NOT category:shoes"}, [], False),
        ({"context": "mobile"}, [SHOES], True),
        ({"context": "desktop"}, [SHOES], False),
        ({"context": "mobile", "filters": "category:hats"}, [SHOES], False),
    ],
)
def test_conditions_are_about_a_source_item_and_the_context(
    condition: dict[str, Any], sources: list[dict[str, tuple[Any, ...]]], applies: bool
) -> None:
    """One source item must meet the whole of it; without a source item no filter is met, not even a NOT."""
    book = RuleBook([rule("r", condition=condition, consequence={"hide": [{"objectID": "x"}]})])

    found = book.applicable(sources, frozenset({"mobile", "winter"}), NOW_MS)

    assert ("r" in [one.rule_id for one in found]) is applies
    assert book.asks_source is ("filters" in condition)


@pytest.mark.parametrize(
    ("validity", "now_ms", "applies"),
    [
        ([], 0, True),
        ([{"from": 10, "until": 20}], 9_999, False),
        ([{"from": 10, "until": 20}], 10_000, True),
        ([{"from": 10, "until": 20}], 19_999, True),
        ([{"from": 10, "until": 20}], 20_000, False),
        ([{"until": 20}], 0, True),
        ([{"from": 10}], 10**15, True),
        ([{"from": 10, "until": 20}, {"from": 30, "until": 40}], 35_000, True),
        ([{"from": 10, "until": 20}, {"from": 30, "until": 40}], 25_000, False),
    ],
)
def test_windows_hold_from_inclusive_until_exclusive(
    validity: list[dict[str, int]], now_ms: int, applies: bool
) -> None:
    """Unix seconds in the rule, any of several windows."""
    book = RuleBook([rule("r", validity=validity)])

    found = book.applicable([], (), now_ms)

    assert ("r" in [one.rule_id for one in found]) is applies


def test_rules_that_always_apply_are_given_out_as_they_are() -> None:
    """The same tuple each time: nothing is evaluated for them."""
    book = RuleBook([rule("r", consequence={"hide": [{"objectID": "x"}]})])

    assert book.applicable([], (), 1) is book.applicable([SHOES], ("m",), 2)


def test_of_two_rules_that_pin_an_item_the_first_has_its_way() -> None:
    """In the order of precedence."""
    first = rule("a", consequence={"promote": [{"objectID": "x", "position": 3}, {"objectID": "y", "position": 0}]})
    second = rule("b", consequence={"promote": [{"objectID": "x", "position": 0}, {"objectID": "z", "position": 0}]})

    assert pins_of([first, second]) == (Pin("x", 3), Pin("y", 0), Pin("z", 0))
