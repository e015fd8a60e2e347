"""The rules as a worker has them, in words, and what they did to recorded requests: what `kindred rules list` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from models.errors import BadEvent
from models.filter_tree import format_filter
from models.rule import Rule
from models.rule_trial import why_never
from models.rules import DEFAULT_RULE, DEFAULT_RULE_ID, parse_rule
from streams.reports.moments import moment
from streams.reports.terminal import Terminal
from streams.trials.client import TrialOutcome
from streams.trials.report import PLACED, window_of

WORDS_LENGTH_MAX = 60
NAMED_MAX = 3
"""Items that are named in a line."""


@dataclass(frozen=True)
class ListedRules:
    """Rules, and how often they applied."""

    stored: Sequence[Mapping[str, Any]]
    """As they were written, in the order of precedence."""
    outcome: TrialOutcome
    requests: int
    """That were replayed."""
    window_ms: int

    def rules(self) -> list[tuple[Rule, str | None]]:
        """By precedence, each with the time of its last change; the built-in one too, if it is in force."""
        found: list[tuple[Rule, str | None]] = []
        for written in self.stored:
            try:
                rule = parse_rule(str(written.get("objectID")), orjson.dumps(written))
            except BadEvent:  # of a worker of another version
                continue
            metadata = written.get("_metadata")
            found.append((rule, metadata.get("lastUpdate") if isinstance(metadata, dict) else None))
        if all(rule.rule_id != DEFAULT_RULE_ID for rule, _ in found):
            found.append((DEFAULT_RULE, None))
        return sorted(found, key=lambda one: one[0].precedence())

    def applied(self, rule_id: str) -> int:
        """To how many requests."""
        count = self.outcome.rules.get(rule_id)
        return count.after if count is not None else 0

    def never(self, rule: Rule) -> str | None:
        """Why it applied to none; None where it did, or nothing was replayed."""
        last = self.outcome.last
        if last is None or self.applied(rule.rule_id) or not (self.requests or not rule.enabled):
            return None
        return why_never(rule, last.at, self.outcome.contexts, self.outcome.with_rules)

    def missing_pins(self, rule_id: str) -> list[tuple[str, str, int]]:
        """Pins that are not shown: item, why, in how many answers."""
        pins = [pin for pin in self.outcome.pins.values() if pin.rule == rule_id and pin.fate not in PLACED]
        return [(pin.item_id, pin.words, pin.times) for pin in sorted(pins, key=lambda pin: -pin.times)]

    def as_json(self) -> dict[str, Any]:
        """All of it for scripts."""
        last = self.outcome.last
        return {
            "requests": self.requests,
            "rules": [
                {
                    "objectID": rule.rule_id,
                    "description": rule.description,
                    "enabled": rule.enabled,
                    "builtIn": rule is DEFAULT_RULE,
                    "lastUpdate": updated,
                    "when": when_of(rule),
                    "does": does_of(rule),
                    "applied": self.applied(rule.rule_id),
                    "never": self.never(rule),
                    "pinsNotShown": [
                        {"objectID": item_id, "why": why, "count": count}
                        for item_id, why, count in self.missing_pins(rule.rule_id)
                    ],
                }
                for rule, updated in self.rules()
            ],
            "unusable": last.unusable if last is not None else [],
        }


def show_rules(terminal: Terminal, listed: ListedRules) -> None:
    """The rules for people."""
    rows, pins = [], []
    for rule, updated in listed.rules():
        pins += [(rule.rule_id, item_id, why, count) for item_id, why, count in listed.missing_pins(rule.rule_id)]
        rows.append(
            (
                rule.rule_id,
                terminal.brief(when_of(rule), WORDS_LENGTH_MAX),
                terminal.brief(does_of(rule), WORDS_LENGTH_MAX),
                "built in" if rule is DEFAULT_RULE else (updated or "")[:16].replace("T", " "),
                f"{listed.applied(rule.rule_id):,}" if listed.requests else "",
                listed.never(rule) or "",
            )
        )
    terminal.table(("rule", "when", "does", "changed (UTC)", "applied", "never, because"), rows, numbers=("applied",))
    if pins:
        terminal.line()
        terminal.table(("rule", "pin not shown", "because", "answers"), pins, numbers=("answers",))
    last = listed.outcome.last
    if last is not None and last.unusable:
        terminal.line(f"on rule-changes, but not understood: {', '.join(last.unusable)}", style="red")
    told = terminal.line if terminal.for_people else terminal.note
    if listed.requests:
        told(
            f"applied: of the newest {listed.requests:,} requests, asked in the last {window_of(listed.window_ms)}",
            style="dim",
        )
    else:
        told(f"nobody asked on the topic in the last {window_of(listed.window_ms)}, so nothing is counted", style="dim")


def when_of(rule: Rule) -> str:
    """To what a rule applies, in words."""
    parts = [] if rule.enabled else ["disabled"]
    if rule.context is not None:
        parts.append(f"context {rule.context}")
    if rule.condition is not None:
        parts.append(format_filter(rule.condition))
    for begin, end in rule.validity:
        edges = ((word, edge) for word, edge in (("from", begin), ("until", end)) if edge is not None)
        parts.append(" ".join(f"{word} {moment(edge)}" for word, edge in edges))
    return "; ".join(filter(None, parts)) or "always"


def does_of(rule: Rule) -> str:
    """What a rule does, in words."""
    parts = []
    if rule.pins:
        parts.append("pins " + _named([f"{pin.item_id} to {pin.position}" for pin in rule.pins]))
    if rule.hide:
        parts.append("hides " + _named(sorted(rule.hide)))
    if rule.filter is not None:
        parts.append(f"only {format_filter(rule.filter)}")
    parts += [f"{'not ' if same.negative else ''}the same {same.facet}" for same in rule.same_as]
    parts += [f"{boost.text} x{boost.factor:.3g}" for boost in rule.boosts]
    return "; ".join(parts) or "nothing"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_MAX:,} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more
