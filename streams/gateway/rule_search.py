"""Searching the rules of this worker as Algolia's `searchRecommendRules` does, and the shape that they are shown in."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from models.attributes import attribute_values
from models.errors import BadRequest
from models.field_values import shown
from models.filter_tree import Filter, Scalar, matches
from models.outside_json import flag_of, object_of, text_of, texts_of
from models.query_parameters import read_filter
from models.rules import Rule
from streams.serve.rule_reader import StoredRule

FIELDS = ("query", "context", "page", "hitsPerPage", "enabled", "filters", "facets", "maxValuesPerFacet")
PAGE_RULES_MAX = 1_000


class RuleSearch:
    """What a search for rules asks."""

    def __init__(self, body: dict[str, Any]) -> None:
        """BadRequest says which field is not understood."""
        fields = object_of(body, "", FIELDS)
        self.query = text_of(fields.get("query", ""), "query").casefold().split()
        self.context = text_of(fields["context"], "context") if "context" in fields else None
        self.enabled = flag_of(fields["enabled"], "enabled") if "enabled" in fields else None
        self.filter: Filter | None = read_filter(fields.get("filters", ""), "filters")
        self.facets = texts_of(fields.get("facets", []), "facets", 100)
        self.values_max = _whole(fields.get("maxValuesPerFacet", 100), "maxValuesPerFacet", 1, PAGE_RULES_MAX)
        self.page = _whole(fields.get("page", 0), "page", 0, 1_000_000)
        self.per_page = _whole(fields.get("hitsPerPage", 20), "hitsPerPage", 1, PAGE_RULES_MAX)

    def may_find(self, stored: StoredRule) -> bool:
        """Whether the rule fits, as far as that can be told without its JSON."""
        rule: Rule = stored.rule
        return (self.enabled in (None, rule.enabled)) and (self.context in (None, "", rule.context))

    def finds(self, rule: dict[str, Any]) -> bool:
        """Whether all words of the query stand in its texts, and its attributes meet the filters."""
        if self.query:
            text = "\n".join(_texts(rule)).casefold()
            if not all(word in text for word in self.query):
                return False
        return self.filter is None or matches(self.filter, attribute_values(rule))

    def answer(self, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
        start = self.page * self.per_page
        answer: dict[str, Any] = {
            "hits": found[start : start + self.per_page],
            "nbHits": len(found),
            "page": self.page,
            "nbPages": -(-len(found) // self.per_page),
        }
        if self.facets:
            answer["facets"] = self._facets(found)
        return answer

    def _facets(self, found: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
        """By attribute how many of the rules have each value."""
        counts: dict[str, Counter[str]] = {}
        for rule in found:
            for name, values in attribute_values(rule).items():
                if name in self.facets or "*" in self.facets:
                    counts.setdefault(name, Counter()).update(set(map(_value_text, values)))
        return {name: dict(counter.most_common(self.values_max)) for name, counter in counts.items()}


def written_rule(stored: StoredRule) -> dict[str, Any]:
    """The rule as it was written, with what Algolia adds."""
    rule: dict[str, Any] = orjson.loads(stored.rule.raw)
    return rule | {"objectID": stored.rule.rule_id, "_metadata": {"lastUpdate": iso_time(stored.updated_ms)}}


def _texts(value: Any) -> Iterator[str]:
    """All texts in a rule, names of fields not counted."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _value_text(value: Scalar) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _whole(value: object, where: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise BadRequest(f"{where}: expected {low} to {high:,}, got {shown(value)}")
    return value


def iso_time(at_ms: int) -> str:
    """Unix ms as text, in UTC."""
    moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
