"""A trial of rules: one request's answer under the rules in force beside that under a candidate's, and their totals.

Nothing here asks anything: `indexes/tried_answers.py` makes the two answers, and what is compared are their hits.
What is easy to get wrong:

* Shares and scores are those of the first `FIRST` hits, which are what a visitor sees; what enters and leaves is told
  of all hits that were asked for.
* Scores are compared only where both answers have hits, or a rule that empties an answer would look like one that costs
  nothing.
* A request that was asked a hundred times counts a hundred times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import msgspec

from models.rule import Rule, Source
from models.rules import RuleBook

FIRST = 10
"""Hits that shares and scores are about."""


class SeenHit(msgspec.Struct, frozen=True, gc=False):
    """As much of a hit as is compared."""

    item_id: str
    score: int
    """The visual score in hundredths, 0..10,000."""
    on_sale: bool = False
    low_stock: bool = False


class Side(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One answer, counted; or many, added up."""

    answers: int = 0
    hits: int = 0
    empty: int = 0
    """Answers without a hit."""
    first: int = 0
    """Hits among the first `FIRST`."""
    on_sale: int = 0
    """Of these."""
    low_stock: int = 0
    """Of these."""
    score: float = 0.0
    """The mean visual score (0..100) of the first hits, added up over the answers that were compared by it."""

    def plus(self, other: Side, times: int) -> Side:
        """With `other` added so many times."""
        return Side(
            self.answers + times * other.answers,
            self.hits + times * other.hits,
            self.empty + times * other.empty,
            self.first + times * other.first,
            self.on_sale + times * other.on_sale,
            self.low_stock + times * other.low_stock,
            self.score + times * other.score,
        )


class Comparison(msgspec.Struct, frozen=True, omit_defaults=True):
    """What becomes of one answer."""

    before: Side
    after: Side
    entered: tuple[str, ...] = ()
    """Items that are hits afterwards only, best first."""
    left: tuple[str, ...] = ()
    """Items that were hits before only."""
    moved: bool = False
    """Whether what is in both stands in another order."""

    @property
    def changed(self) -> bool:
        """Whether a visitor gets another list."""
        return bool(self.entered or self.left or self.moved)

    @property
    def scored(self) -> bool:
        """Whether both answers have hits, so that their scores can be compared."""
        return not self.before.empty and not self.after.empty


def compare(before: Sequence[SeenHit], after: Sequence[SeenHit]) -> Comparison:
    """Two answers to one request; no item stands in an answer twice."""
    were, are = [hit.item_id for hit in before], [hit.item_id for hit in after]
    if were == are:
        return Comparison(_side(before), _side(after))
    had, has = set(were), set(are)
    stayed = [item_id for item_id in were if item_id in has]
    return Comparison(
        _side(before),
        _side(after),
        tuple([item_id for item_id in are if item_id not in had]),
        tuple([item_id for item_id in were if item_id not in has]),
        stayed != [item_id for item_id in are if item_id in had],
    )


def _side(hits: Sequence[SeenHit]) -> Side:
    first = hits[:FIRST]
    return Side(
        answers=1,
        hits=len(hits),
        empty=int(not hits),
        first=len(first),
        on_sale=sum(hit.on_sale for hit in first),
        low_stock=sum(hit.low_stock for hit in first),
        score=sum(hit.score for hit in first) / (100 * len(first)) if first else 0.0,
    )


class Totals:
    """Comparisons added up."""

    def __init__(self) -> None:
        self.before = Side()
        self.after = Side()
        self.changed = 0
        """Answers with another list."""
        self.exchanged = 0
        """Of these, the ones in which an item enters or leaves."""
        self.scored = 0
        """Answers with hits on both sides; what `score` of the sides is added up over."""
        self.scored_changed = 0
        self.given_up_changed = 0.0
        """Added up over those of them that changed: the score before less that after."""
        self.entered: Counter[str] = Counter()
        self.left: Counter[str] = Counter()

    def add(self, compared: Comparison, times: int = 1) -> None:
        """One more request, asked so many times."""
        before, after = compared.before, compared.after
        if compared.scored:
            self.scored += times
            if compared.changed:
                self.scored_changed += times
                self.given_up_changed += times * (before.score - after.score)
        else:
            before, after = (msgspec.structs.replace(side, score=0.0) for side in (before, after))
        self.before, self.after = self.before.plus(before, times), self.after.plus(after, times)
        self.changed += times * compared.changed
        self.exchanged += times * bool(compared.entered or compared.left)
        for item_ids, counter in ((compared.entered, self.entered), (compared.left, self.left)):
            for item_id in item_ids:
                counter[item_id] += times

    def score(self, side: Side) -> float | None:
        """The mean visual score (0..100) of the first hits of `before` or `after`; None: nothing can be compared."""
        return side.score / self.scored if self.scored else None

    @property
    def given_up(self) -> float | None:
        """Mean visual score that the candidate gives up, 0..100; below 0 it gains."""
        return (self.before.score - self.after.score) / self.scored if self.scored else None

    @property
    def given_up_where_changed(self) -> float | None:
        """The same over the requests whose answer changes."""
        return self.given_up_changed / self.scored_changed if self.scored_changed else None


class RulesAt(RuleBook):
    """A book whose windows are judged at one moment, whatever the time is."""

    at_ms: int | None = None
    """Unix ms; None: at the time that is asked for."""

    def applicable(self, sources: Sequence[Source], contexts: Collection[str], now_ms: int) -> tuple[Rule, ...]:
        """The rules that apply to a request at that moment, in the order of precedence."""
        return super().applicable(sources, contexts, now_ms if self.at_ms is None else self.at_ms)


def share(part: int, whole: int) -> float | None:
    """`part` of `whole`, 0..1; None of nothing."""
    return part / whole if whole else None


def candidate_rules(
    in_force: Iterable[Rule], put: Iterable[Rule], deleted: Collection[str], *, only: bool
) -> list[Rule]:
    """The rules with those of `put` laid over them and `deleted` taken out; `only`: none but those of `put`.

    As if they were published, in one batch: a rule of the same id is replaced.  Disabled ones stay, since a disabled
    `default` takes the built-in rule out of force.
    """
    rules = {} if only else {rule.rule_id: rule for rule in in_force}
    rules |= {rule.rule_id: rule for rule in put}
    return [rule for rule_id, rule in rules.items() if rule_id not in deleted]


def same_meaning(one: Rule, other: Rule) -> bool:
    """Whether two rules say the same, however they are written."""
    return msgspec.structs.replace(one, raw=b"") == msgspec.structs.replace(other, raw=b"")


def why_never(rule: Rule, at_ms: int, contexts: Collection[str], requests_with_rules: int) -> str:
    """In words, why a rule applied to none of the requests that were replayed.

    `contexts`: those that any of them gave; `requests_with_rules`: how many did not have `enableRules: false`.
    """
    if not rule.enabled:
        return "it is disabled"
    if not rule.in_window(at_ms):
        return "none of its windows is open"
    if not requests_with_rules:
        return "no request could be answered with rules"
    if rule.context is not None and rule.context not in contexts:
        return f"no request came in its context, {rule.context}"
    if rule.condition is not None:
        return "no source item met its condition"
    return "no request met it"
