"""Answers under two books of rules, compared: those in force, and a candidate's.

1. Each entry becomes a question under both books; its seeds are looked up once.
2. Where the same rules apply, the answer is the same: only the others are answered twice.
3. Of both answers the hits are compared (`models/rule_trial.py`), and of the candidate's pins it is told what became.

It is pure as answering is, and writes no answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from indexes.answering import Answering, Vectors
from indexes.outcome import Outcome
from indexes.pins import Fate
from indexes.results import AnswerSettings
from indexes.shard import Shard
from models.errors import BadRequest, KindredError
from models.ranking import visual_hundredths
from models.request import ImageKey, Request
from models.rule import Rule
from models.rule_trial import FIRST, Comparison, SeenHit, compare
from models.rules import RuleBook


class Tried(NamedTuple):
    """An entry answered under both books."""

    comparison: Comparison
    rules_before: tuple[Rule, ...]
    """Those that applied, in the order of precedence."""
    rules_after: tuple[Rule, ...]
    fates: tuple[Fate, ...]
    """What became of the pins of `rules_after`."""


def try_rules(
    entries: Sequence[Request | BadRequest],
    images: Mapping[ImageKey, Vectors | KindredError],
    shards: Sequence[Shard],
    before: RuleBook,
    after: RuleBook,
    now_ms: int,
    *,
    mean: Vectors | None,
) -> list[Tried | BadRequest]:
    """Each entry in its order, or why it cannot be answered, which no rule changes.

    The arguments are those of `answer_requests`, with two books.
    """
    first = Answering(shards, before, now_ms, mean, AnswerSettings())
    second = Answering(shards, after, now_ms, mean, AnswerSettings())
    asked, failed = first.understood(entries, images)
    others = [second.questions.of(one.number, one.request, one.seeds) for one in asked]
    others = [other for one, other in zip(asked, others, strict=True) if other.rules != one.rules]
    outcomes = {question.number: (question, outcome) for question, outcome in first.outcomes(asked)}
    changed = {question.number: (question, outcome) for question, outcome in second.outcomes(others)}
    tried: list[Tried | BadRequest] = []
    for number in range(len(entries)):
        if number in failed:
            tried.append(failed[number])
            continue
        (question, outcome), (other, result) = outcomes[number], changed.get(number, outcomes[number])
        hits = _seen(shards, outcome)
        tried.append(
            Tried(
                compare(hits, hits if other is question else _seen(shards, result)),
                question.rules,
                other.rules,
                tuple(second.pins.fates(other, result)),
            )
        )
    return tried


def _seen(shards: Sequence[Shard], outcome: Outcome) -> list[SeenHit]:
    """The hits of an answer; only the flags of the first are looked at."""
    seen = []
    for place, (number, ordinal, _, similarity) in enumerate(outcome.rows):
        columns = shards[number].columns
        flagged = place < FIRST
        seen.append(
            SeenHit(
                shards[number].item_ids[ordinal],
                visual_hundredths(similarity),
                flagged and columns.on_sale.item(ordinal),
                flagged and columns.low_stock.item(ordinal),
            )
        )
    return seen
