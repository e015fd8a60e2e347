"""A watched list: what is known of it after it was asked, and the words for why it is asked again."""

from __future__ import annotations

import numpy as np

from indexes.item_changes import EVENTS, STRUCTURE, ItemChange
from indexes.outcome import Outcome
from indexes.question import Question
from models.rule import Rule
from models.watch import Reason, Watch


class WatchedList:
    """What is known of one list."""

    def __init__(self, watch: Watch) -> None:
        """Of a list that has never been asked."""
        self.watch = watch
        self.members: frozenset[str] = frozenset((watch.item_id,))
        self.derived: frozenset[str] = frozenset()
        """Derived attributes of members that it depends on."""
        self.rules: tuple[Rule, ...] = ()
        self.usable = False
        """Whether it could be made; else only its source matters."""
        self.made: bytes | None = None
        """Digest of the last answer."""
        self.pushed: bytes | None = None
        """Digest of what others have last been told; None: nothing."""
        self.not_before_ms = 0


def cutoff(question: Question, outcome: Outcome) -> float:
    """The adjusted similarity that an item must have to matter to a list that it is not a member of; -inf: any."""
    if outcome.pool:
        full = len(outcome.pool) >= question.rows_wanted
        return question.adjusted(outcome.pool[-1]) if full else -np.inf
    if len(outcome.rows) < question.request.count:
        return -np.inf
    ranked = [row for row in outcome.rows if row[:2] not in outcome.origins]
    return question.adjusted(ranked[-1]) if ranked else np.inf


def change_reason(change: ItemChange, derived: frozenset[str] | None) -> Reason:
    """The change in a message's words; of several the one that says most."""
    kinds = change.kinds if derived is None or change.kinds & STRUCTURE else change.kinds & derived or change.kinds
    event = min([EVENTS[kind] for kind in kinds], key=("catalog", "images", "stock", "sale").index)
    return {"event": event, "objectID": change.item_id}


def rule_reason(before: tuple[Rule, ...], now: tuple[Rule, ...]) -> Reason:
    """The first rule that is not what it was."""
    known = {rule.rule_id: rule for rule in before}
    for rule in now:
        if known.pop(rule.rule_id, None) != rule:
            return {"event": "rule", "rule": rule.rule_id}
    return {"event": "rule", "rule": next(iter(known), "")}
