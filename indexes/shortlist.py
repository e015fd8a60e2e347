"""The shortlist: from the candidates of a search to the rows that may be hits, best first.

Dropped are source items, what is below the threshold, and what a family has too many of.  Easy to get wrong:

* Source items are dropped after the search, not masked before it, so that all requests can share their masks.
* With factors the best by adjusted similarity may be below the threshold, which is about the visual score alone; and a
  family may have any number of members.  Then more is asked for, without what was seen, until nothing can come.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import numpy as np

from indexes.conditions import Factors, Masks
from indexes.field import Candidates, Field, Found, Groups
from indexes.question import Place, Question, Row
from indexes.search import search_together
from indexes.seeds import Seeds
from indexes.shard import Shard
from models.ranking import visual_hundredths
from models.vectors import Vectors

FETCH_MAX = 4_096
"""Candidates of one more search, if they were fewer before."""


class Shortlist:
    """Finds rows for the questions of a batch."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards

    def rows(self, questions: Sequence[Question]) -> list[list[Row]]:
        """For each question its rows, best first, at most as many as it wants.  They share one search."""
        fetch = max([one.fetch for one in questions])
        rows = self._above_threshold(questions, fetch)
        others = [one for one in questions if one.number not in rows]
        for one, candidates in zip(others, self.candidates(others, fetch), strict=True):
            families = dict(one.families)
            kept = self._kept(one, candidates, families, one.rows_wanted)
            if len(kept) < one.rows_wanted and self._may_have_more(one, candidates, fetch):
                kept = self._more(one, candidates, fetch, kept, families)
            rows[one.number] = kept
        return [rows[one.number] for one in questions]

    def _above_threshold(self, questions: Sequence[Question], fetch: int) -> dict[int, list[Row]]:
        """The rows of those questions of which few items are above the threshold, by the question's number.

        By the look alone these come first, whatever their factors; so one search shows whether there are more.
        """
        asked = [one for one in questions if one.threshold and any(factors is not None for factors in one.factors)]
        without: Factors = [None] * len(self._shards)
        found: dict[int, list[Row]] = {}
        for one, candidates in zip(
            asked, self.candidates([one._replace(factors=without) for one in asked], fetch), strict=True
        ):
            if len(candidates.ordinals) == fetch and not _below(candidates.similarity.item(-1), one.threshold):
                continue
            rows = self._in_order(one, self.allowed(one, candidates))
            found[one.number] = self._with_room(one, rows, dict(one.families), one.rows_wanted)
        return found

    def candidates(self, questions: Sequence[Question], fetch: int) -> list[Candidates]:
        """The best items for each question, sources and all."""
        return self.together(questions, fetch).apart() if questions else []

    def together(self, questions: Sequence[Question], fetch: int, kept: Groups | None = None) -> Found:
        """The same, those of all questions one after the other; at least one question.

        `kept`: as `search_together` has it.
        """
        fields = self.fields(questions)
        queries, lengths = units(questions)
        found = search_together(fields, queries, fetch, kept)
        if lengths is None:
            return found
        each = lengths if len(lengths) == 1 else np.repeat(lengths, np.diff(found.bounds))
        similarity = found.candidates.similarity * each
        return found._replace(candidates=found.candidates._replace(similarity=similarity))

    def fields(self, questions: Sequence[Question]) -> list[Field]:
        """The shards with what these ask of them."""
        return [
            shard.field([one.masks[number] for one in questions], [one.factors[number] for one in questions])
            for number, shard in enumerate(self._shards)
        ]

    def unlooked(self, question: Question) -> list[Row]:
        """Rows without anything to look like: by factor, then item id, all with a similarity of 0."""
        found: list[tuple[float, str, Place]] = []
        for number, shard in enumerate(self._shards):
            mask, factors = question.masks[number], question.factors[number]
            ordinals = np.flatnonzero(shard.shown if mask is None else mask & shard.shown).tolist()
            weights = [1.0] * len(ordinals) if factors is None else factors[ordinals].tolist()
            item_ids = shard.item_ids
            found += [
                (-weight, item_ids[ordinal], (number, ordinal))
                for ordinal, weight in zip(ordinals, weights, strict=True)
            ]
        most = len(found) if question.request.distinct else question.fetch
        families = dict(question.families)
        rows: list[Row] = []
        for _, _, (number, ordinal) in heapq.nsmallest(most, found):
            if len(rows) == question.rows_wanted:
                break
            if (number, ordinal) not in question.excluded and self.has_room(question, number, ordinal, families):
                rows.append((number, ordinal, self._shards[number].look(ordinal).images[0], 0.0))
        return rows

    def has_room(self, question: Question, number: int, ordinal: int, families: dict[int, int]) -> bool:
        """Whether one more of the item's family may be a hit; if so it is counted."""
        most = question.request.distinct
        if most and (family := self._shards[number].columns.family.item(ordinal)):
            if families.get(family, 0) >= most:
                return False
            families[family] = families.get(family, 0) + 1
        return True

    def _kept(self, one: Question, candidates: Candidates, families: dict[int, int], count: int) -> list[Row]:
        return self._with_room(one, self.allowed(one, candidates), families, count)

    def allowed(self, one: Question, candidates: Candidates) -> list[Row]:
        """Candidates as rows, without what is excluded or below the threshold."""
        excluded, least = one.excluded, one.threshold
        rows = list(
            zip(
                candidates.fields.tolist(),
                candidates.ordinals.tolist(),
                candidates.image.tolist(),
                candidates.similarity.tolist(),
                strict=True,
            )
        )
        if excluded:
            rows = [row for row in rows if row[:2] not in excluded]
        return [row for row in rows if not _below(row[3], least)] if least else rows

    def _with_room(self, one: Question, rows: list[Row], families: dict[int, int], count: int) -> list[Row]:
        """The first `count`, and of a family as many as may be hits."""
        if not one.request.distinct:
            return rows[:count]
        kept: list[Row] = []
        for row in rows:
            if len(kept) == count:
                break
            if self.has_room(one, row[0], row[1], families):
                kept.append(row)
        return kept

    def _in_order(self, one: Question, rows: list[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: (-one.adjusted(row), self._shards[row[0]].item_ids[row[1]]))

    def _may_have_more(self, one: Question, candidates: Candidates, wanted: int) -> bool:
        """Whether a row may come after these candidates, of which `wanted` were asked for."""
        if len(candidates.ordinals) < wanted:
            return False
        if not one.threshold:
            return bool(one.request.distinct)
        last = one.adjusted(
            (int(candidates.fields[-1]), int(candidates.ordinals[-1]), 0, float(candidates.similarity[-1]))
        )
        least = min([1.0 if factors is None else factors.min().item() for factors in one.factors])
        return last >= (one.threshold - 0.005) / 100 * least

    def _more(
        self, one: Question, candidates: Candidates, wanted: int, rows: list[Row], families: dict[int, int]
    ) -> list[Row]:
        """Searches on without what was seen until there are as many rows as wanted, or no more."""
        masks: Masks = one.masks
        while len(rows) < one.rows_wanted and self._may_have_more(one, candidates, wanted):
            masks = self._without(masks, candidates, one.request.distinct, families)
            wanted = max(wanted, min(4 * wanted, FETCH_MAX))
            candidates = self.candidates([one._replace(masks=masks)], wanted)[0]
            rows = rows + self._kept(one, candidates, families, one.rows_wanted - len(rows))
        return self._in_order(one, rows)  # a search that asks trees may find later what it should have found before

    def _without(self, masks: Masks, seen: Candidates, distinct: int, families: dict[int, int]) -> Masks:
        """The masks without the seen candidates and without families that have no room."""
        full = np.array([family for family, count in families.items() if count >= distinct], np.int64)
        narrowed: Masks = []
        for number, columns in enumerate([shard.columns for shard in self._shards]):
            mask = masks[number]
            left = columns.present.copy() if mask is None else mask.copy()
            if distinct and len(full):
                left &= ~np.isin(columns.family, full)
            left[seen.ordinals[seen.fields == number]] = False
            narrowed.append(left)
        return narrowed


def units(questions: Sequence[Question]) -> tuple[Vectors, Vectors | None]:
    """Queries float32[B, D] of unit length, and the float32[B] by which products with them are to be multiplied.

    None: by nothing.  Where colour counts a query has a length of its own, and a search wants units.
    """
    if len(questions) == 1:
        seeds = questions[0].seeds
        if seeds.weights is None or not seeds.colour_weight:
            return seeds.query[None], None
        lengths = np.array([_length(seeds)], np.float32)
        return (seeds.query / lengths)[None], lengths
    queries: Vectors = np.array([one.seeds.query for one in questions])
    if not any(one.seeds.colour_weight and one.seeds.weights is not None for one in questions):
        return queries, None
    # Exactly 1 where colour does not count: such a request has the same answer in any company.
    lengths = np.array([_length(one.seeds) if one.seeds.colour_weight else 1.0 for one in questions], np.float32)
    queries /= lengths[:, None]
    return queries, lengths


def _length(seeds: Seeds) -> float:
    """Of the query; 1 if it is zero."""
    return math.sqrt(seeds.query.dot(seeds.query)) or 1.0


def _below(similarity: float, threshold: float) -> bool:
    """Whether the visual score is below the threshold, both as answers show them."""
    return visual_hundredths(similarity) < 100 * threshold
