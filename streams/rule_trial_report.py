"""What a trial of rules came to: as tables that are read at a glance, or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.rule import Rule
from models.rule_trial import FIRST, Side, Totals, share, why_never
from streams.moments import duration, moment
from streams.recorded_requests import Recorded
from streams.terminal import Terminal, brief
from streams.trial_client import TrialOutcome
from streams.trial_messages import PinCount, TriedEntry

SHOWN_MAX = 8
"""Rows of a list that could be long."""
EXAMPLES_MAX = 5
WORDS_LENGTH_MAX = 100
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
        return sorted(changed, key=lambda each: (-each.times * (1 + _exchanged(each)), each.source))

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


def show_trial(terminal: Terminal, report: TrialReport) -> None:
    """The report for people."""
    totals, last = report.totals, report.outcome.last
    assert last is not None, "nothing was asked"
    answered = totals.before.answers
    terminal.line(f"{report.name} tried with {report.source}; nothing is published.", style="bold")
    others = f"instead of the {last.in_force} in force" if report.only else f"over the {last.in_force} in force"
    terminal.line(f"{_states(last.states.values())}, laid {others}, as at {moment(last.at)}.")
    for warning in _warnings(report):
        terminal.line(warning, style="red")
    terminal.line()
    if answered:
        style = "green" if totals.changed else "yellow"
        terminal.line(
            f"{totals.changed:,} of {answered:,} answers change ({totals.changed / answered:.1%}): "
            f"in {totals.exchanged:,} items enter or leave, in {totals.changed - totals.exchanged:,} the order alone.",
            style=style,
        )
        terminal.line()
        terminal.table(
            ("", "in force", "tried", "difference"), _sides(totals), numbers=("in force", "tried", "difference")
        )
    terminal.line()
    rows = [_rule_row(report, rule_id) for rule_id in last.states]
    headings = ("rule", "is", "applies", "would apply", "changes", "never, because")
    terminal.table(headings, rows, numbers=("applies", "would apply", "changes"))
    _show_pins(terminal, report)
    if totals.entered or totals.left:
        terminal.line()
        entering, leaving = totals.entered.most_common(SHOWN_MAX), totals.left.most_common(SHOWN_MAX)
        pairs = [(*_at(entering, place), *_at(leaving, place)) for place in range(max(len(entering), len(leaving)))]
        terminal.table(("entering", "answers", "leaving", "of answers"), pairs, numbers=("answers", "of answers"))
        _show_examples(terminal, report)
    if failures := report.failures:
        terminal.line()
        shown = [(count, status, brief(text, WORDS_LENGTH_MAX)) for (status, text), count in failures.most_common(3)]
        terminal.line(f"{failures.total():,} requests cannot be answered, whatever the rules:")
        terminal.table(("requests", "status", "because"), shown, numbers=("requests", "status"))
        _say_more(terminal, failures.total() - sum(count for count, _, _ in shown))


def _warnings(report: TrialReport) -> Iterable[str]:
    last = report.outcome.last
    for reason in report.refused:
        yield f"not understood, left out: {reason}"
    if report.refused:
        yield "`kindred publish rules` takes nothing of the file until that is mended."
    if last is not None and last.unusable:
        yield f"on rule-changes, but not understood: {', '.join(last.unusable[:SHOWN_MAX])}"
    if len(report.outcome.offsets) > 1:
        yield "rules changed meanwhile: the answers are not all compared with the same ones"


def _sides(totals: Totals) -> list[tuple[str, str, str, str]]:
    before, after = totals.before, totals.after
    rows = [
        _row(f"first {FIRST}: on sale", _part(before.on_sale, before), _part(after.on_sale, after), 100, 1, " %"),
        _row(
            f"first {FIRST}: low in stock", _part(before.low_stock, before), _part(after.low_stock, after), 100, 1, " %"
        ),
        _row(f"first {FIRST}: visual score", totals.score(before), totals.score(after), 1, 2),
        _row("hits an answer", share(before.hits, before.answers), share(after.hits, after.answers), 1, 1),
        _row("answers without hits", before.empty, after.empty, 1, 0),
    ]
    if (given_up := totals.given_up_where_changed) is not None:
        rows.append((f"first {FIRST}: visual score, where changed", "", "", f"{-given_up:+.2f}"))
    return rows


def _part(count: int, side: Side) -> float | None:
    return share(count, side.first)


def _row(
    name: str, before: float | None, after: float | None, scale: float, digits: int, unit: str = ""
) -> tuple[str, str, str, str]:
    if before is None or after is None:
        return (name, "", "", "")
    difference = round(scale * (after - before), digits)
    told = f"{difference:+,.{digits}f}" if difference else "="
    return name, f"{scale * before:,.{digits}f}{unit}", f"{scale * after:,.{digits}f}{unit}", told


def _rule_row(report: TrialReport, rule_id: str) -> tuple[object, ...]:
    last, count = report.outcome.last, report.outcome.rules.get(rule_id)
    assert last is not None, "nothing was asked"
    before, after, changed = (count.before, count.after, count.changed) if count else (0, 0, 0)
    never = report.never(rule_id)
    return rule_id, last.states[rule_id], f"{before:,}", f"{after:,}", f"{changed:,}", never or ""


def _show_pins(terminal: Terminal, report: TrialReport) -> None:
    """The pins of the file that are not where they are to be."""
    missing = [pin for pin in report.pins() if pin.rule in report.rules and pin.fate != "placed"]
    if not missing:
        return
    placed = Counter[tuple[str, str, int]]()
    for pin in report.outcome.pins.values():
        if pin.fate == "placed":
            placed[pin.rule, pin.item_id, pin.position] += pin.times
    missing.sort(key=lambda pin: (pin.fate == "elsewhere", -pin.times, pin.rule, pin.position))
    rows = [
        (
            pin.item_id,
            pin.position,
            pin.rule,
            f"{placed[pin.rule, pin.item_id, pin.position]:,}",
            f"{pin.times:,}",
            brief(pin.words, WORDS_LENGTH_MAX),
        )
        for pin in missing
    ]
    terminal.line()
    shown = rows[: 2 * SHOWN_MAX] if terminal.for_people else rows
    headings = ("pin", "position", "rule", "placed in", "not in", "because")
    terminal.table(headings, shown, numbers=("position", "placed in", "not in"))
    _say_more(terminal, len(rows) - len(shown))


def _show_examples(terminal: Terminal, report: TrialReport) -> None:
    changed = [each for each in report.changed_entries() if _exchanged(each)]
    shown = changed[:EXAMPLES_MAX]
    rows = []
    for each in shown:
        assert each.comparison is not None, "it changed"
        entered, left = ", ".join(each.comparison.entered), ", ".join(each.comparison.left)
        rows.append((each.source, f"{each.times:,}", brief(entered, WORDS_LENGTH_MAX), brief(left, WORDS_LENGTH_MAX)))
    terminal.line()
    terminal.table(("asked for", "times", "entering", "leaving"), rows, numbers=("times",))
    _say_more(terminal, len(changed) - len(shown))


def _say_more(terminal: Terminal, more: int) -> None:
    if more > 0:
        terminal.line(f"and {more:,} more; --json has them all", style="dim")


def _states(states: Iterable[str]) -> str:
    """`2 new rules, 1 changed`."""
    counts = Counter(states)
    words = {
        "new": "new",
        "changed": "changed",
        "same": "as it is in force",
        "deleted": "deleted",
        "absent": "not there",
    }
    parts = [f"{counts[state]:,} {word}" for state, word in words.items() if counts[state]]
    return "rules: " + (", ".join(parts) or "none")


def _at(counted: Sequence[tuple[str, int]], place: int) -> tuple[str, str]:
    return (counted[place][0], f"{counted[place][1]:,}") if place < len(counted) else ("", "")


def _exchanged(entry: TriedEntry) -> int:
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
        return f"{of or f'all {recorded.taken:,}'} requests of the file{different}"
    newest = f"the newest {recorded.taken:,}"
    if recorded.there is not None:
        newest += f" of {recorded.there:,}" if recorded.there > recorded.taken else ""
    return f"{newest} requests of the last {duration(window_ms)}{different}"
