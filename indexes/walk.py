"""A walk: hop from item to item as far as the look leads.

1. From where one stands the items that look most alike and may be hits are looked up, without those already visited.
2. Those that look less like the source than the leash allows are left out.
3. One of the nearest `CHOICES` is taken, by the request's seed: the same seed takes the same way.

The walk ends after its steps, or where nothing within the leash is near.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from indexes.looks import Looks
from indexes.question import Place, Question, Row
from indexes.shortlist import Shortlist
from models.ranking import visual_hundredths
from models.vectors import Vectors

CHOICES = 5
"""So few that each hop is a small one, so many that ways part."""
FETCH_MAX = 1_000
"""Nearest items that are looked at for a hop."""


class Hop(NamedTuple):
    """How a walk came to an item."""

    before: Place | None
    """The item before; None: the source."""
    similarity: float
    """How alike the two look, centred cosine."""


class Walker:
    """Walks through the items of the shards."""

    def __init__(self, shortlist: Shortlist, looks: Looks) -> None:
        self._shortlist = shortlist
        self._looks = looks

    def rows(self, question: Question) -> tuple[list[Row], dict[Place, Hop]]:
        """The visited items in their order, each with its look's likeness to the source, and how it was come to."""
        walk = question.request.walk
        assert walk is not None, "asked without a walk"
        chance = random.Random(walk.seed)
        families = dict(question.families)
        visited = set(question.excluded)
        rows: list[Row] = []
        hops: dict[Place, Hop] = {}
        at: Place | None = None
        query = question.seeds.query
        while len(rows) < min(walk.steps, question.rows_wanted):
            choices = self._choices(question, query, visited, families)
            if not choices:
                break
            row, similarity = choices[chance.randrange(len(choices))]
            self._shortlist.has_room(question, row[0], row[1], families)
            hops[row[:2]] = Hop(at, similarity)
            at = row[:2]
            rows.append(row)
            visited.add(at)
            query = question.seeds.asked(self._looks.mean(*at))
        return rows, hops

    def _choices(
        self, question: Question, query: Vectors, visited: set[Place], families: dict[int, int]
    ) -> list[tuple[Row, float]]:
        """The nearest items that may be hopped to, each with its likeness to where one stands."""
        walk = question.request.walk
        least = 100 * max(question.threshold, walk.leash if walk is not None else 0.0)
        wanted = CHOICES + len(visited)
        here = question._replace(seeds=question.seeds._replace(query=query))
        while True:
            candidates = self._shortlist.candidates([here], wanted)[0]
            choices: list[tuple[Row, float]] = []
            for number, ordinal, similarity in zip(
                candidates.fields.tolist(), candidates.ordinals.tolist(), candidates.similarity.tolist(), strict=True
            ):
                if (number, ordinal) in visited or not self._shortlist.has_room(
                    question, number, ordinal, dict(families)
                ):
                    continue
                row = self._looks.row(number, ordinal, question.seeds.query)
                if row is not None and visual_hundredths(row[3]) >= least:
                    choices.append((row, similarity))
                if len(choices) == CHOICES:
                    break
            if len(choices) == CHOICES or len(candidates.ordinals) < wanted or wanted >= FETCH_MAX:
                return choices
            wanted = min(4 * wanted, FETCH_MAX)
