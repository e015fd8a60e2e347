"""An explained answer as tables: how each hit came to its place, what was removed by what, pins that are not shown.

A result is read as it came, from whatever version of Kindred: what is missing or of another shape is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streams.reports.terminal import Terminal, brief, printable

WHAT_LENGTH_MAX = 60
TITLE_LENGTH_MIN = 24
HEADINGS = ("rank", "item", "title", "score", "rank score", "by", "what", "factor", "moved")
"""On a pipe."""
FOR_PEOPLE = ("rank", "item, and what moved it", "score", "rank score", "moved")
"""Few enough for 80 characters: what moved a hit stands below it, in the column of its name."""


def show_explained(terminal: Terminal, result: Mapping[str, Any]) -> None:
    """Under each hit a line for each step that moved it; then what was removed, and the pins without a place."""
    rows = [row for place, hit in enumerate(_objects(result.get("hits")), 1) for row in _hit_rows(terminal, place, hit)]
    if rows and terminal.for_people:
        room = terminal.room(FOR_PEOPLE, rows, FOR_PEOPLE[1])
        named = [
            (rank, _cut(what[0], what[1], room) if isinstance(what, tuple) else what, *more)
            for rank, what, *more in rows
        ]
        terminal.table(FOR_PEOPLE, named, numbers=("rank", "score", "rank score"))
    elif rows:
        terminal.table(HEADINGS, rows, numbers=("rank", "score", "rank score", "factor"))
    else:
        terminal.line("Nothing looks alike and passes the filters.", style="yellow")
    explain = _object(result.get("explain"))
    if removed := [_removed_row(terminal, one) for one in _objects(explain.get("removed"))]:
        terminal.line()
        terminal.table(("removed by", "what", "items", "most alike of them"), removed, numbers=("items",))
    missing = [one for one in _objects(explain.get("pins")) if "notShown" in one]
    if missing:
        terminal.line()
        pins = [(one.get("objectID"), one.get("position"), one.get("rule"), one["notShown"]) for one in missing]
        terminal.table(("pin", "position", "rule", "not shown because"), pins, numbers=("position",))


def _hit_rows(terminal: Terminal, place: int, hit: Mapping[str, Any]) -> Iterable[Sequence[object]]:
    """The hit and its look, then its steps; on a pipe each line names the item, for people the first alone."""
    explain = _object(hit.get("_explain"))
    title = str(hit.get("title") or hit.get("name") or "")
    known = (place, hit.get("objectID"), title, _hundredths(hit.get("_score")), _hundredths(hit.get("_rankScore")))
    matched = _object(explain.get("matched"))
    look = f"{matched.get('image')} like {matched.get('sourceImage') or matched.get('source')}" if matched else ""
    if (parts := _object(explain.get("parts"))) and parts.get("colourWeight"):
        shown = (_hundredths(parts.get(name)) for name in ("look", "colour", "colourWeight"))
        look = "look {}, colour {}, which counts {}; ".format(*shown) + look
    reasons = [("look", terminal.brief(look, WHAT_LENGTH_MAX), "", "")]
    if walk := _object(explain.get("walk")):
        reasons.append(("walk", terminal.brief(f"from {walk.get('from')}", WHAT_LENGTH_MAX), "", ""))
    steps = _objects(explain.get("steps"))
    if not terminal.for_people:
        reasons += [
            (_by(step), _what(terminal, step), f"x{times:g}" if (times := _factor(step)) else "", _moved(step))
            for step in steps
        ]
        yield from [(*known, *reason) for reason in reasons]
        return
    rank, item_id, _, *scores = known
    yield (rank, (str(item_id or ""), title), *scores, "")
    for by, what, *_ in reasons:
        if what:
            yield ("", f"  {what}" if by == "look" else f"  {by}: {what}", "", "", "")
    for step in steps:
        score = step.get("score")
        after = _hundredths(score[1]) if isinstance(score, list) and len(score) == 2 else ""
        yield ("", f"  {_in_words(terminal, step)}", "", after, _moved(step))


def _cut(item_id: str, title: str, room: int) -> str:
    """Both on a line, of the title as much as there is room for, or some of it below."""
    item_id, title = printable(item_id), printable(title)
    return "  ".join(filter(None, (item_id, brief(title, max(TITLE_LENGTH_MIN, room - len(item_id) - 2)))))


def _in_words(terminal: Terminal, step: Mapping[str, Any]) -> str:
    """What a step did, and to whom: a hit moves also because others are left out, or moved past it."""
    by, what = _by(step), _what(terminal, step)
    if times := _factor(step):
        return f"{by}: {what} ×{times:g}"
    if step.get("by") == "pin":
        return f"rule {step.get('rule')}: pinned here"
    if step.get("by") in ("fallback", "diversity"):
        return f"{by}: {what or 'fills up'}"
    return "others: " + ({"stock": "out of stock", "pins": "pinned"}.get(by) or f"{by} {what}")


def _removed_row(terminal: Terminal, one: Mapping[str, Any]) -> Sequence[object]:
    examples = [f"{each.get('objectID')} ({_hundredths(each.get('_score'))})" for each in _objects(one.get("examples"))]
    count = one.get("count")
    shown = f"{count:,}" if isinstance(count, int) else ""
    return (
        _by(one),
        _what(terminal, one),
        f"{shown} or more" if one.get("atLeast") else shown,
        ", ".join(examples),
    )


def _by(step: Mapping[str, Any]) -> str:
    return f"{step.get('by')} {step['rule']}" if "rule" in step else str(step.get("by"))


def _what(terminal: Terminal, step: Mapping[str, Any]) -> str:
    return terminal.brief(str(step.get("what") or ""), WHAT_LENGTH_MAX)


def _factor(step: Mapping[str, Any]) -> float | None:
    factor = step.get("factor")
    return factor if isinstance(factor, int | float) and not isinstance(factor, bool) else None


def _moved(step: Mapping[str, Any]) -> str:
    """`4 → 1`; a question mark for a rank that is not known."""
    rank = step.get("rank")
    if not isinstance(rank, list) or len(rank) != 2:
        return ""
    before, after = ["?" if one is None else str(one) for one in rank]
    return before if before == after else f"{before} → {after}"


def _hundredths(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
