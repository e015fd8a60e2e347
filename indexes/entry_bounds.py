"""Entry bounds: which watched lists a changed item may enter, found for all lists at once.

A list ends at its last hit.  An item that is not in it can change it only by reaching that hit's adjusted similarity.

1. For every list the least similarity with which an item of the largest factor would reach it is its floor: -inf where
   there is room, inf where nothing is to be found out because the list is to be asked again anyway.
2. One product of the changed items' vectors with all queries says which floors are reached.
3. What reaches one is asked in full: whether it may be a hit there, and what its factor is (`watch_terms.py`).

Products differ in their last bits from what orders the hits, so a list is found a little too often; never too seldom.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.item_changes import STRUCTURE, ItemChange
from indexes.question import Question
from indexes.shard import Shard
from indexes.watch_terms import Terms, Values

SLACK = 1e-5
"""Beside the error of a product: of factors and bounds in float32."""
WORK_MAX = 50_000_000
"""Multiplications of one step: some 3 ms."""


class EntryBounds:
    """Queries and bounds of lists by slot, a small number that the caller gives."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._slack = SLACK + dimension * 2.0**-22
        self._size = 0
        self._queries = np.zeros((0, dimension), np.float32)
        self._cutoff = np.zeros(0, np.float32)
        self._least = np.zeros(0, np.float32)
        self._floor = np.zeros(0, np.float32)
        self._terms_of = np.zeros(0, np.int32)
        self._terms: list[Terms | None] = []
        self._keys: list[Hashable] = []
        self._uses: list[int] = []
        self._numbers: dict[Hashable, int] = {}
        self._free: list[int] = []
        self._changed = False
        self._derived = frozenset[str]()
        self._stock_free = False

    @property
    def together_max(self) -> int:
        """How many changed rows one step may take."""
        return max(1, WORK_MAX // max(1, self._size * self._dimension))

    def put(self, slot: int, question: Question, cutoff: float) -> Terms:
        """The list of this slot has this question now, and ends at `cutoff`, adjusted; -inf: it has room."""
        self._grow(slot)
        number = self._number(question)
        self._release(slot)
        self._terms_of[slot] = number
        terms = self._terms[number]
        assert terms is not None
        least = (question.threshold - 0.005) / 100 if question.threshold else -np.inf
        reach = cutoff / terms.factor_most if cutoff > 0 else cutoff * terms.factor_most
        self._use_dimension(len(question.seeds.query))
        self._queries[slot] = question.seeds.query
        self._cutoff[slot] = cutoff
        self._least[slot] = least
        self._floor[slot] = max(reach, least) - self._slack
        return terms

    def close(self, slot: int) -> None:
        """The list is to be asked again: whatever changes until then is found out by that."""
        if slot < self._size:
            self._floor[slot] = np.inf

    def drop(self, slot: int) -> None:
        """There is no such list any more, or it cannot be made."""
        if slot < self._size:
            self._floor[slot] = np.inf
            self._release(slot)

    def entering(
        self, changes: Sequence[ItemChange], shards: Sequence[Shard], now_ms: int
    ) -> Iterator[tuple[int, ItemChange]]:
        """Slots of lists that an item may have entered, with its change; a slot may come several times.

        At most `together_max` changes at a time.  The caller may close slots while it goes through them.
        """
        if self._changed:
            self._changed = False
            terms_in_use = [one for one in self._terms if one is not None]
            self._derived = frozenset[str]().union(*[one.derived for one in terms_in_use])
            self._stock_free = any(one.out_of_stock for one in terms_in_use)
        asked: list[ItemChange] = []
        vectors: list[NDArray[np.float32]] = []
        for change in changes:
            if change.place is None or not (change.kinds & STRUCTURE or change.kinds & self._derived):
                continue
            shard, ordinal = shards[change.place[0]], change.place[1]
            if not self._stock_free and not shard.columns.in_stock[ordinal]:
                continue
            look = shard.look(ordinal)
            vectors.append(look.vectors)
            asked += [change] * len(look.vectors)
        if vectors:
            self._use_dimension(vectors[0].shape[1])
        if not asked or not (self._floor[: self._size] < np.inf).any():
            return
        scores = np.concatenate(vectors) @ self._queries[: self._size].T
        reached = scores >= self._floor[: self._size]
        values: dict[str, Values] = {}
        factors: dict[tuple[int, str], float] = {}
        for row in np.flatnonzero(reached.any(axis=1)).tolist():
            change = asked[row]
            assert change.place is not None
            slots = np.flatnonzero(reached[row])
            numbers = self._terms_of[slots]
            for number in np.unique(numbers).tolist():
                terms = self._terms[number]
                if terms is None or not (change.kinds & STRUCTURE or change.kinds & terms.derived):
                    continue
                factor = factors.get((number, change.item_id))
                if factor is None:
                    if change.item_id not in values:
                        number_of, ordinal = change.place
                        values[change.item_id] = shards[number_of].source_values(ordinal)
                    factor = terms.factor(change.item_id, values[change.item_id])
                    factors[number, change.item_id] = factor
                if factor:
                    yield from ((slot, change) for slot in self._reached(slots[numbers == number], scores[row], factor))

    def _use_dimension(self, dimension: int) -> None:
        """Vectors have so many numbers now; if that is new, all lists are to be asked again, and nothing is found out.

        That happens when vectors are projected; lists are touched then, as by a new mean.
        """
        if dimension != self._dimension:
            self._dimension = dimension
            self._queries = np.zeros((len(self._queries), dimension), np.float32)
            self._floor[:] = np.inf

    def _reached(self, slots: NDArray[np.intp], scores: NDArray[np.float32], factor: float) -> list[int]:
        """Of these lists those that an item with these similarities and this factor may enter."""
        similarity = scores[slots]
        adjusted = np.where(similarity > 0, similarity * factor, similarity / factor)
        slack = self._slack * max(factor, 1 / factor)
        enough = (adjusted + slack >= self._cutoff[slots]) & (similarity + self._slack >= self._least[slots])
        found: list[int] = slots[enough].tolist()
        return found

    # Terms, each once

    def _number(self, question: Question) -> int:
        key = Terms.key(question)
        number = self._numbers.get(key)
        if number is None:
            terms = Terms(question.rules, question)
            number = self._free.pop() if self._free else len(self._terms)
            if number == len(self._terms):
                self._terms.append(None)
                self._keys.append(None)
                self._uses.append(0)
            self._terms[number], self._keys[number] = terms, key
            self._numbers[key] = number
            self._changed = True
        self._uses[number] += 1
        return number

    def _release(self, slot: int) -> None:
        number = self._terms_of[slot]
        if number < 0:
            return
        self._terms_of[slot] = -1
        self._uses[number] -= 1
        if not self._uses[number]:
            del self._numbers[self._keys[number]]
            self._terms[number] = self._keys[number] = None
            self._free.append(number)
            self._changed = True

    def _grow(self, slot: int) -> None:
        if slot >= len(self._cutoff):
            more = max(1024, len(self._cutoff), slot + 1 - len(self._cutoff))
            self._queries = np.concatenate((self._queries, np.zeros((more, self._dimension), np.float32)))
            for name, vacant in (("_cutoff", 0), ("_least", 0), ("_floor", np.inf)):
                old = getattr(self, name)
                setattr(self, name, np.concatenate((old, np.full(more, vacant, np.float32))))
            self._terms_of = np.concatenate((self._terms_of, np.full(more, -1, np.int32)))
        self._size = max(self._size, slot + 1)
