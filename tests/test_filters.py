"""The filter grammar: text to tree, tree to text, and what a tree matches."""

from __future__ import annotations

import math
import operator
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import BadRequest
from models.filter_arrays import (
    OptionalSum,
    facet_filters,
    factor_of,
    numeric_filters,
    optional_filters,
    optional_sums,
    tag_filters,
)
from models.filters import (
    And,
    Compare,
    Facet,
    Filter,
    Not,
    Or,
    Range,
    all_of,
    any_of,
    attributes_of,
    facet_text,
    facet_texts,
    format_filter,
    matches,
    number_of,
    parse_filter,
)

names = st.sampled_from(["price", "größe", 'a "b"', "AND"])
values = st.one_of(
    st.sampled_from(
        ["shoes", "SHOES", "5", "5.0", "-3", "true", "OR", "a b", "it's", 'say "hi"', "\\", "<5", "http://a/b"]
    ),
    st.text(max_size=6),
)
numbers = st.one_of(st.integers(-5, 5).map(float), st.floats(allow_nan=False, allow_infinity=False))


def _ranges() -> st.SearchStrategy[Filter]:
    return st.builds(lambda name, low, high: Range(name, min(low, high), max(low, high)), names, numbers, numbers)


leaves: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Facet, names, values),
    st.builds(Compare, names, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), numbers),
    _ranges(),
)
trees: st.SearchStrategy[Filter] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)
scalars = st.one_of(
    st.sampled_from(["shoes", "Shoes", "5", "5.0", "007", "", "true"]),
    st.integers(-5, 5),
    st.booleans(),
    st.sampled_from([-3.0, 0.5, 5.0, 1e300]),
)
items = st.dictionaries(names, st.lists(scalars, max_size=3), max_size=4)


def _found_by(text: str, value: Any) -> bool:
    """An independent reading of `attr:text` for one scalar."""
    if isinstance(value, bool):
        return text.casefold() == ("true" if value else "false") or (_as_number(text) is not None and False)
    if isinstance(value, str):
        number = _as_number(text)
        plain = None if number is None else (str(int(number)) if number == int(number) else repr(number))
        return value.casefold() in (text.casefold(), plain)
    return _as_number(text) == value


def _as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    plain = text.isascii() and "_" not in text and text == text.strip() and math.isfinite(number)
    return number if plain else None


def _expected(tree: Filter, item: dict[str, list[Any]]) -> bool:
    """The oracle: a plain evaluation, written apart from `matches`."""
    if isinstance(tree, And):
        return all(_expected(part, item) for part in tree.parts)
    if isinstance(tree, Or):
        return any(_expected(part, item) for part in tree.parts)
    if isinstance(tree, Not):
        return not _expected(tree.part, item)
    found = item.get(tree.attribute, [])
    if isinstance(tree, Facet):
        return any(_found_by(tree.value, value) for value in found)
    as_numbers = [_as_number(value) if isinstance(value, str) else float(value) for value in found]
    numbers_found = [number for number in as_numbers if number is not None]
    if isinstance(tree, Range):
        return any(tree.low <= number <= tree.high for number in numbers_found)
    compare = {
        "=": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }[tree.operator]
    return any(compare(number, tree.number) for number in numbers_found)


@given(trees)
def test_a_filter_printed_and_parsed_again_is_the_same(tree: Filter) -> None:
    """`parse_filter(format_filter(f)) == f`."""
    assert parse_filter(format_filter(tree)) == tree


@given(trees, items)
@settings(max_examples=200)
def test_a_random_filter_agrees_with_a_plain_evaluation(tree: Filter, item: dict[str, list[Any]]) -> None:
    """`matches` says what an independent evaluation says."""
    assert matches(tree, item) is _expected(tree, item)


