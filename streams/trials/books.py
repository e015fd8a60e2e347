"""The two books of a trial of rules: those in force, and with the candidate's laid over them, both of one moment."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from models.errors import BadEvent, BadRequest
from models.rule import Rule
from models.rule_trial import RulesAt, candidate_rules, same_meaning
from models.rules import DEFAULT_RULE_ID
from streams.gateway.rules import read_rule
from streams.serve.rule_reader import RuleReader
from streams.trials.messages import Refused, TrialAnswer, TrialCall
from streams.web.admission import Pace

READ_TOGETHER = 40
"""Rules that are read before the loop turns: 2 ms."""
PUT_TOGETHER = 200
"""Rules that are put into a book before it does."""
UNUSABLE_MAX = 100
"""Ids that are told."""


class TrialBooks:
    """Makes the books."""

    def __init__(self, rules: RuleReader, asked: TrialCall, pace: Pace) -> None:
        self.rules = rules
        self.asked = asked
        self.pace = pace
        self.before = RulesAt()
        self.after = RulesAt()

    async def prepared(self, now_ms: int) -> TrialAnswer:
        """Fill both books; an answer with what there is to say of the rules, and of no request yet."""
        rules = self.rules
        stored = {rule_id: each.rule for rule_id, each in rules.stored.items()}
        offset, unusable = rules.next_offset, sorted(rules.unusable)[:UNUSABLE_MAX]
        put, refused = await self._read_rules()
        candidate = candidate_rules(stored.values(), put.values(), set(self.asked.deleted), only=self.asked.only)
        await self._fill(self.before, stored.values())
        if put or self.asked.deleted or self.asked.only:
            await self._fill(self.after, candidate)
        else:
            self.after = self.before
        self.before.at_ms = self.after.at_ms = self.asked.at
        states = {rule_id: _state(rule, stored.get(rule_id)) for rule_id, rule in put.items()}
        states |= {rule_id: "deleted" if rule_id in stored else "absent" for rule_id in self.asked.deleted}
        kept = {rule.rule_id for rule in candidate}
        return TrialAnswer(
            done=0,
            at=self.asked.at if self.asked.at is not None else now_ms,
            rules_offset=offset,
            in_force=len(self.before.in_force()),
            candidate=len(self.after.in_force()),
            states=states,
            dropped=sum(rule_id not in kept for rule_id in stored) if self.asked.only else 0,
            refused=refused,
            unusable=unusable,
            entries=[],
            rules={},
            pins=[],
            contexts=[],
            with_rules=0,
        )

    async def _read_rules(self) -> tuple[dict[str, Rule], list[Refused]]:
        """By id the rules that are understood, and why others are not."""
        put: dict[str, Rule] = {}
        refused: list[Refused] = []
        for start in range(0, len(self.asked.rules), READ_TOGETHER):
            await self.pace.turn()
            with self.pace.spent():
                for number, raw in enumerate(self.asked.rules[start : start + READ_TOGETHER], start + 1):
                    try:
                        rule = _rule(bytes(raw))
                        put.pop(rule.rule_id, None)
                        put[rule.rule_id] = rule
                    except (BadEvent, BadRequest) as error:
                        refused.append(Refused(number, str(error)))
        return put, refused

    async def _fill(self, book: RulesAt, rules: Iterable[Rule]) -> None:
        every = list(rules)
        for start in range(0, len(every), PUT_TOGETHER):
            await self.pace.turn()
            with self.pace.spent():
                for rule in every[start : start + PUT_TOGETHER]:
                    book.put(rule)


def _rule(raw: bytes) -> Rule:
    """A rule of the candidate.  BadEvent or BadRequest says why it is none."""
    try:
        return read_rule(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"expected a rule as JSON: {error}") from error


def _state(rule: Rule, stored: Rule | None) -> str:
    if stored is not None:
        return "same" if same_meaning(rule, stored) else "changed"
    return "changed" if rule.rule_id == DEFAULT_RULE_ID else "new"
