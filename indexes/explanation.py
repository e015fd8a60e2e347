"""Explanations: why a hit stands where it stands, and what was removed by what.

What becomes of the items, step by step, is `account.py`; here is which steps there are, in the order of the contract,
and what is told of a hit and of the pins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from indexes.account import Account, Step
from indexes.conditions import Conditions, Mask
from indexes.looks import Looks
from indexes.outcome import Outcome
from indexes.pins import Pins
from indexes.question import Place, Question, Row
from indexes.shard import Shard
from indexes.shortlist import Shortlist
from models.filter_tree import And, Filter, format_filter


class Explained(NamedTuple):
    """The reasons for an outcome, to be written as JSON."""

    hits: list[dict[str, Any]]
    answer: dict[str, Any]


class Explainer:
    """Explains outcomes of one batch."""

    def __init__(
        self, shards: Sequence[Shard], conditions: Conditions, shortlist: Shortlist, looks: Looks, pins: Pins
    ) -> None:
        self.shards = shards
        self.conditions = conditions
        self.shortlist = shortlist
        self.looks = looks
        self.pins = pins

    def explain(self, question: Question, outcome: Outcome) -> Explained:
        """The reasons for what the question was answered."""
        account = Account(self.shards, self.shortlist, question, outcome)
        for step in self._steps(question) if question.seeds.usable else ():
            account.take(step)
        account.end()
        removed = account.removed
        return Explained(
            [self._hit(question, outcome, row, steps) for row, steps in zip(outcome.rows, account.steps, strict=True)],
            {"considered": account.considered, "removed": removed, "pins": self._pins(question, outcome)},
        )

    def item_id(self, place: Place) -> str:
        """The id of an item."""
        return self.shards[place[0]].item_ids[place[1]]

    def _steps(self, question: Question) -> Iterator[Step]:
        request = question.request
        for part in _parts(request.filter):
            yield self._filter({"by": "filters"}, part)
        yield from self._same(question, None)
        if not request.out_of_stock:
            yield Step({"by": "stock", "what": "in_stock:true"}, [shard.columns.in_stock for shard in self.shards])
        for optional in request.optional:
            yield self._factor({"by": "optionalFilters", "what": optional.text}, optional)
        for rule in question.rules:
            named = {"by": "rule", "rule": rule.rule_id}
            for part in _parts(rule.filter):
                yield self._filter(named, part)
            if rule.hide:
                yield Step({**named, "what": "hide"}, [self._unhidden(number, rule.hide) for number in self._numbers])
            yield from self._same(question, rule.rule_id)
            for boost in rule.boosts:
                yield self._factor({**named, "what": boost.text}, boost)

    @property
    def _numbers(self) -> range:
        return range(len(self.shards))

    def _filter(self, named: dict[str, Any], part: Filter) -> Step:
        return Step({**named, "what": format_filter(part)}, self.conditions.found(part))

    def _factor(self, named: dict[str, Any], boost: Any) -> Step:
        return Step(named, factors=[self.conditions.factor(boost, number) for number in self._numbers])

    def _same(self, question: Question, rule_id: str | None) -> Iterator[Step]:
        named = {"by": "sameAs"} if rule_id is None else {"by": "rule", "rule": rule_id}
        for asked in question.same:
            if asked.rule_id == rule_id:
                what = f"{'not ' if asked.equal.negative else ''}the same {asked.equal.attribute}"
                yield Step({**named, "what": what}, [self.conditions.same(asked.equal, at) for at in self._numbers])

    def _unhidden(self, number: int, hide: frozenset[str]) -> Mask:
        mask = self.shards[number].columns.present.copy()
        mask[self.conditions.hidden(hide, number)] = False
        return mask

    def _hit(self, question: Question, outcome: Outcome, row: Row, steps: list[dict[str, Any]]) -> dict[str, Any]:
        seeds = question.seeds
        shown: dict[str, Any] = {"similarity": round(row[3], 4)}
        if seeds.weights is not None:
            look, colour = self.looks.parts(row, seeds)
            shown["parts"] = {"look": round(look, 4), "colour": round(colour, 4), "colourWeight": seeds.colour_weight}
        if pair := self.looks.pair(row, seeds):
            source = pair.source
            matched: dict[str, Any] = {"image": self.shards[row[0]].image_name(row[1], row[2]), "source": source.name}
            if source.at is not None:
                matched["sourceImage"] = self.shards[source.at[0]].image_name(source.at[1], pair.source_image)
            shown["matched"] = {**matched, "similarity": round(pair.similarity, 4)}
        if hop := outcome.hops.get(row[:2]):
            before = question.seeds.sources[0].name if hop.before is None else self.item_id(hop.before)
            shown["walk"] = {"from": before, "similarity": round(hop.similarity, 4)}
        return {**shown, "steps": steps}

    def _pins(self, question: Question, outcome: Outcome) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        for fate in self.pins.fates(question, outcome):
            one = {"rule": fate.rule_id, "objectID": fate.pin.item_id, "position": fate.pin.position}
            told.append(one if fate.obstacle is None else one | {"notShown": fate.obstacle.words})
        return told


def _parts(tree: Filter | None) -> tuple[Filter, ...]:
    """The conditions that all must hold."""
    if tree is None:
        return ()
    return tuple([inner for part in tree.parts for inner in _parts(part)]) if isinstance(tree, And) else (tree,)