@given(st.text(alphabet="ab:\"'()<>=! ANDORTx5-.\\", max_size=30))
@settings(max_examples=500)
def test_any_text_is_a_filter_or_an_error_with_its_position(text: str) -> None:
    """Whatever comes, there is a tree or a BadRequest that names a position within the text."""
    try:
        tree = parse_filter(text)
    except BadRequest as error:
        position = int(str(error).split()[2])
        assert 1 <= position <= len(text) + 1
    else:
        assert parse_filter(format_filter(tree)) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("category:Book", Facet("category", "Book")),
        ("category:'Running shoes'", Facet("category", "Running shoes")),
        ("category : Book", Facet("category", "Book")),
        (r'title:"say \"hi\" \\ \n"', Facet("title", 'say "hi" \\ \\n')),
        ("'my attr':x", Facet("my attr", "x")),
        ("link:https://a.b/c?d=e", Facet("link", "https://a.b/c?d=e")),
        ("brand:L'Oreal", Facet("brand", "L'Oreal")),
        ('"category:Running shoes"', Facet("category", "Running shoes")),
        ("published", Facet("_tags", "published")),
        ('"summer sale"', Facet("_tags", "summer sale")),
        ("count:-12", Facet("count", "-12")),
        ("price>10", Compare("price", ">", 10)),
        ("price >= -1.5e2", Compare("price", ">=", -150)),
        ("price != .5", Compare("price", "!=", 0.5)),
        ("date: 1441745506 TO 1441755506", Range("date", 1441745506, 1441755506)),
        ("t:-5 TO -1.5", Range("t", -5, -1.5)),
        ("size:10 TOP", None),
        ("NOT a:b", Not(Facet("a", "b"))),
        ("NOT NOT a:b", Not(Not(Facet("a", "b")))),
        ("a:1 AND b:2 OR c:3", And((Facet("a", "1"), Or((Facet("b", "2"), Facet("c", "3")))))),
        ("(a:1 AND b:2) OR c:3", Or((And((Facet("a", "1"), Facet("b", "2"))), Facet("c", "3")))),
        ("NOT (a:1 OR b:2)", Not(Or((Facet("a", "1"), Facet("b", "2"))))),
        ("a:1 AND(b:2)AND c:3", And((Facet("a", "1"), Facet("b", "2"), Facet("c", "3")))),
        ("\n a:1\tAND\n b:2 ", And((Facet("a", "1"), Facet("b", "2")))),
        ('a:"AND"', Facet("a", "AND")),
        ('"NOT":x', Facet("NOT", "x")),
    ],
)
def test_the_grammar_by_example(text: str, tree: Filter | None) -> None:
    """Each form of the grammar; OR binds tighter than AND, as Algolia documents it."""
    if tree is None:
        with pytest.raises(BadRequest):
            parse_filter(text)
    else:
        assert parse_filter(text) == tree


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 1, "expected a filter"),
        ("   ", 4, "expected a filter"),
        ("category:running shoes", 18, "needs quotes"),
        ("a:b and c:d", 5, "AND is written in capitals"),
        ("a:b NOT c:d", 5, "expected AND or OR before NOT"),
        ("(a:b", 5, 'expected ")" for the "(" at position 1'),
        ("(a:b c", 6, 'AND, OR or ")"'),
        ("a:b)", 4, "closes nothing"),
        ("()", 2, "expected a filter"),
        ("a:b AND", 8, "expected a filter"),
        ("NOT", 4, "expected a filter"),
        ("OR a:b", 1, "needs quotes"),
        ("a:b AND TO:5", 9, "needs quotes"),
        (":5", 1, "expected a filter"),
        ("a:", 3, "expected a value"),
        ("a:OR", 3, "needs quotes"),
        ("a:)", 3, "expected a value"),
        ('a:"b', 3, "not closed"),
        ('a:x"y"', 4, "whole value in quotes"),
        ("a > b", 5, "expected a number after a >"),
        ("a >", 4, "expected a number"),
        ('a = "5"', 5, "expected a number"),
        ("a = 1e999", 5, "expected a number"),
        ("a:9 TO 3", 3, "begins above its end"),
        ("a:x TO 3", 3, "expected a number before TO"),
        ("a:1 TO b", 8, "expected a number after TO"),
        ("a:>5", 3, "no colon"),
        ("a:b<score=3>", 4, "optionalFilters"),
        ("a<score=3>", 2, "optionalFilters"),
        ("(" * 101 + "a:b" + ")" * 101, 101, "nested deeper than 100"),
        ("NOT " * 101 + "a:b", 401, "nested deeper than 100"),
        (" OR ".join(["a:b"] * 1001), 7001, "more than 1,000 clauses"),
        ("x" * 65_537, 65_537, "at most 65,536 characters"),
    ],
)
def test_every_error_names_its_position(text: str, position: int, words: str) -> None:
    """Positions count from 1 and stand at what is wrong; the words say what was expected."""
    with pytest.raises(BadRequest) as caught:
        parse_filter(text)

    assert str(caught.value).startswith(f"at position {position}")
    assert words in str(caught.value)


