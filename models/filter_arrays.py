r"""Filters given as JSON arrays: Algolia's `facetFilters`, `numericFilters`, `tagFilters`, `optionalFilters`.

A text is one filter, the elements of a list are joined by AND, those of a list inside it by OR.  Easy to get wrong:

* A facet's value goes to the end of the text: `brand:Jean Paul` needs no quotes, though it may have them.
* `attr:-value` negates; a value that begins with a minus is written `attr:\-5`.
* Optional filters never exclude: each is a factor on the ranking score.  In an OR group only the strongest that matches
  counts, boosts before burials, unless Algolia's `sumOrFiltersScores` adds them up.

Errors are BadRequest and name the element, as in `facetFilters[1][0]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from models.errors import BadRequest
from models.field_values import shown
from models.filter_tree import Compare, Facet, Filter, Not, Range, all_of, any_of
from models.filters import CLAUSES_MAX, parse_filter
from models.outside_json import kind_of

T = TypeVar("T")

_SCORE_END = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,6})?>")
_SCORE_MAX = 65_535
_COMPARISON = re.compile(r"""(?:[^:<>=!"']+|(?:"[^"]*"|'[^']*')\s*)[<>=!]""")
_RANGE = re.compile(r"[^:]+:\s*[+-]?[\d.]\S*\s+TO\s+[+-]?[\d.]\S*")
GROUP_SCORES_MAX = 20
"""Different scores within one OR group: each adds a condition to those below it."""


class OptionalFilter(msgspec.Struct, frozen=True, gc=False):
    """What it finds is multiplied by `factor` (above 1 a boost, below 1 a burial); `text` is how it was written."""

    filter: Filter
    factor: float
    text: str


class Scored(msgspec.Struct, frozen=True, gc=False):
    """One optional filter with its score, below 0 where it is negated."""

    filter: Filter
    score: float
    text: str


class OptionalSum(msgspec.Struct, frozen=True, gc=False):
    """Optional filters joined by OR whose scores add up: an item's factor is `factor_of` their sum."""

    parts: tuple[Scored, ...]
    text: str


Optional = OptionalFilter | OptionalSum


def factor_of(score: float) -> float:
    """What the ranking score is multiplied by: 1 + score/10, and below 0 the same as a divisor."""
    return 1 + score / 10 if score >= 0 else 1 / (1 - score / 10)


def facet_filters(value: object, where: str = "facetFilters") -> Filter | None:
    """The condition of Algolia's `facetFilters`; None if there is none."""
    return _condition(value, where, "attribute:value", _facet)


def numeric_filters(value: object, where: str = "numericFilters") -> Filter | None:
    """The condition of Algolia's `numericFilters`; None if there is none."""
    return _condition(value, where, "attribute > number", _numeric)


def tag_filters(value: object, where: str = "tagFilters") -> Filter | None:
    """The condition of Algolia's `tagFilters`, values of the attribute `_tags`; None if there is none."""
    return _condition(value, where, "a tag", lambda text, _: _negated("_tags", text))


def optional_filters(value: object, where: str = "optionalFilters") -> list[OptionalFilter]:
    """The factors of Algolia's `optionalFilters`, numeric ones too.

    A filter with score N (default 1) multiplies by 1 + N/10, negated it divides.
    """
    return [factor for group in _scored_groups(value, where) for factor in _exclusive(group, where)]


def optional_sums(value: object, where: str = "optionalFilters") -> list[Optional]:
    """The same under Algolia's `sumOrFiltersScores`: the scores of filters joined by OR are added."""
    factors: list[Optional] = []
    for group in _scored_groups(value, where):
        if len(group) > 1:
            factors.append(OptionalSum(tuple(group), " + ".join(scored.text for scored in group)))
        else:
            factors += _exclusive(group, where)
    return factors


def _scored_groups(value: object, where: str) -> list[list[Scored]]:
    return _groups(value, where, "attribute:value<score=N>", _scored)


def _exclusive(group: list[Scored], where: str) -> list[OptionalFilter]:
    """One OR group as factors of which at most one applies to an item: the strongest, boosts before burials."""
    scores = sorted({scored.score for scored in group}, key=lambda score: (score < 0, -abs(score)))
    if len(scores) > GROUP_SCORES_MAX:
        raise BadRequest(f"{where}: expected at most {GROUP_SCORES_MAX} scores joined by OR, got {len(scores)}")
    factors: list[OptionalFilter] = []
    stronger: list[Filter] = []
    for score in scores:
        alike = [scored for scored in group if scored.score == score]
        found = any_of(scored.filter for scored in alike)
        assert found is not None
        condition = all_of([found, *(Not(filter) for filter in stronger)])
        assert condition is not None
        factors.append(OptionalFilter(condition, factor_of(score), " OR ".join(scored.text for scored in alike)))
        stronger.append(found)
    return factors


def _condition(value: object, where: str, form: str, read: Callable[[str, str], Filter]) -> Filter | None:
    return all_of([any_of(group) for group in _groups(value, where, form, read)])


def _groups(value: object, where: str, form: str, read: Callable[[str, str], T]) -> list[list[T]]:
    """The value as lists of alternatives, each element read; empty ones are left out."""
    if isinstance(value, str):
        value = [value] if value.strip() else []
    if not isinstance(value, list):
        raise BadRequest(f"{where}: expected {form} or a list of such, got {kind_of(value)}")
    groups = []
    count = 0
    for number, element in enumerate(value):
        texts = element if isinstance(element, list) else [element]
        count += len(texts)
        if count > CLAUSES_MAX:
            raise BadRequest(f"{where}[{number}]: expected at most {CLAUSES_MAX:,} filters")
        group = []
        for inner, text in enumerate(texts):
            place = f"{where}[{number}][{inner}]" if isinstance(element, list) else f"{where}[{number}]"
            if not isinstance(text, str):
                raise BadRequest(f"{place}: expected {form}, got {kind_of(text)}")
            group.append(read(text, place))
        if group:
            groups.append(group)
    return groups


def _facet(text: str, where: str) -> Filter:
    """`attribute:value`, `attribute:-value`; either side, or the whole, may be in double quotes."""
    text = _unquoted(text.strip())
    if text.startswith('"') and '":' in text:
        end = text.index('":') + 1
        name, value = _unquoted(text[:end]), text[end + 1 :]
    else:
        name, colon, value = text.partition(":")
        if not colon:
            raise BadRequest(f"{where}: expected attribute:value, got {shown(text)}")
    name, value = name.strip(), value.strip()
    if not name or not value:
        raise BadRequest(f"{where}: expected attribute:value, got {shown(text)}")
    return _negated(name, value)


def _negated(name: str, value: str) -> Filter:
    if value.startswith("-") and len(value) > 1:
        return Not(Facet(name, _unquoted(value[1:])))
    return Facet(name, _unquoted(value[1:] if value.startswith("\\-") else value))


def _numeric(text: str, where: str) -> Filter:
    try:
        tree = parse_filter(text)
    except BadRequest as error:
        raise BadRequest(f"{where} {error}") from error
    if not isinstance(tree, Compare | Range):
        raise BadRequest(f"{where}: expected attribute > number or attribute:low TO high, got {shown(text)}")
    return tree


def _scored(text: str, where: str) -> Scored:
    score = 1.0
    filter_text, mark, end = text.strip().rpartition("<score=")
    if not mark:
        filter_text = end
    elif not _SCORE_END.fullmatch(end) or (score := float(end[:-1])) > _SCORE_MAX:
        raise BadRequest(f"{where}: expected <score=N> with N from 0 to {_SCORE_MAX:,}, got {shown(mark + end)}")
    filter_text = filter_text.strip()
    if _COMPARISON.match(filter_text) or _RANGE.fullmatch(filter_text):
        return Scored(_numeric(filter_text, where), score, text)
    tree = _facet(filter_text, where)
    return Scored(tree.part, -score, text) if isinstance(tree, Not) else Scored(tree, score, text)


def _unquoted(text: str) -> str:
    """Without the quotes around it, if the same pair is around all of it."""
    if len(text) >= 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1].replace('\\"', ""):
        return text[1:-1].replace('\\"', '"')
    return text
