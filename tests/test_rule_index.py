"""The index of rules, compared with asking every rule in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.filter_tree import And, Compare, Facet, Filter, Not, Or, Range
from models.filters import parse_filter
from models.rule import Rule, Source
from models.rule_index import Interval, RuleIndex, Value, anchors

attributes = st.sampled_from(["a", "b", "price"])
texts = st.sampled_from(["x", "X", "y", "5", "5.0", "true", ""])
numbers = st.sampled_from([-1.0, 0.0, 4.5, 5.0, 6.0])
scalars = texts | numbers | st.booleans() | st.integers(4, 6)
leaves: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Facet, attributes, texts),
    st.builds(Compare, attributes, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), numbers),
    st.builds(lambda name, low, width: Range(name, low, low + abs(width)), attributes, numbers, numbers),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)
windows = st.tuples(st.none() | st.integers(0, 5), st.none() | st.integers(6, 10))
contexts = st.sampled_from(["m", "n"])
rules = st.builds(
    Rule,
    rule_id=st.sampled_from([f"r{number}" for number in range(6)]),
    condition=st.none() | conditions,
    context=st.none() | contexts,
    filter=st.none() | leaves,
    validity=st.lists(windows, max_size=2).map(tuple),
)
sources = st.lists(st.dictionaries(attributes, st.lists(scalars, max_size=3).map(tuple)), max_size=3)
requests = st.tuples(sources, st.frozensets(contexts), st.integers(-1, 11))


@given(st.lists(rules | st.sampled_from([f"r{number}" for number in range(6)]), max_size=12), st.lists(requests))
@settings(max_examples=150)
def test_the_index_finds_what_asking_every_rule_would(
    changes: list[Rule | str], asked: list[tuple[list[dict[str, tuple[Any, ...]]], frozenset[str], int]]
) -> None:
    """After any puts and removals, for any source items, contexts and moments, in the order of precedence."""
    index = RuleIndex()
    kept: dict[str, Rule] = {}
    for change in changes:
        rule_id = change if isinstance(change, str) else change.rule_id
        if before := kept.pop(rule_id, None):
            index.discard(before)
        if isinstance(change, Rule):
            kept[rule_id] = change
            index.put(change)

    for source_values, in_contexts, now_ms in asked:
        expected = [rule for rule in kept.values() if rule.applies(source_values, in_contexts, now_ms)]
        found = index.applicable(source_values, in_contexts, now_ms)
        assert found == tuple(sorted(expected, key=Rule.precedence))


@pytest.mark.parametrize("kept", [0, 3, 100_000])
def test_numbers_at_the_bounds_of_intervals(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number at a bound, beside it or beyond all is within what it is within, asked again and after a change too,
    whether what was found is kept or not.
    """
    monkeypatch.setattr("models.rule_index.KEPT_MAX", kept)
    texts_of = {
        "a": "price > 5",
        "b": "price:5 TO 7",
        "c": "price <= 5",
        "d": "price = 7",
        "e": "price < 2 OR price > 9",
    }
    index = RuleIndex()

    def found(price: float) -> str:
        return "".join(sorted(rule.rule_id for rule in index.applicable([{"price": (price,)}], (), 0)))

    for rule_id, text in texts_of.items():
        index.put(Rule(rule_id, parse_filter(text)))
    expected = {1: "ce", 2: "c", 5: "bc", 5.5: "ab", 7: "abd", 7.5: "a", 9: "a", 9.5: "ae", -1e300: "ce", 1e300: "ae"}
    assert expected == {price: found(price) for price in expected}
    assert expected == {price: found(price) for price in expected}

    index.discard(Rule("a", parse_filter("price > 5")))
    assert {7: "bd", 7.5: "", 9.5: "e"} == {price: found(price) for price in (7, 7.5, 9.5)}


def test_nothing_is_left_of_rules_that_are_gone() -> None:
    """No anchor, context or interval stays behind: rules come and go for years."""
    index = RuleIndex()
    put = [
        Rule("a", context="m"),
        Rule("b", parse_filter("x:1 OR x:2 OR y:3"), context="m"),
        Rule("c", parse_filter("price > 5 OR price:1 TO 2")),
        Rule("d", parse_filter("NOT x:1"), context="n"),
    ]
    for rule in put:
        index.put(rule)
    for rule in put:
        index.discard(rule)

    assert index._by_context == {}
    assert index._everywhere.empty


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a:X", [Value("a", "x")]),
        ("a:5.0", [Value("a", "5.0"), Value("a", "5")]),
        ("a > 5", [Interval("a", 5, float("inf"))]),
        ("a <= 5", [Interval("a", -float("inf"), 5)]),
        ("a != 5", [Interval("a", -float("inf"), float("inf"))]),
        ("a = 5", [Interval("a", 5, 5)]),
        ("a:1 TO 2", [Interval("a", 1, 2)]),
        ("NOT a:x", []),
        ("a:x OR NOT b:x", []),
        ("a:x OR b:y OR a:x", [Value("a", "x"), Value("b", "y")]),
        ("NOT a:x AND price > 5 AND b:y", [Value("b", "y")]),
        ("(a:x OR a:y) AND b:y", [Value("b", "y")]),
        ("NOT a:x AND NOT b:y", []),
    ],
)
def test_what_follows_from_a_condition(text: str, found: list[Value | Interval]) -> None:
    """The least that a source item must have; of AND the part that fewest items have."""
    assert list(anchors(parse_filter(text))) == found


def test_a_rule_is_not_asked_without_its_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand rules about other items are not looked at."""
    asked: list[str] = []
    meets = Rule.meets

    def seen(rule: Rule, given: Sequence[Source]) -> bool:
        asked.append(rule.rule_id)
        return meets(rule, given)

    monkeypatch.setattr(Rule, "meets", seen)
    index = RuleIndex()
    for number in range(10_000):
        index.put(Rule(f"r{number}", parse_filter(f"category:c{number} AND price > 5")))
        index.put(Rule(f"p{number}", parse_filter(f"price:{number} TO {number + 0.5}")))
        index.put(Rule(f"m{number}", parse_filter("NOT category:z"), context=f"m{number}"))

    found = index.applicable([{"category": ("C77",), "price": (80,)}], {"m5"}, 0)

    assert [rule.rule_id for rule in found] == ["m5", "p80", "r77"]
    assert sorted(asked) == ["m5", "p80", "r77"]
