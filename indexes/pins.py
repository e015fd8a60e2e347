"""Pins: the items that rules want at a place among the hits, or why they are not shown there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from indexes.looks import Looks
from indexes.question import Question, Row
from indexes.shard import Shard
from models.ranking import pins_of
from models.rule import Pin


class Pins:
    """Looks up pinned items."""

    def __init__(self, shards: Sequence[Shard], looks: Looks) -> None:
        self._shards = shards
        self._looks = looks

    def shown(self, question: Question) -> Iterator[tuple[int, Row]]:
        """Positions and rows of the pins that may be shown, in the order of precedence."""
        for pin in pins_of(question.rules):
            outcome = self.outcome(question, pin)
            if not isinstance(outcome, str):
                yield pin.position, outcome

    def outcome(self, question: Question, pin: Pin) -> Row | str:
        """The row of a pin, or in words why there is none.

        Pins pass the hard filters, the hiding and the stock; the threshold and families do not hold for them: they are
        the merchandiser's word.
        """
        if pin.position >= question.request.count:
            return f"position {pin.position} is beyond the {question.request.count} hits asked for"
        for number, shard in enumerate(self._shards):
            ordinal = shard.ordinal(pin.item_id)
            if ordinal is None:
                continue
            if (number, ordinal) in {source.at for source in question.seeds.sources}:
                return "it is a source item"
            mask = question.masks[number]
            if mask is not None and not mask[ordinal]:
                return "it is filtered out, hidden or out of stock"
            row = self._looks.row(number, ordinal, question.seeds.query)
            return "it has no embedded image" if row is None else row
        return "it is not known"
