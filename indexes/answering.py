"""Answering: parsed requests in, results out.  The same function serves Kafka, HTTP and the console.

1. The seeds of each request become one query vector (`seeds.py`).
2. The rules that apply, the request's own filters and the stock say which items may be hits and what factors they have
   (`conditions.py`).
3. One search over all shards for all requests that want about as many hits (`search.py`).
4. Source items and what is below the threshold are dropped, pins are placed, hits become bytes (`models/answer.py`).

It is pure: no clock, no random numbers, nothing kept between calls.  What is easy to get wrong:

* Source items are dropped after the search, not masked before it, so that all requests can share their masks.
* With factors the best by adjusted similarity may be below the threshold, which is about the visual score alone; then
  more are asked for, until no item above the threshold could still come.
* A rule's hidden items, and what the filters or the stock rule out, are not pinned either.  The threshold does not hold
  for pins: they are the merchandiser's word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from indexes.conditions import Conditions, Equal, Factors, Masks
from indexes.results import AnswerSettings, ResultWriter, Row
from indexes.search import Candidates, search
from indexes.seeds import Seeds, Unused, resolve_seeds, source_values
from indexes.shard import Shard
from models.answer import Result
from models.errors import BadRequest, KindredError
from models.filter_tree import Scalar
from models.ranking import pins_of, place, visual_hundredths
from models.request import Request
from models.rules import Rule, RuleBook
from models.vectors import centre, unit

Vectors = NDArray[np.float32]

TOGETHER_MAX = 128
"""Requests for up to so many candidates share one search, at the count of the one that wants most."""


class _Asked(NamedTuple):
    """One request on its way."""

    number: int
    request: Request
    seeds: Seeds
    rules: tuple[Rule, ...]
    masks: Masks
    factors: Factors
    excluded: frozenset[str]

    @property
    def fetch(self) -> int:
        return self.request.count + len(self.excluded)


def answer_requests(
    entries: Sequence[Request | BadRequest],
    images: Mapping[str, Vectors | KindredError],
    shards: Sequence[Shard],
    rules: RuleBook,
    now_ms: int,
    *,
    mean: Vectors | None,
    settings: AnswerSettings = AnswerSettings(),
) -> list[Result]:
    """The results of `entries`, in their order.

    `images`: by link, for every image that an entry names, its raw unit vector float32[D] or the error that stands in
    its way.  `mean` float32[D]: what the shards centre by.  `now_ms`: Unix ms, to which the shards were advanced.
    """
    return _Answering(shards, rules, now_ms, mean, settings).run(entries, images)


class _Answering:
    def __init__(
        self, shards: Sequence[Shard], rules: RuleBook, now_ms: int, mean: Vectors | None, settings: AnswerSettings
    ) -> None:
        self.shards = shards
        self.rules = rules
        self.now_ms = now_ms
        self.mean = mean
        self.conditions = Conditions(shards)
        self.writer = ResultWriter(shards, settings)
        self.item_ids = [shard.item_ids for shard in shards]

    def run(
        self, entries: Sequence[Request | BadRequest], images: Mapping[str, Vectors | KindredError]
    ) -> list[Result]:
        results: list[Result | None] = [None] * len(entries)
        numbers = [number for number, entry in enumerate(entries) if isinstance(entry, Request)]
        requests = [entry for entry in entries if isinstance(entry, Request)]
        asked: list[_Asked] = []
        for number, request, seeds in zip(
            numbers, requests, resolve_seeds(requests, images, self.shards, self.mean), strict=True
        ):
            if isinstance(seeds, Unused):
                results[number] = self.writer.failed(seeds.message, seeds.status)
                continue
            try:
                asked.append(self._asked(number, request, seeds))
            except BadRequest as error:
                results[number] = self.writer.failed(str(error), error.status)
        for group in _groups(asked):
            for one, hits in zip(group, self._search(group), strict=True):
                results[one.number] = self._result(one, hits)
        for number, entry in enumerate(entries):
            if isinstance(entry, BadRequest):
                results[number] = self.writer.failed(str(entry), entry.status)
        return [result for result in results if result is not None]

    # What may be a hit

    def _asked(self, number: int, request: Request, seeds: Seeds) -> _Asked:
        sources: list[dict[str, Sequence[Scalar]]] = []
        if seeds.positive and (request.same_as or (request.rules_enabled and self.rules.asks_source)):
            sources = [self._source(shard, item_id) for shard, item_id in seeds.positive]
        if request.same_as and not sources:
            raise BadRequest("sameAs: expected a source item to be the same as, got images alone")
        rules = self.rules.applicable(sources, request.contexts, self.now_ms) if request.rules_enabled else ()
        equal = [Equal(name, _values(sources, name)) for name in request.same_as]
        for same in [same for rule in rules for same in rule.same_as]:
            values = _values(sources, same.facet)
            if values:  # an attribute that no source item has says nothing about what is the same
                equal.append(Equal(same.facet, values, same.negative))
        masks = self.conditions.allowed(rules, request.filter, tuple(equal), out_of_stock=request.out_of_stock)
        factors = self.conditions.factors(rules, request.optional)
        excluded = frozenset([item.item_id for item in request.items])
        return _Asked(number, request, seeds, rules, masks, factors, excluded)

    def _source(self, shard: Shard, item_id: str) -> dict[str, Sequence[Scalar]]:
        item = shard.item(item_id)
        assert item is not None, f"item {item_id!r} had vectors a moment ago"
        return source_values(item, orjson.loads(item.record), self.now_ms)

    # The search

    def _search(self, group: Sequence[_Asked]) -> list[list[Row]]:
        """For each request its hits without pins, best first, at most as many as it wants."""
        fetch = max([one.fetch for one in group])
        hits = []
        for one, candidates in zip(group, self._candidates(group, fetch), strict=True):
            mine = self._ranked(one, candidates)
            wanted = fetch
            while len(mine) < one.request.count and self._may_have_more(one, candidates, wanted):
                wanted *= 4
                candidates = self._candidates([one], wanted)[0]
                mine = self._ranked(one, candidates)
            hits.append(mine)
        return hits

    def _candidates(self, group: Sequence[_Asked], fetch: int) -> list[Candidates]:
        queries = np.array([one.seeds.query for one in group])
        fields = [
            shard.field([one.masks[number] for one in group], [one.factors[number] for one in group])
            for number, shard in enumerate(self.shards)
        ]
        return search(fields, queries, fetch)

    def _ranked(self, one: _Asked, candidates: Candidates) -> list[Row]:
        item_ids, excluded = self.item_ids, one.excluded
        rows = [
            row
            for row in zip(
                candidates.fields.tolist(),
                candidates.ordinals.tolist(),
                candidates.image.tolist(),
                candidates.similarity.tolist(),
                strict=True,
            )
            if item_ids[row[0]][row[1]] not in excluded
        ]
        if one.request.threshold:
            least = one.request.threshold * 100
            rows = [row for row in rows if visual_hundredths(row[3]) >= least]
        return rows[: one.request.count]

    def _may_have_more(self, one: _Asked, candidates: Candidates, wanted: int) -> bool:
        """Whether an item above the threshold may come after these candidates, of which `wanted` were asked for."""
        if len(candidates.ordinals) < wanted or not one.request.threshold:
            return False
        factor = _factor(one.factors[candidates.fields[-1]], int(candidates.ordinals[-1]))
        similarity = float(candidates.similarity[-1])
        last = similarity * factor if similarity > 0 else similarity / factor
        least = min([1.0 if factors is None else factors.min().item() for factors in one.factors])
        return last >= (one.request.threshold - 0.005) / 100 * least

    # The result

    def _result(self, one: _Asked, rows: list[Row]) -> Result:
        pinned: set[tuple[int, int]] = set()
        if one.rules and (pins := list(self._pinned(one))):
            pinned = {row[:2] for _, row in pins}
            rows = place([row for row in rows if row[:2] not in pinned], pins, one.request.count)
        return self.writer.result(one.request, one.rules, one.seeds.unused, rows, pinned, one.factors)

    def _pinned(self, one: _Asked) -> Iterator[tuple[int, Row]]:
        """Positions and hits of the pins that may be shown: known, embedded, allowed, not a source item."""
        for pin in pins_of(one.rules):
            if pin.item_id in one.excluded or pin.position >= one.request.count:
                continue
            for number, shard in enumerate(self.shards):
                item = shard.item(pin.item_id)
                mask = one.masks[number]
                if item is None or (mask is not None and not mask[item.ordinal]):
                    continue
                vectors = shard.vectors(pin.item_id)
                if not len(vectors):
                    continue
                centred = unit(vectors) if self.mean is None else centre(vectors, self.mean)
                similarities = np.einsum("rd,d->r", centred, one.seeds.query)
                best = int(similarities.argmax())
                image = [index for index, image in enumerate(item.images) if image.embedded][best]
                yield pin.position, (number, item.ordinal, image, float(similarities[best]))


def _factor(factors: NDArray[np.float32] | None, ordinal: int) -> float:
    return 1.0 if factors is None else factors.item(ordinal)


def _values(sources: Sequence[Mapping[str, Sequence[Scalar]]], name: str) -> tuple[Scalar, ...]:
    """What the source items say for an attribute, all together."""
    return tuple([value for source in sources for value in source.get(name, ())])


def _groups(asked: Sequence[_Asked]) -> list[list[_Asked]]:
    """Requests that are searched for together."""
    together = [one for one in asked if one.fetch <= TOGETHER_MAX]
    return ([together] if together else []) + [[one] for one in asked if one.fetch > TOGETHER_MAX]