def test_the_deepest_filter_that_is_allowed_works_throughout() -> None:
    """A hundred levels of nodes are parsed, printed, matched, hashed and compared without recursion trouble."""
    text = "a:0"
    for level in range(1, 100):
        text = f"({text}) {'AND' if level % 2 else 'OR'} a:{level}"
    tree = parse_filter(text)

    assert parse_filter(format_filter(tree)) == tree
    assert hash(tree) == hash(parse_filter(format_filter(tree)))
    assert matches(tree, {"a": [str(level) for level in range(100)]})
    assert not matches(tree, {})
    assert attributes_of(tree) == {"a"}
    with pytest.raises(BadRequest, match="nested deeper"):
        parse_filter(f"NOT ({text} AND b:1) OR c:2")


@pytest.mark.parametrize(
    "text",
    [
        "a:" + "1:" * 30_000,
        " " * 65_000,
        "a:b" + " " * 60_000 + "TO",
        "<score=" * 9_000,
        '"' + "\\" * 65_000,
        "a:b AND " * 8_000,
        "(" * 65_000,
        "NOT " * 16_000,
    ],
)
def test_hostile_text_takes_no_time_to_speak_of(text: str) -> None:
    """Nothing in the parsers grows with the square of the text: that would take minutes of the processor's time."""
    started = time.process_time()
    for read in (parse_filter, numeric_filters, optional_filters, facet_filters):
        try:
            read(text)
        except BadRequest:
            continue
    assert time.process_time() - started < 20


def test_values_are_compared_without_case_and_names_with_it() -> None:
    """As Algolia documents it."""
    assert matches(Facet("Brand", "ACME"), {"Brand": ["acme"]})
    assert not matches(Facet("Brand", "ACME"), {"brand": ["acme"]})


def test_true_is_the_boolean_and_the_text() -> None:
    """As Algolia documents it."""
    assert matches(Facet("a", "true"), {"a": [True]})
    assert matches(Facet("a", "True"), {"a": ["true"]})
    assert not matches(Facet("a", "1"), {"a": [True]})
    assert matches(Compare("a", "=", 1), {"a": [True]})


def test_a_list_matches_if_one_element_does_and_a_missing_attribute_never() -> None:
    """`!=` included; NOT turns it round."""
    assert matches(Compare("a", "!=", 5), {"a": [5, 6]})
    assert not matches(Compare("a", "!=", 5), {})
    assert matches(Not(Compare("a", "=", 5)), {})


def test_numbers_are_the_same_however_they_are_written() -> None:
    """5, 5.0 and "5" are one facet; texts that only look alike are not."""
    assert {facet_text(value) for value in (5, 5.0, "5")} == {"5"}
    assert facet_texts("5.0") == ("5.0", "5")
    assert facet_texts("007") == ("007", "7")
    assert facet_texts("1e3") == ("1e3", "1000")
    assert facet_texts("0.50") == ("0.50", "0.5")
    assert facet_texts("x") == ("x",)
    assert facet_text(1e300) == "1e+300"
    assert facet_text(-0.0) == "0"
    assert facet_text(2**70) == str(2**70)


def test_numbers_that_are_none() -> None:
    """Too large, not ASCII digits, words: no number; nothing raises."""
    assert [number_of(value) for value in (10**400, "1e999", "٣", "nan", "1_000", "", "5 EUR")] == [None] * 7
    assert [number_of(value) for value in ("89.90", " 5", 3, True)] == [89.9, None, 3.0, 1.0]


def test_joining_nothing_one_and_more() -> None:
    """`all_of` and `any_of` make no node that is not needed."""
    a, b = Facet("a", "1"), Facet("b", "2")
    assert all_of([None, None]) is None
    assert all_of([None, a]) is a
    assert all_of([a, None, b]) == And((a, b))
    assert any_of([]) is None
    assert any_of([a]) is a
    assert any_of([a, b]) == Or((a, b))
    assert attributes_of(Not(And((a, Range("c", 0, 1))))) == {"a", "c"}


@pytest.mark.parametrize(
    ("sign", "found"),
    [("=", "2"), ("!=", "13"), ("<", "1"), ("<=", "12"), (">", "3"), (">=", "23"), (":2 TO 3", "23")],
)
def test_comparisons_by_example(sign: str, found: str) -> None:
    """Each operator, over numbers and texts that are one."""
    tree = parse_filter(f"a{sign}" if "TO" in sign else f"a {sign} 2")

    assert "".join(number for number in "123" if matches(tree, {"a": [number]})) == found
    assert "".join(str(number) for number in (1, 2, 3) if matches(tree, {"a": [number]})) == found


