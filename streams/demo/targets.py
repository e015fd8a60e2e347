"""Which items a tour is about: a source, and hits of it on which an event can be seen.  Pure functions of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

MOVE_MAX = 4
"""A move by more places is no better to look at."""
MARGIN = 0.05
"""Scores come rounded to hundredths: two that are nearer are not told apart."""


class Hit(NamedTuple):
    """What matters of a hit, as the answer says it."""

    item_id: str
    score: float
    rank_score: float
    on_sale: bool = False
    low_stock: bool = False


class Target(NamedTuple):
    """A hit that would move, from one place at least as far as to another (from 0)."""

    item_id: str
    place: int
    place_after: int


def to_raise(hits: Sequence[Hit], shown: int, factor: float) -> Target | None:
    """Return the hit among the first `shown` that would rise the most by `factor`; None when none would for sure."""
    found = [
        Target(hit.item_id, place, after)
        for place, hit in enumerate(hits[:shown])
        if not hit.on_sale
        and (after := sum(other.rank_score + MARGIN >= hit.rank_score * factor for other in hits[:place])) < place
    ]
    return max(
        found, key=lambda target: (min(target.place - target.place_after, MOVE_MAX), -target.place), default=None
    )


def to_lower(hits: Sequence[Hit], shown: int, factor: float) -> Target | None:
    """Return the hit among the first `shown` that would fall the most by `factor` and still be shown.

    One that would fall out of sight is taken when there is no other; None when none would fall for sure.
    """
    found = [
        Target(hit.item_id, place, place + passed)
        for place, hit in enumerate(hits[:shown])
        if not hit.low_stock
        and (passed := sum(other.rank_score > hit.rank_score * factor + MARGIN for other in hits[place + 1 :]))
    ]
    return max(
        found,
        key=lambda target: (
            target.place_after < shown,
            min(target.place_after - target.place, MOVE_MAX),
            -target.place,
        ),
        default=None,
    )


def worth(hits: Sequence[Hit], shown: int, sale: float, low: float) -> float:
    """Return how well a tour from this source would show: alike hits, and some that would move in sight."""
    if not hits:
        return 0.0
    alike = sum(hit.score for hit in hits[:shown]) / 100
    up, down = to_raise(hits, shown, sale), to_lower(hits, shown, low)
    rise = min(up.place - up.place_after, MOVE_MAX) + 2 if up else 0
    fall = min(down.place_after - down.place, MOVE_MAX) + 2 if down and down.place_after < shown else 0
    plain = sum(not (hit.on_sale or hit.low_stock) for hit in hits[:shown]) / max(len(hits[:shown]), 1)
    return 2 * alike + rise + fall + 3 * plain


def place_of_newcomer(hits: Sequence[Hit], score: float) -> int:
    """Return where an item would stand among hits that looks so much like the source."""
    return sum(hit.rank_score >= score for hit in hits)


def best_source(
    answers: Mapping[str, Sequence[Hit]],
    shown: int,
    sale: float,
    low: float,
    newcomer: Mapping[str, float] | None = None,
) -> str:
    """Return the source whose tour shows best.

    `newcomer`: by source how much an item that is kept back looks like it; a source in whose answer it would be
    seen is better.  Of equals the first counts.
    """

    def value(source: str) -> float:
        hits = answers[source]
        seen = newcomer is not None and source in newcomer and place_of_newcomer(hits, newcomer[source]) < shown
        return worth(hits, shown, sale, low) + (2 if seen else 0)

    return max(answers, key=value)
