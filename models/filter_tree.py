"""A filter as a tree, and what it means: the scalars it compares, whether it matches, its text.

Reading text is `models/filters.py`; the same over all rows of a shard is `indexes/columns.py` (its oracle: `matches`).
What is easy to get wrong:

* Attribute names are case-sensitive, values are not (as Algolia documents it).
* A facet's value may be meant as a number: `size:5.0` finds the number 5 and the text "5.0", but `sku:7` does not find
  the text "007"; see `facet_texts`.
* A list matches if one element does.  That holds for `!=` too: `size != 5` finds [5, 6].
* Comparing a missing attribute is false, `!=` included; `NOT size = 5` is true for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

Scalar = str | float | int | bool
Operator = Literal["=", "!=", "<", "<=", ">", ">="]
OPERATORS: tuple[Operator, ...] = ("=", "!=", "<", "<=", ">", ">=")


class Facet(msgspec.Struct, frozen=True, gc=False, tag=True):
    """`attribute:value`.  `value` is kept as written; it is compared by `facet_texts`."""

    attribute: str
    value: str


class Compare(msgspec.Struct, frozen=True, gc=False, tag=True):
    """`attribute operator number`; the number is finite."""

    attribute: str
    operator: Operator
    number: float


class Range(msgspec.Struct, frozen=True, gc=False, tag=True):
    """`attribute:low TO high`, both ends included."""

    attribute: str
    low: float
    high: float


class And(msgspec.Struct, frozen=True, gc=False, tag=True):
    """All of two or more parts."""

    parts: tuple[Filter, ...]


class Or(msgspec.Struct, frozen=True, gc=False, tag=True):
    """At least one of two or more parts."""

    parts: tuple[Filter, ...]


class Not(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Whatever its part does not match, items that lack the attribute included."""

    part: Filter


Filter = Facet | Compare | Range | And | Or | Not

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?")
_INTEGER = re.compile(r"[+-]?\d{1,40}")
_PLAIN = re.compile(r"[^\s()\"':<>=!\\-][^\s()\"':<>=!\\]*")
_KEYWORDS = frozenset(("AND", "OR", "NOT", "TO"))


def all_of(parts: Iterable[Filter | None]) -> Filter | None:
    """The parts joined by AND; None stands for no condition."""
    kept = tuple(part for part in parts if part is not None)
    return And(kept) if len(kept) > 1 else kept[0] if kept else None


def any_of(parts: Iterable[Filter]) -> Filter | None:
    """The parts joined by OR; None if there are none."""
    kept = tuple(parts)
    return Or(kept) if len(kept) > 1 else kept[0] if kept else None


def facet_text(value: Scalar) -> str:
    """How a scalar of a record is compared in `attr:value`: true as "true", 5 and 5.0 as "5", texts without case."""
    if isinstance(value, str):
        return value.casefold()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return str(int(value)) if value.is_integer() and abs(value) < 2**63 else repr(value)


def facet_texts(text: str) -> tuple[str, ...]:
    """The `facet_text`s that the value of a `Facet` finds, one or two: itself, and the number it may mean."""
    as_text = text.casefold()
    if _INTEGER.fullmatch(text):
        as_number = str(int(text))
    elif (number := number_of(text)) is not None:
        as_number = facet_text(number)
    else:
        return (as_text,)
    return (as_text,) if as_number == as_text else (as_text, as_number)


def number_of(value: Scalar) -> float | None:
    """The finite number that `=`, `<`, `TO` compare, or None: numbers, texts that are one ("89.90"), true as 1."""
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value) or not value.isascii():
            return None
        number = float(value)
    else:
        try:
            number = float(value)
        except OverflowError:
            return None
    return number if math.isfinite(number) else None


def matches(tree: Filter, values: Mapping[str, Sequence[Scalar]]) -> bool:
    """Whether an item whose scalars by dotted path are `values` is let through."""
    if isinstance(tree, Facet):
        wanted = facet_texts(tree.value)
        return any(facet_text(value) in wanted for value in values.get(tree.attribute, ()))
    if isinstance(tree, And | Or):
        decisive = isinstance(tree, Or)
        for part in tree.parts:
            if matches(part, values) is decisive:
                return decisive
        return not decisive
    if isinstance(tree, Not):
        return not matches(tree.part, values)
    numbers = [number for value in values.get(tree.attribute, ()) if (number := number_of(value)) is not None]
    if isinstance(tree, Range):
        return any(tree.low <= number <= tree.high for number in numbers)
    return any(compare(number, tree.operator, tree.number) for number in numbers)


def compare(left: float, operator: Operator, right: float) -> bool:
    """`left operator right`."""
    if operator == "=":
        return left == right
    if operator == "!=":
        return left != right
    if operator == "<":
        return left < right
    if operator == "<=":
        return left <= right
    if operator == ">":
        return left > right
    return left >= right


def attributes_of(tree: Filter) -> frozenset[str]:
    """The attributes that the filter asks for."""
    if isinstance(tree, And | Or):
        return frozenset().union(*(attributes_of(part) for part in tree.parts))
    if isinstance(tree, Not):
        return attributes_of(tree.part)
    return frozenset((tree.attribute,))


def format_filter(tree: Filter) -> str:
    """The filter's text; `parse_filter` makes the same tree of it."""
    if isinstance(tree, Facet):
        return f"{quoted(tree.attribute)}:{quoted(tree.value)}"
    if isinstance(tree, Compare):
        return f"{quoted(tree.attribute)} {tree.operator} {_number_text(tree.number)}"
    if isinstance(tree, Range):
        return f"{quoted(tree.attribute)}:{_number_text(tree.low)} TO {_number_text(tree.high)}"
    if isinstance(tree, Not):
        return f"NOT {_grouped(tree.part)}"
    joint = " AND " if isinstance(tree, And) else " OR "
    return joint.join(map(_grouped, tree.parts))


def quoted(text: str) -> str:
    """The text as an attribute or value of a filter, in quotes where it needs them."""
    if _PLAIN.fullmatch(text) and text not in _KEYWORDS:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _grouped(tree: Filter) -> str:
    return f"({format_filter(tree)})" if isinstance(tree, And | Or) else format_filter(tree)


def _number_text(number: float) -> str:
    return str(int(number)) if abs(number) < 2**53 and number == int(number) else repr(number)
