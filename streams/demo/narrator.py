"""The tour as text: tables with before and after, times and reasons, in colour on a terminal and plain on a pipe."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from streams.demo.page import moves
from streams.demo.steps import LeftOut
from streams.demo.tour_steps import ShownAlert, ShownEvent, ShownItem, TourStep
from streams.reports.moments import duration
from streams.reports.terminal import Terminal, printable
from streams.topics import ITEM_ALERTS

WIDTH_MAX = 120
PLAIN_WIDTH = 110
"""On a pipe, which has none."""
ITEM_LENGTH_MIN = 11
TITLE_LENGTH_MIN = 9
WIDE = 96
"""Columns from which a table has room between its own."""
INDENT = 3
NAME_WIDTH = 9
NUMBERS = ("rank", "was", "score", "rank score", "ranks", "price", "stock")


class Narrator:
    """Writes on standard output what the tour shows."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        plain = None if terminal.for_people else PLAIN_WIDTH
        self._console = Console(file=terminal.out, markup=False, highlight=False, emoji=False, width=plain)
        if self._console.width > WIDTH_MAX:
            self._console.width = WIDTH_MAX

    def heading(self, text: str) -> None:
        """A line with air around it."""
        self._print()
        self._print(Text(printable(text), style="bold"))

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and what is known of them; a row without a name goes on with the one before."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(min_width=NAME_WIDTH, style="dim", no_wrap=True)
        table.add_column()
        for name, text in rows:
            table.add_row(name, Text(printable(text)))
        self._indented(table)

    def step(self, number: int, step: TourStep) -> None:
        """A step with its events, its tables and what is to be said of it."""
        self.heading(f"{number}  {step.title}")
        for line in [*map(_event, step.events), *([_alert(step.alert)] if step.alert else [])]:
            line.truncate(self._console.width - INDENT, overflow="ellipsis")
            self._indented(line)
        self._indented(_table(step, self._console.width - INDENT))
        mark = ("✓ ", "bold green") if step.passed else ("✗ ", "bold red")
        times = "; ".join(f"{_time(ms)} {what}" for what, ms in step.timings)
        told = Text.assemble(mark, (f"{times}. " if times else "", "bold"), printable(step.reason))
        self._indented(told)

    def left_out(self, number: int, step: LeftOut) -> None:
        """A step that this catalog cannot show."""
        self.heading(f"{number}  {step.title}")
        self._indented(Text.assemble(("– not shown: ", "yellow"), printable(step.reason)))

    def verdict(self, taken: int, failed: int, left_out: int) -> None:
        """How the tour came out."""
        self._print()
        told = (f"✗ {failed} of {taken} steps did not come out as they should", "bold red")
        if not failed:
            told = (f"✓ all {taken} steps came out", "bold green")
        self._print(Text.assemble(told, f"; {left_out} could not be shown" if left_out else ""))

    def invitation(self, environment: Mapping[str, str], web: str, item_id: str, hit_id: str) -> None:
        """What can be tried while everything stays up."""
        self.heading("Everything stays up until Ctrl-C.  In another terminal:")
        folder = "" if shutil.which("kindred") else f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH "
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
        item, hit = shlex.quote(item_id), shlex.quote(hit_id)
        self._verbatim(
            [
                f"export {folder}{variables}",
                f"kindred similar {item} -n 5",
                f"kindred item {hit}",
                f"kindred publish stock {shlex.quote(hit_id + '=0')}",
                f"kindred similar {item} -n 5",
                "kindred status",
            ]
        )
        self._print()
        self.facts([("broker", environment["KINDRED_BROKER"]), ("web page", f"http://{web}/")])

    def _verbatim(self, lines: Sequence[str]) -> None:
        """Lines to be copied: never wrapped by us."""
        for line in lines:
            self._console.print(Text(" " * INDENT + printable(line), style="cyan"), soft_wrap=True)

    def _indented(self, what: Text | Table) -> None:
        self._print(Padding(what, (0, 0, 0, INDENT)))

    def _print(self, what: RenderableType = "") -> None:
        """Print without the blanks that rich fills its lines with."""
        with self._console.capture() as capture:
            self._console.print(what)
        self._console.file.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))
        self._console.file.flush()


def _event(event: ShownEvent) -> Text:
    """An event on one line; of a record what changed."""
    told = Text.assemble((event.topic, "magenta"), (" ← ", "dim"), (printable(event.key), "bold"), "  ")
    told.append(_value(event.value, event.changed))
    return told.append("  (a tombstone)" if event.value is None else "")


