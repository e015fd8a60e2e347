"""An account: what becomes of the items of a catalog as filters, factors and rules are applied one by one.

1. The items that look most alike are considered, with no filter and no rule: `CONSIDERED_MAX`, and the hits.
2. Each step takes some out or moves some.  After it the rank of every hit among what is left is known, and how many
   items of the catalog it took out.
3. Threshold, families, diversity, fallback and pins follow.

Counts of what filters and rules removed are those of the whole catalog; ranks and examples are those among the
considered.  A hit that is not among the most alike has no rank until the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.conditions import Mask
from indexes.outcome import Outcome
from indexes.question import Place, Question, Row
from indexes.shard import Shard
from indexes.shortlist import Shortlist
from models.ranking import rank_hundredths, visual_hundredths

CONSIDERED_MAX = 1_000
EXAMPLES_MAX = 3


class Step(NamedTuple):
    """One thing that removes items or moves them."""

    named: dict[str, Any]
    """`by`, `rule`, `what`."""
    masks: Sequence[Mask] | None = None
    """Per shard bool[N], what it leaves."""
    factors: Sequence[NDArray[np.float32] | None] | None = None


class Account:
    """What becomes of the considered items, step by step."""

    def __init__(self, shards: Sequence[Shard], shortlist: Shortlist, question: Question, outcome: Outcome) -> None:
        self.shards = shards
        self.shortlist = shortlist
        self.question = question
        self.outcome = outcome
        self.removed: list[dict[str, Any]] = []
        self.steps: list[list[dict[str, Any]]] = [[] for _ in outcome.rows]
        pool = self._pool() if question.seeds.usable else []
        self.considered = len(pool)
        self.complete = len(pool) < CONSIDERED_MAX
        """Whether nothing else is in the catalog."""
        known = {row[:2] for row in pool}
        self.rows = pool + [row for row in outcome.rows if row[:2] not in known]
        at = {row[:2]: number for number, row in enumerate(self.rows)}
        self.hits = [at[row[:2]] for row in outcome.rows] if question.request.walk is None else []
        """Where the hits stand in `rows`; none of a walk, which is a way and no ranking."""
        self.similarity = np.array([row[3] for row in self.rows], np.float64)
        ids = [self.item_id(row[:2]) for row in self.rows]
        self.by_id = np.empty(len(ids), np.intp)
        self.by_id[np.array(sorted(range(len(ids)), key=ids.__getitem__), np.intp)] = np.arange(len(ids))
        self.alive = np.ones(len(self.rows), np.bool_)
        self.factor = np.ones(len(self.rows), np.float64)
        self.left = [shard.shown & shard.columns.present for shard in self.shards]
        for number, ordinal in question.excluded:
            self.left[number][ordinal] = False
        self.ranks = self._ranked()

    def _pool(self) -> list[Row]:
        """The items that look most alike, whatever filters and rules say."""
        question = self.question
        everything: list[Any] = [None] * len(self.shards)
        bare = question._replace(
            request=type(question.request)(),
            masks=everything,
            factors=everything,
            families={},
            rows_wanted=CONSIDERED_MAX,
            threshold=0.0,
        )
        return self.shortlist.rows([bare])[0]

    def item_id(self, place: Place) -> str:
        """The id of an item."""
        return self.shards[place[0]].item_ids[place[1]]

    def take(self, step: Step) -> None:
        """Apply a filter, a rule's hiding, a factor."""
        before_alive, before_factor = self.alive, self.factor
        if step.masks is not None:
            passes = np.array([bool(step.masks[row[0]][row[1]]) for row in self.rows], np.bool_)
            self._remove(step.named, before_alive & ~passes, self._taken_from_catalog(step.masks))
        if step.factors is not None:
            by_shard = step.factors
            factors = [found.item(row[1]) if (found := by_shard[row[0]]) is not None else 1.0 for row in self.rows]
            self.factor = before_factor * np.array(factors, np.float64)
        if (self.alive != before_alive).any() or (self.factor != before_factor).any():
            self._tell(step.named, before_factor)

    def end(self) -> None:
        """Apply what comes after filters and rules: threshold, families, diversity, fallback, pins."""
        question, request = self.question, self.question.request
        if request.walk is not None:
            return
        if question.threshold:
            self._apply_threshold()
        if request.distinct:
            self._apply_distinct()
        if request.diversity:
            hits = zip(self.hits, self.outcome.rows, strict=True)
            model = [number for number, row in hits if row[:2] not in self.outcome.origins]
            self._move({"by": "diversity", "what": f"{request.diversity:g}"}, model)
        self._end_origins()

    def _apply_threshold(self) -> None:
        least = 100 * self.question.threshold
        low = np.array([visual_hundredths(similarity) < least for similarity in self.similarity.tolist()], np.bool_)
        gone = self.alive & low
        # What was not considered is less alike than all that was: below too, if the last of those is.
        below = self.complete or bool(low[self.considered - 1])
        outside = sum([int(left.sum()) for left in self.left]) - int(self.alive.sum()) if below else 0
        named = {"by": "threshold", "what": f"_score >= {self.question.threshold:g}"}
        self._remove(named, gone, int(gone.sum()) + outside, at_least=not below)
        self._tell(named, self.factor)

    def _apply_distinct(self) -> None:
        families = dict(self.question.families)
        gone = np.zeros(len(self.rows), np.bool_)
        alive = np.flatnonzero(self.alive)
        for number in alive[np.argsort(self.ranks[alive])].tolist():
            shard, ordinal = self.rows[number][:2]
            gone[number] = not self.shortlist.has_room(self.question, shard, ordinal, families)
        named = {"by": "distinct", "what": f"{self.question.request.distinct} of a family"}
        self._remove(named, gone, int(gone.sum()), at_least=not self.complete)
        self._tell(named, self.factor)

    def _end_origins(self) -> None:
        """Hits that are no model's, and the places that they took."""
        origins, rows = self.outcome.origins, self.outcome.rows
        pinned = {place for place, origin in origins.items() if origin == "pin"}
        by_rule = {pin.item_id: rule.rule_id for rule in reversed(self.question.rules) for pin in reversed(rule.pins)}
        for place, (number, row) in enumerate(zip(self.hits, rows, strict=True), start=1):
            before = self._rank(number)
            origin = origins.get(row[:2])
            if origin == "pin":
                named = {"by": "pin", "rule": by_rule[self.item_id(row[:2])]}
            elif origin == "fallback":
                named = {"by": "fallback"}
            elif pinned and before is not None and before != place:
                named = {"by": "pins"}
            else:
                continue
            self.steps[place - 1].append({**named, "rank": [before, place]})

    def _taken_from_catalog(self, masks: Sequence[Mask]) -> int:
        count = 0
        for number, left in enumerate(self.left):
            stays = left & masks[number]
            count += int(left.sum()) - int(stays.sum())
            self.left[number] = stays
        return count

    def _remove(self, named: dict[str, Any], gone: Mask, count: int, *, at_least: bool = False) -> None:
        """Notes what a step removes, and removes it from the considered."""
        if count:
            examples = sorted(np.flatnonzero(gone).tolist(), key=lambda at: (-self.similarity[at], self.by_id[at]))
            told = [
                {
                    "objectID": self.item_id(self.rows[at][:2]),
                    "_score": visual_hundredths(self.similarity[at]) / 100,
                }
                for at in examples[:EXAMPLES_MAX]
            ]
            self.removed.append({**named, "count": count, **({"atLeast": True} if at_least else {}), "examples": told})
        self.alive = self.alive & ~gone

    def _ranked(self) -> NDArray[np.intp]:
        """Ranks from 1 among what is left; 0 for what is not."""
        adjusted = np.where(self.similarity > 0, self.similarity * self.factor, self.similarity / self.factor)
        order = np.lexsort((self.by_id, -adjusted))
        order = order[self.alive[order]]
        ranks = np.zeros(len(self.rows), np.intp)
        ranks[order] = np.arange(1, len(order) + 1)
        return ranks

    def _rank(self, number: int) -> int | None:
        """None for what is removed, and for a hit that was not among the most alike."""
        return int(self.ranks[number]) or None if number < self.considered else None

    def _tell(self, named: dict[str, Any], factor_before: NDArray[np.float64]) -> None:
        """Write down what a step did to each hit, if anything."""
        before = [self._rank(number) for number in self.hits]
        self.ranks = self._ranked()
        for at, number in enumerate(self.hits):
            after = self._rank(number)
            own = (self.factor[number] / factor_before[number]).item()
            if not self.alive[number] or (before[at] == after and own == 1):
                continue
            step = {**named, "rank": [before[at], after]}
            if own != 1:
                scores = [self._score(number, factor) for factor in (factor_before[number], self.factor[number])]
                step |= {"factor": round(own, 4), "score": scores}
            self.steps[at].append(step)

    def _move(self, named: dict[str, Any], numbers: list[int]) -> None:
        """Ranks hits in this order, and tells those that moved."""
        places = {number: at for at, number in enumerate(self.hits)}
        for after, number in enumerate(numbers, start=1):
            before = self._rank(number)
            if before != after:
                self.steps[places[number]].append({**named, "rank": [before, after]})
            self.ranks[number] = after

    def _score(self, number: int, factor: float) -> float:
        return rank_hundredths(float(self.similarity[number]), float(factor)) / 100
