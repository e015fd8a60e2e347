"""A request's `queryParameters`: Algolia's search parameters, as far as they mean something for what looks alike."""

from __future__ import annotations

from typing import Any

from models.algolia_parameters import WITHOUT_EFFECT
from models.errors import BadRequest
from models.filter_arrays import facet_filters, numeric_filters, optional_filters, optional_sums, tag_filters
from models.filter_tree import Filter, all_of
from models.filters import parse_filter
from models.outside_json import flag_of, object_of, text_of, texts_of, whole_from

CONTEXTS_MAX = 100
ATTRIBUTES_MAX = 250
DISTINCT_MAX = 1_000

WITH_EFFECT = (
    "filters",
    "facetFilters",
    "numericFilters",
    "tagFilters",
    "optionalFilters",
    "sumOrFiltersScores",
    "attributesToRetrieve",
    "ruleContexts",
    "enableRules",
    "distinct",
    "highlightPreTag",
    "clickAnalytics",
)
"""What these parameters may say that means something here."""
_KNOWN = WITHOUT_EFFECT.union(WITH_EFFECT)
_CONDITIONS = {
    "facetFilters": facet_filters,
    "numericFilters": numeric_filters,
    "tagFilters": tag_filters,
}


def read_query_parameters(value: object, where: str) -> dict[str, Any]:
    """The parameters as arguments of `models.request.Request`; BadRequest says where and what was expected."""
    given = object_of(value, where, _KNOWN)
    arguments: dict[str, Any] = {}
    conditions = []
    for name, parameter in given.items():
        place = f"{where}.{name}"
        if name == "filters":
            conditions.append(read_filter(parameter, place))
        elif read := _CONDITIONS.get(name):
            conditions.append(read(parameter, place))
        elif name == "optionalFilters":
            sums = flag_of(given.get("sumOrFiltersScores", False), f"{where}.sumOrFiltersScores")
            arguments["optional"] = tuple((optional_sums if sums else optional_filters)(parameter, place))
        elif name == "ruleContexts":
            arguments["contexts"] = frozenset(texts_of(parameter, place, CONTEXTS_MAX))
        elif name == "enableRules":
            arguments["rules_enabled"] = flag_of(parameter, place)
        elif name == "clickAnalytics":
            arguments["click_analytics"] = flag_of(parameter, place)
        elif name == "highlightPreTag":
            arguments["highlight"] = True
        elif name == "attributesToRetrieve":
            names = texts_of(parameter, place, ATTRIBUTES_MAX)
            arguments["attributes"] = None if names == ("*",) else names
        elif name == "distinct":
            wanted = int(parameter) if isinstance(parameter, bool) else parameter
            arguments["distinct"] = whole_from(wanted, place, 0, DISTINCT_MAX)
    if conditions:
        arguments["filter"] = all_of(conditions)
    return arguments


def read_filter(value: object, where: str) -> Filter | None:
    """The tree of a filter's text; None for a blank one, as Algolia has it.  BadRequest names place and position."""
    text = text_of(value, where)
    if not text.strip():
        return None
    try:
        return parse_filter(text)
    except BadRequest as error:
        raise BadRequest(f"{where} {error}") from error