def _alert(alert: ShownAlert) -> Text:
    """An alert on one line: read, where an event is written."""
    told = Text.assemble((ITEM_ALERTS, "magenta"), (" → ", "dim"), (printable(alert.key), "bold"), "  ")
    return told.append(f"after {_time(alert.after_ms)}  ", style="bold").append(_value(alert.value, ("alert",)))


def _value(value: Any, wanted: Collection[str]) -> str:
    """A message's value as JSON; of an object only the attributes that are wanted, if any are."""
    if not (wanted and isinstance(value, Mapping)):
        return printable(json.dumps(value, ensure_ascii=False))
    part = {name: value[name] for name in wanted}
    text = json.dumps(part, ensure_ascii=False)
    return printable(text[:-1] + ", …}" if len(value) > len(part) else text)


def _table(step: TourStep, width: int) -> Table:
    """The answer after the event, with the places before; what has vanished stands at its old place."""
    compared = step.before is not None
    wide = width >= WIDE
    ranks = ("rank", "was", "move") if compared else ("rank",)
    headings = (*ranks, "item", "title", "score", "rank score" if wide else "ranks", "price", "stock")
    places = {item.item_id: place for place, item in enumerate(step.before or (), start=1)}
    moved = moves(step.before or (), step.after)
    rows = []
    for rank, item in _lines(step):
        was = places.get(item.item_id)
        moves_ = [Text(str(was or "")), _arrow(rank, moved.get(item.item_id), item.in_focus)] if compared else []
        rows.append([Text(str(rank or "")), *moves_, *(Text(printable(cell)) for cell in _cells(item))])
    _fit(headings, rows, width - (2 if wide else 1) * len(headings) - 1)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, int(wide), 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right" if heading in NUMBERS else "left", no_wrap=True)
    for row, (_, item) in zip(rows, _lines(step), strict=True):
        table.add_row(*row, style="bold" if item.in_focus else None)
    return table


def _fit(headings: Sequence[str], rows: Sequence[Sequence[Text]], width: int) -> None:
    """Cut ids and titles, and nothing else, so that all columns together are at most `width`."""
    widths = [max([len(heading), *(row[place].cell_len for row in rows)]) for place, heading in enumerate(headings)]
    item, title = headings.index("item"), headings.index("title")
    others = sum(widths) - widths[item] - widths[title]
    item_width = min(widths[item], max(ITEM_LENGTH_MIN, width - others - widths[title]))
    title_width = min(widths[title], max(TITLE_LENGTH_MIN, width - others - item_width))
    for row in rows:
        row[item].truncate(item_width, overflow="ellipsis")
        row[title].truncate(title_width, overflow="ellipsis")


def _lines(step: TourStep) -> Iterator[tuple[int | None, ShownItem]]:
    """The rows: (rank, hit) of the answer after, and (None, hit) of the hit in focus that has left it."""
    left = [
        (place, item)
        for place, item in enumerate(step.before or ())
        if item.in_focus and item.item_id not in {each.item_id for each in step.after}
    ]
    for place, item in enumerate(step.after):
        for _, gone in [each for each in left if each[0] == place]:
            yield None, gone
        yield place + 1, item
    for _, gone in [each for each in left if each[0] >= len(step.after)]:
        yield None, gone


def _arrow(rank: int | None, by: int | None, in_focus: bool) -> Text:
    if rank is None:
        return Text("✕ gone", style="red")
    if by is None:
        return Text("✦ new", style="bold blue") if in_focus else Text("▲ in", style="dim")
    if not by:
        return Text("")
    style = ("green" if by > 0 else "red") if in_focus else "dim"
    return Text(f"▲ {by}" if by > 0 else f"▼ {-by}", style=style)


def _cells(item: ShownItem) -> tuple[str, ...]:
    price = "" if item.price is None else f"{item.price:,.2f}"
    stock = "" if item.stock is None else f"{item.stock:g}"
    return (
        item.item_id,
        item.title,
        "" if item.score is None else f"{item.score:.1f}",
        "" if item.rank_score is None else f"{item.rank_score:.1f}",
        ("sale " if item.on_sale else "") + price,
        ("low " if item.low_stock else "") + stock,
    )


def _time(ms: float) -> str:
    return duration(ms) if ms >= 10 else f"{ms:.1f} ms"
