"""What a trial of rules came to, and the same as JSON; as tables it is `streams/trials/table.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.rule import Rule
from models.rule_trial import Side, Totals, share, why_never
from streams.reports.moments import duration
from streams.trials.client import TrialOutcome
from streams.trials.messages import PinCount, TriedEntry
from streams.trials.recorded_requests import Recorded

PLACED = ("placed", "elsewhere")


@dataclass(frozen=True)
class TrialReport:
    """A trial, and what was tried with what."""

    name: str
    """Of the file."""
    rules: Mapping[str, Rule]
    """Those of the file, by id."""
    deleted: Sequence[str]
    refused: Sequence[str]
    """Why rules of the file cannot be understood."""
    recorded: Recorded
    source: str
    """Where the requests are from, in words."""
    outcome: TrialOutcome
    only: bool = False

    @property
    def totals(self) -> Totals:
        """All entries that could be answered."""
        totals = Totals()
        for entry in self.outcome.entries:
            if entry.comparison is not None:
                totals.add(entry.comparison, entry.times)
        return totals

    @property
    def failures(self) -> Counter[tuple[int, str]]:
        """How many could not be answered, by status and reason."""
        failures: Counter[tuple[int, str]] = Counter()
        for reason, count in self.recorded.broken.items():
            failures[400, reason] += count
        for entry in self.outcome.entries:
            if entry.comparison is None:
                failures[entry.status, entry.message] += entry.times
        return failures

    def never(self, rule_id: str) -> str | None:
        """Why a rule of the file applied to no request; None: it did."""
        last, count = self.outcome.last, self.outcome.rules.get(rule_id)
        if last is None or (count is not None and count.after) or rule_id in self.deleted:
            return None
        return why_never(self.rules[rule_id], last.at, self.outcome.contexts, self.outcome.with_rules)

    def pins(self) -> list[PinCount]:
        """The candidate's pins, those that are missing most often first."""
        return sorted(self.outcome.pins.values(), key=lambda pin: (pin.fate in PLACED, -pin.times, pin.rule))

    def changed_entries(self) -> list[TriedEntry]:
        """Entries whose answer changes, those of which the most visitors see the most first."""
        changed = [each for each in self.outcome.entries if each.comparison is not None and each.comparison.changed]
        return sorted(changed, key=lambda each: (-each.times * (1 + exchanged(each)), each.source))

    def as_json(self) -> dict[str, Any]:
        """All of it for scripts.  Shares are 0..1, scores 0..100, times Unix ms."""
        totals, outcome, last, recorded = self.totals, self.outcome, self.outcome.last, self.recorded
        assert last is not None, "nothing was asked"
        return {
            "requests": {
                "taken": recorded.taken,
                "there": recorded.there,
                "different": len(recorded.bodies),
                "oldest": recorded.oldest_ms,
                "answered": totals.before.answers,
                "failed": [
                    {"status": status, "message": message, "count": count}
                    for (status, message), count in self.failures.most_common()
                ],
            },
            "rules": {
                "at": last.at,
                "inForce": last.in_force,
                "candidate": last.candidate,
                "only": self.only,
                "dropped": last.dropped,
                "changedMeanwhile": len(outcome.offsets) > 1,
                "refused": list(self.refused),
                "unusable": last.unusable,
                "tried": [self._rule_json(rule_id) for rule_id in last.states],
                "others": {
                    rule_id: {"before": count.before, "after": count.after}
                    for rule_id, count in sorted(outcome.rules.items())
                    if rule_id not in last.states
                },
            },
            "changed": totals.changed,
            "exchanged": totals.exchanged,
            "before": _side_json(totals, totals.before),
            "after": _side_json(totals, totals.after),
            "scoreGivenUp": _rounded(totals.given_up),
            "scoreGivenUpWhereChanged": _rounded(totals.given_up_where_changed),
            "entering": [{"objectID": item_id, "count": count} for item_id, count in totals.entered.most_common()],
            "leaving": [{"objectID": item_id, "count": count} for item_id, count in totals.left.most_common()],
            "pins": [
                {
                    "rule": pin.rule,
                    "objectID": pin.item_id,
                    "position": pin.position,
                    "fate": pin.fate,
                    "why": pin.words or None,
                    "count": pin.times,
                }
                for pin in self.pins()
            ],
            "answers": [
                {
                    "source": each.source,
                    "count": each.times,
                    "entering": each.comparison.entered,
                    "leaving": each.comparison.left,
                    "moved": each.comparison.moved,
                }
                for each in self.changed_entries()
                if each.comparison is not None
            ],
        }

    def _rule_json(self, rule_id: str) -> dict[str, Any]:
        last, count = self.outcome.last, self.outcome.rules.get(rule_id)
        assert last is not None, "nothing was asked"
        counts = (count.before, count.after, count.changed) if count else (0, 0, 0)
        fields = dict(zip(("before", "after", "changed"), counts, strict=True))
        return {"objectID": rule_id, "state": last.states[rule_id], **fields, "never": self.never(rule_id)}


def exchanged(entry: TriedEntry) -> int:
    """How many items enter or leave."""
    compared = entry.comparison
    return len(compared.entered) + len(compared.left) if compared is not None else 0


def _side_json(totals: Totals, side: Side) -> dict[str, Any]:
    return {
        "answers": side.answers,
        "hits": side.hits,
        "withoutHits": side.empty,
        "onSale": _rounded(share(side.on_sale, side.first)),
        "lowStock": _rounded(share(side.low_stock, side.first)),
        "score": _rounded(totals.score(side)),
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)


def source_of(recorded: Recorded, window_ms: int | None) -> str:
    """Where the requests are from, in words."""
    different = f", {len(recorded.bodies):,} different" if len(recorded.bodies) < recorded.taken else ""
    if window_ms is None:
        of = f"the first {recorded.taken:,} of {recorded.there:,}" if (recorded.there or 0) > recorded.taken else ""
        return f"{of or f'the {recorded.taken:,}'} request{'s' * (recorded.taken != 1)} of the file{different}"
    newest = f"the newest {recorded.taken:,}"
    if recorded.there is not None:
        newest += f" of {recorded.there:,}" if recorded.there > recorded.taken else ""
    return f"{newest} requests of the last {window_of(window_ms)}{different}"


def window_of(window_ms: int) -> str:
    """`1 h`, as it was asked for, rather than `60 min`."""
    hours, rest = divmod(window_ms, 3_600_000)
    return f"{hours} h" if hours and not rest else duration(window_ms)