# Arrays


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("category:Book", "category:Book"),
        (["category:Book", "author:John Doe"], 'category:Book AND author:"John Doe"'),
        ([["a:b", "a:c"], "d:e"], "(a:b OR a:c) AND d:e"),
        ("genre:-comedy", "NOT genre:comedy"),
        (["count:\\-12"], 'count:"-12"'),
        (["a:-"], 'a:"-"'),
        ('"my attr":"b c"', '"my attr":"b c"'),
        ('"a:b c"', 'a:"b c"'),
        (["lvl:Men > Shoes: new"], 'lvl:"Men > Shoes: new"'),
        ([], None),
        ("  ", None),
        ([[], []], None),
    ],
)
def test_facet_filters_by_example(value: Any, text: str | None) -> None:
    """Lists are AND, lists in them OR; a value needs no quotes; a minus negates."""
    tree = facet_filters(value)

    assert (format_filter(tree) if tree else None) == text


def test_numeric_filters_by_example() -> None:
    """Comparisons and ranges, nested like facet filters."""
    tree = numeric_filters(["price > 10", ["size:1 TO 5", "size = -3"]])

    assert tree == parse_filter("price > 10 AND (size:1 TO 5 OR size = -3)")


def test_tag_filters_are_values_of_tags() -> None:
    """A minus negates."""
    assert tag_filters(["a", ["-b", "c"]]) == parse_filter("a AND (NOT b OR c)")


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [
        (facet_filters, 5, "facetFilters: expected attribute:value or a list of such, got a number"),
        (facet_filters, None, "got null"),
        (facet_filters, ["a:b", {}], "facetFilters[1]: expected attribute:value, got an object"),
        (facet_filters, [["a:b", ["c:d"]]], "facetFilters[0][1]: expected attribute:value, got a list"),
        (facet_filters, ["a"], "facetFilters[0]: expected attribute:value, got 'a'"),
        (facet_filters, [["a:b", ":c"]], "facetFilters[0][1]"),
        (facet_filters, ["a:b"] * 1001, "facetFilters[1000]: expected at most 1,000 filters"),
        (numeric_filters, ["a:b"], "numericFilters[0]: expected attribute > number"),
        (numeric_filters, ["a >"], "numericFilters[0] at position 4"),
        (optional_filters, ["a:b<score=x>"], "<score=N>"),
        (optional_filters, ["a:b<score=99999>"], "<score=N>"),
        (optional_filters, [[f"a:{n}<score={n}>" for n in range(30)]], "at most 20 scores"),
    ],
)
def test_errors_in_arrays_name_the_element(read: Any, value: Any, words: str) -> None:
    """Each says which element, what was expected and what came."""
    with pytest.raises(BadRequest) as caught:
        read(value)

    assert words in str(caught.value)


def test_optional_filters_are_factors() -> None:
    """Score N multiplies by 1 + N/10, negated it divides; the default is 1; numbers work too."""
    factors = optional_filters(["on_sale:true<score=3>", "low_stock:-true", "price > 10<score=0>", "size:1 TO 5"])

    assert [(format_filter(one.filter), one.factor) for one in factors] == [
        ("on_sale:true", 1.3),
        ("low_stock:true", 1 / 1.1),
        ("price > 10", 1.0),
        ("size:1 TO 5", 1.1),
    ]
    assert factors[0].text == "on_sale:true<score=3>"
    assert optional_filters("a:b")[0].factor == 1.1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), min_size=1, max_size=5), items)
def test_of_an_or_group_the_strongest_counts(group: list[tuple[str, int, bool]], item: dict[str, list[Any]]) -> None:
    """Not the product: Algolia's `sumOrFiltersScores: false`."""
    held = {"x": ["a", "b"]}
    factors = optional_filters([[f"x:{'-' if negated else ''}{name}<score={score}>" for name, score, negated in group]])

    product = math.prod(one.factor for one in factors if matches(one.filter, held))

    boosts = [1 + score / 10 for name, score, negated in group if name in "ab" and not (negated and score)]
    burials = [1 / (1 + score / 10) for name, score, negated in group if name in "ab" and negated and score]
    assert product == pytest.approx(max(boosts) if boosts else min(burials, default=1.0))


def test_the_scores_of_an_or_group_may_be_added() -> None:
    """Algolia's `sumOrFiltersScores: true`; one filter alone has the same factor either way."""
    plain, group = optional_sums(["a:b<score=2>", ["c:d<score=3>", "e:-f", "price > 5"]])

    assert plain == optional_filters(["a:b<score=2>"])[0]
    assert isinstance(group, OptionalSum)
    assert [(format_filter(part.filter), part.score) for part in group.parts] == [
        ("c:d", 3),
        ("e:f", -1),
        ("price > 5", 1),
    ]
    assert group.text == "c:d<score=3> + e:-f + price > 5"
    assert (factor_of(4), factor_of(0), factor_of(-1)) == (1.4, 1, 1 / 1.1)
