"""A question: one request with all that is needed to answer it.  What may be a hit, and what moves the hits."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from indexes.conditions import Conditions, Equal, Factors, Masks
from indexes.seeds import Seeds
from indexes.shard import Shard
from models.diversity import pool_size
from models.errors import BadRequest
from models.filter_tree import Scalar
from models.request import Request
from models.rule import Rule, Source
from models.rules import RuleBook

Place = tuple[int, int]
"""Where an item is: shard and ordinal."""

Row = tuple[int, int, int, float]
"""A hit on its way: shard, ordinal, image, similarity."""


class SameAsked(NamedTuple):
    """An `Equal` and who asks for it: a rule's id, or None for the request's own `sameAs`."""

    rule_id: str | None
    equal: Equal


class Terms(NamedTuple):
    """What may be a hit, and what moves it; the same for all requests of a batch that say the same of it."""

    rules: tuple[Rule, ...]
    same: tuple[SameAsked, ...]
    masks: Masks
    factors: Factors


class Question(NamedTuple):
    """One request on its way to its answer."""

    number: int
    request: Request
    seeds: Seeds
    rules: tuple[Rule, ...]
    same: tuple[SameAsked, ...]
    masks: Masks
    factors: Factors
    excluded: frozenset[Place]
    """Never a hit: source items, and what is a hit already."""
    families: Mapping[int, int]
    """With `distinct`: how many hits of a family there are already; the sources' own are full."""
    rows_wanted: int
    """Rows that are wanted, before pins."""
    threshold: float
    """Least visual score, 0..100."""

    @property
    def fetch(self) -> int:
        """Candidates to begin with."""
        return (2 if self.request.distinct else 1) * self.rows_wanted + len(self.excluded)

    def factor(self, row: Row) -> float:
        """What the similarity of a row is multiplied by."""
        factors = self.factors[row[0]]
        return 1.0 if factors is None else factors.item(row[1])

    def adjusted(self, row: Row) -> float:
        """What rows are ordered by, to the last bit as the search has it."""
        factor = self.factor(row)
        return float(np.float32(row[3] * factor if row[3] > 0 else row[3] / factor))


class Questions:
    """Makes questions of requests; `len` says how much is kept of what they asked for."""

    def __init__(self, shards: Sequence[Shard], rules: RuleBook, now_ms: int) -> None:
        self._shards = shards
        self._rules = rules
        self._now_ms = now_ms
        self.conditions = Conditions(shards)
        self._known: dict[Hashable, Terms] = {}
        self._in_contexts: dict[Hashable, tuple[Rule, ...]] = {}

    def later(self, now_ms: int) -> None:
        """It is so late by now (Unix ms): other rules may be in their windows."""
        self._now_ms = now_ms
        self._in_contexts.clear()

    def __len__(self) -> int:
        return len(self.conditions)

    def of(self, number: int, request: Request, seeds: Seeds) -> Question:
        """The question of a request; BadRequest if it asks for what its seeds cannot give."""
        terms = self._terms_of(request, seeds)
        return Question(
            number,
            request,
            seeds,
            *terms,
            frozenset([source.at for source in seeds.sources if source.at is not None]),
            self._own_families(request, seeds) if request.distinct else {},
            pool_size(request.count) if request.diversity else request.count,
            request.threshold,
        )

    def _terms_of(self, request: Request, seeds: Seeds) -> Terms:
        sources = self._sources(request, seeds)
        if request.same_as and not sources and seeds.usable:
            raise BadRequest("sameAs: expected a source item to be the same as, got images alone")
        rules = self._applicable(request, sources) if request.rules_enabled else ()
        if request.same_as:
            return self._terms(request, rules, sources)
        # By identity: most requests have the very same rules.  The terms keep them, so that no others can have it.
        key = (id(rules), request.filter, request.optional, request.out_of_stock)
        known = self._known.get(key)
        if known is None:
            known = self._terms(request, rules, sources)
            if not any(rule.same_as for rule in rules):  # else they are about this source alone
                self._known[key] = known
        return known

    def _sources(self, request: Request, seeds: Seeds) -> list[Source]:
        """What the source items say, as far as anything is asked of them."""
        by_rules = request.rules_enabled and self._rules.asks_source
        if request.same_as or (by_rules and self._rules.asks_flags):
            return [self._shards[shard].source_values(ordinal) for shard, ordinal in seeds.items]
        return [self._shards[shard].record_values(ordinal) for shard, ordinal in seeds.items] if by_rules else []

    def _applicable(self, request: Request, sources: Sequence[Source]) -> tuple[Rule, ...]:
        if self._rules.asks_source:
            return self._rules.applicable(sources, request.contexts, self._now_ms)
        rules = self._in_contexts.get(request.contexts)
        if rules is None:
            rules = self._in_contexts[request.contexts] = self._rules.applicable((), request.contexts, self._now_ms)
        return rules

    def _terms(self, request: Request, rules: tuple[Rule, ...], sources: Sequence[Source]) -> Terms:
        same = [SameAsked(None, Equal(name, _values(sources, name))) for name in request.same_as if sources]
        for rule in rules:
            for asked in rule.same_as:
                if values := _values(sources, asked.facet):  # else it says nothing about what is the same
                    same.append(SameAsked(rule.rule_id, Equal(asked.facet, values, asked.negative)))
        return Terms(
            rules,
            tuple(same),
            self.conditions.allowed(
                rules, request.filter, tuple([one.equal for one in same]), out_of_stock=request.out_of_stock
            ),
            self.conditions.factors(rules, request.optional),
        )

    def fallback(self, question: Question, rows: Sequence[Row]) -> Question:
        """What may fill up: the request's fallback in place of its filters, `sameAs` and threshold."""
        fallback = question.request.fallback
        assert fallback is not None, "asked without fallbackParameters"
        families = dict(question.families)
        if question.request.distinct:
            for row in rows:
                if family := self._shards[row[0]].columns.family.item(row[1]):
                    families[family] = families.get(family, 0) + 1
        same = tuple([one for one in question.same if one.rule_id is not None])
        return question._replace(
            same=same,
            masks=self.conditions.allowed(
                question.rules,
                fallback.filter,
                tuple([one.equal for one in same]),
                out_of_stock=question.request.out_of_stock,
            ),
            factors=self.conditions.factors(question.rules, fallback.optional),
            excluded=question.excluded.union([row[:2] for row in rows]),
            families=families,
            rows_wanted=question.request.count - len(rows),
            threshold=0.0,
        )

    def _own_families(self, request: Request, seeds: Seeds) -> dict[int, int]:
        families = [
            self._shards[source.at[0]].columns.family.item(source.at[1])
            for source in seeds.sources
            if source.at is not None and source.weight > 0
        ]
        return dict.fromkeys([family for family in families if family], request.distinct)


def _values(sources: Sequence[Source], name: str) -> tuple[Scalar, ...]:
    """What the source items say for an attribute, all together."""
    return tuple([value for source in sources for value in source.get(name, ())])
