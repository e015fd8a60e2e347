"""A trial of rules as tables that are read at a glance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from models.rule_trial import FIRST, Side, Totals, share
from streams.reports.moments import moment
from streams.reports.terminal import Terminal
from streams.trials.report import TrialReport, exchanged

SHOWN_MAX = 8
"""Rows of a list that could be long."""
EXAMPLES_MAX = 5
WORDS_LENGTH_MAX = 100


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
        shown = [
            (count, status, terminal.brief(text, WORDS_LENGTH_MAX)) for (status, text), count in failures.most_common(3)
        ]
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
        _row(f"first {FIRST}: visual score", totals.score(before), totals.score(after), 1, 1),
        _row("hits an answer", share(before.hits, before.answers), share(after.hits, after.answers), 1, 1),
        _row("answers without hits", before.empty, after.empty, 1, 0),
    ]
    if (given_up := totals.given_up_where_changed) is not None:
        rows.append((f"first {FIRST}: visual score, where changed", "", "", f"{-given_up:+.1f}"))
    return rows


def _part(count: int, side: Side) -> float | None:
    return share(count, side.first)


def _row(
    name: str, before: float | None, after: float | None, scale: float, digits: int, unit: str = ""
) -> tuple[str, str, str, str]:
    if before is None or after is None:
        return (name, "", "", "")
    # Of what is shown, so that the table adds up.
    difference = round(round(scale * after, digits) - round(scale * before, digits), digits)
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
            terminal.brief(pin.words, WORDS_LENGTH_MAX),
        )
        for pin in missing
    ]
    terminal.line()
    shown = rows[: 2 * SHOWN_MAX] if terminal.for_people else rows
    headings = ("pin", "position", "rule", "placed in", "not in", "because")
    terminal.table(headings, shown, numbers=("position", "placed in", "not in"))
    _say_more(terminal, len(rows) - len(shown))


def _show_examples(terminal: Terminal, report: TrialReport) -> None:
    changed = [each for each in report.changed_entries() if exchanged(each)]
    shown = changed[:EXAMPLES_MAX]
    rows = []
    for each in shown:
        assert each.comparison is not None, "it changed"
        entered, left = ", ".join(each.comparison.entered), ", ".join(each.comparison.left)
        rows.append(
            (
                each.source,
                f"{each.times:,}",
                terminal.brief(entered, WORDS_LENGTH_MAX),
                terminal.brief(left, WORDS_LENGTH_MAX),
            )
        )
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
