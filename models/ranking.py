"""Ranking: what similarities and factors are worth as scores, and where pins go.

The order itself (adjusted similarity, then item id) is `indexes/search.py`'s, which can stop early by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from models.rules import Pin, Rule

T = TypeVar("T")


def visual_hundredths(similarity: float) -> int:
    """`_score` in hundredths, 0..10,000, of a centred cosine: 0 = no more alike than two random items."""
    if similarity <= 0:
        return 0
    return int(10_000 * similarity + 0.5) if similarity < 1 else 10_000


def rank_hundredths(similarity: float, factor: float) -> int:
    """`_rankScore` in hundredths, from 0: the adjusted similarity, which boosts may take above 10,000.

    Adjusted is similarity * factor where the similarity is positive, else similarity / factor, which shows as 0.
    """
    return int(10_000 * similarity * factor + 0.5) if similarity > 0 else 0


def pins_of(rules: Iterable[Rule]) -> tuple[Pin, ...]:
    """The pins of rules in the order of precedence: an item that two rules pin stands where the first one wants it."""
    pins: dict[str, Pin] = {}
    for rule in rules:
        for pin in rule.pins:
            pins.setdefault(pin.item_id, pin)
    return tuple(pins.values())


def place(ranked: Sequence[T], pinned: Sequence[tuple[int, T]], count: int) -> list[T]:
    """At most `count` hits: the ranked ones, best first, around the pinned ones (position from 0, hit).

    Of two pins for one position the earlier in `pinned` has it, the other takes the next free one.  A pin beyond the
    end of the hits stands at the end; one beyond `count` is not shown.  `ranked` must not hold a pinned hit.
    """
    places: dict[int, T] = {}
    for position, hit in pinned:
        while position in places:
            position += 1
        if position < count:
            places[position] = hit
    hits: list[T] = []
    taken = 0
    for position in range(count):
        if position in places:
            hits.append(places.pop(position))
        elif taken < len(ranked):
            hits.append(ranked[taken])
            taken += 1
        else:
            break
    hits += [places[position] for position in sorted(places)]
    return hits
