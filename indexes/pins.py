"""Pins: the items that rules want at a place among the hits, and what becomes of each.

A pin that is not shown has an obstacle: a code that can be counted over many answers, and words for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from indexes.looks import Looks
from indexes.outcome import Outcome
from indexes.question import Question, Row
from indexes.shard import Shard
from models.filter_tree import matches
from models.ranking import pins_of
from models.rule import Pin


class Obstacle(NamedTuple):
    """Why a pin is not shown."""

    code: str
    """`already`, `walk`, `beyond`, `source`, `hidden`, `sold_out`, `filtered`, `no_image`, `deleted`, `unknown` or
    `taken`."""
    words: str


class Fate(NamedTuple):
    """What became of a pin in one answer."""

    rule_id: str
    pin: Pin
    place: int | None
    """Where it is shown, from 0: another place than it was pinned to if that was taken, or if hits were too few."""
    obstacle: Obstacle | None
    """Why it is not shown; None: it is."""


class Pins:
    """Looks up pinned items."""

    def __init__(self, shards: Sequence[Shard], looks: Looks) -> None:
        self._shards = shards
        self._looks = looks

    def shown(self, question: Question) -> Iterator[tuple[int, Row]]:
        """Positions and rows of the pins that may be shown, in the order of precedence."""
        for pin in pins_of(question.rules):
            outcome = self.outcome(question, pin)
            if not isinstance(outcome, Obstacle):
                yield pin.position, outcome

    def outcome(self, question: Question, pin: Pin) -> Row | Obstacle:
        """The row of a pin, or why there is none.

        Pins pass the hard filters, the hiding and the stock; the threshold and families do not hold for them: they are
        the merchandiser's word.
        """
        if pin.position >= question.request.count:
            return Obstacle("beyond", f"position {pin.position} is beyond the {question.request.count} hits asked for")
        for number, shard in enumerate(self._shards):
            ordinal = shard.ordinal(pin.item_id)
            if ordinal is None:
                continue
            if (number, ordinal) in {source.at for source in question.seeds.sources}:
                return Obstacle("source", "it is a source item")
            mask = question.masks[number]
            if mask is not None and not mask[ordinal]:
                return self._kept_out(question, number, ordinal)
            row = self._looks.row(number, ordinal, question.seeds.query)
            return Obstacle("no_image", "it has no embedded image") if row is None else row
        if any(shard.was_deleted(pin.item_id) for shard in self._shards):
            return Obstacle("deleted", "it was deleted from the catalog")
        return Obstacle("unknown", "it is not known")

    def fates(self, question: Question, outcome: Outcome) -> Iterator[Fate]:
        """What became of every pin of the rules that applied, in the order of precedence."""
        places = {
            self._shards[row[0]].item_ids[row[1]]: place
            for place, row in enumerate(outcome.rows)
            if outcome.origins.get(row[:2]) == "pin"
        }
        pinned: dict[str, str] = {}
        for rule in question.rules:
            for pin in rule.pins:
                obstacle: Obstacle | None = None
                if pin.item_id in pinned:
                    obstacle = Obstacle("already", f"rule {pinned[pin.item_id]} pins it already")
                elif question.request.walk is not None:
                    obstacle = Obstacle("walk", "a walk has no pins")
                elif pin.item_id not in places:
                    found = self.outcome(question, pin)
                    obstacle = (
                        found
                        if isinstance(found, Obstacle)
                        else Obstacle("taken", "other pins have taken the places up to the last hit")
                    )
                pinned.setdefault(pin.item_id, rule.rule_id)
                yield Fate(rule.rule_id, pin, places[pin.item_id] if obstacle is None else None, obstacle)

    def _kept_out(self, question: Question, number: int, ordinal: int) -> Obstacle:
        """What keeps an item of the catalog from being a hit; of several reasons the first."""
        shard = self._shards[number]
        for rule in question.rules:
            if shard.item_ids[ordinal] in rule.hide:
                return Obstacle("hidden", f"rule {rule.rule_id} hides it")
        if not question.request.out_of_stock and not shard.columns.in_stock[ordinal]:
            return Obstacle("sold_out", "it is out of stock")
        values = shard.source_values(ordinal)
        if question.request.filter is not None and not matches(question.request.filter, values):
            return Obstacle("filtered", "the request's filters leave it out")
        for rule in question.rules:
            if rule.filter is not None and not matches(rule.filter, values):
                return Obstacle("filtered", f"the filters of rule {rule.rule_id} leave it out")
        return Obstacle("filtered", "it is not the same as the source item")
