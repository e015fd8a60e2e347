"""Where commands write: for people on a terminal, plain on a pipe.

Item ids, titles and reasons come from strangers: `printable` makes them harmless, and nothing here reads rich's markup.
On a pipe a table is its heading and its rows with a tab between cells, and progress is now and then a line on stderr.
"""

from __future__ import annotations

import contextlib
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import orjson
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from models.errors import BadRequest

PROGRESS_LINE_EVERY_S = 5.0
GAP = 3
"""Characters between two columns."""
CUT_WIDTH_MIN = 8


class Report(Protocol):
    """What a command found out."""

    def as_json(self) -> Any:
        """All of it for scripts."""


Found = TypeVar("Found", bound=Report)


def printable(text: str) -> str:
    """The text on one line, with everything that could move a cursor, hide or reverse text written as an escape."""
    if text.isprintable():
        return text
    return "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    if character.isprintable():
        return character
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode("ascii")


def brief(text: str, length_max: int) -> str:
    """At most so many characters of it, cut with an ellipsis."""
    return text if len(text) <= length_max else text[: length_max - 1] + "…"


def _at(cells: Sequence[Sequence[str]], column: int) -> Iterator[str]:
    return (row[column] for row in cells)


class Terminal:
    """Standard output and error of a command."""

    def __init__(self, out: IO[str] | None = None, error: IO[str] | None = None) -> None:
        plain: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False, "soft_wrap": True}
        self.out = out or sys.stdout
        self.error = error or sys.stderr
        self._console = Console(file=self.out, **plain)
        self._error_console = Console(file=self.error, **plain)

    @property
    def for_people(self) -> bool:
        """Whether standard output is a terminal."""
        return self._console.is_terminal

    def brief(self, text: str, length_max: int) -> str:
        """For people at most so many characters, or as many as half a line has if that is more; on a pipe all of it."""
        return brief(text, max(length_max, self._console.width // 2)) if self.for_people else text

    def room(self, headings: Sequence[str], rows: Sequence[Sequence[object]], column: str) -> int:
        """Characters that the other columns of a table leave to one on the terminal."""
        cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
        others = [n for n, heading in enumerate(headings) if heading != column and (not cells or any(_at(cells, n)))]
        widths = [max(map(cell_len, (headings[n], *_at(cells, n)))) for n in others]
        return max(CUT_WIDTH_MIN, self._console.width - sum(widths) - GAP * len(others) - GAP + 1)

    def line(self, text: str = "", style: str | None = None) -> None:
        """One line.  `style` is rich's (`bold`, `green`, ...), seen on a terminal only."""
        self._write(self._console, text, style)

    def note(self, text: str, style: str | None = None) -> None:
        """One line on standard error: a hint, a warning, an account of progress."""
        self._write(self._error_console, text, style)

    def table(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[object]],
        numbers: Sequence[str] = (),
        cut: str | None = None,
    ) -> None:
        """Rows under headings; the columns named in `numbers` are aligned to the right.  None is shown as nothing.

        On a terminal columns with nothing in them are left out, and the column `cut` is cut to the width that the
        others leave; on a pipe a column keeps its place, and all of it.
        """
        cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
        if not self.for_people:
            for line in (list(headings), *cells):
                self._write(self._console, "\t".join(line), None, escape=False)
            return
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        kept = [number for number in range(len(headings)) if not cells or any(row[number] for row in cells)]
        if cut is not None and (at := headings.index(cut)) in kept:
            left = self.room(headings, rows, cut)
            cells = [[brief(text, left) if n == at else text for n, text in enumerate(row)] for row in cells]
        for heading in (headings[number] for number in kept):
            right = heading in numbers
            table.add_column(
                Text(heading), justify="right" if right else "left", no_wrap=right or heading == cut, overflow="fold"
            )
        for row in cells:
            table.add_row(*(Text(row[number]) for number in kept))
        self._console.print(table, soft_wrap=False)

    def json(self, value: object, *, one_line: bool = False) -> None:
        """A value as JSON, indented unless it is one of many lines."""
        text = orjson.dumps(value, option=0 if one_line else orjson.OPT_INDENT_2).decode()
        self._write(self._console, text, None, escape=False)

    def report(self, report: Found, show: Callable[[Terminal, Found], None], as_json: bool) -> None:
        """What a command found out: as JSON for scripts, or as `show` has it for people."""
        if as_json:
            self.json(report.as_json())
        else:
            show(self, report)

    def file(self, path: Path, content: bytes) -> None:
        """A file that was asked for.  BadRequest where it cannot be written."""
        try:
            path.write_bytes(content)
        except OSError as error:
            raise BadRequest(f"{path} cannot be written: {error.strerror or error}") from None

    @contextlib.contextmanager
    def progress(self, verb: str, unit: str, total: int | None) -> Iterator[Advance]:
        """Show how far something has come, on standard error.  `total` None: it is not known."""
        if not self._error_console.is_terminal:
            yield _Lines(self, verb, unit, total)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._error_console, transient=True) as shown:
            yield _Bar(shown, shown.add_task(verb, total=total, rate=""), unit)

    @staticmethod
    def _write(console: Console, text: str, style: str | None, escape: bool = True) -> None:
        # Not through rich's own layout on a pipe: it would expand the tabs between the cells of a table.
        shown = printable(text) if escape else text
        if console.is_terminal:
            console.print(Text(shown, style=style or ""))
        else:
            console.file.write(shown + "\n")


class Advance:
    """Counts what is done."""

    def __init__(self) -> None:
        self.done = 0
        self.started = time.monotonic()

    def __call__(self, count: int = 1) -> None:
        self.done += count

    @property
    def seconds(self) -> float:
        """Since the beginning; never zero."""
        return max(time.monotonic() - self.started, 1e-6)

    @property
    def rate(self) -> float:
        """Per second, since the beginning."""
        return self.done / self.seconds


class _Bar(Advance):
    def __init__(self, shown: Progress, task: TaskID, unit: str) -> None:
        super().__init__()
        self._shown, self._task, self._unit = shown, task, unit

    def __call__(self, count: int = 1) -> None:
        super().__call__(count)
        self._shown.update(self._task, completed=self.done, rate=f"{self.rate:,.0f} {self._unit}/s")


class _Lines(Advance):
    def __init__(self, terminal: Terminal, verb: str, unit: str, total: int | None) -> None:
        super().__init__()
        self._terminal, self._verb, self._unit = terminal, verb, unit
        self._of = f" of {total:,}" if total is not None else ""
        self._told_at = self.started

    def __call__(self, count: int = 1) -> None:
        super().__call__(count)
        if time.monotonic() - self._told_at >= PROGRESS_LINE_EVERY_S:
            self._told_at = time.monotonic()
            self._terminal.note(f"{self._verb} {self.done:,}{self._of} {self._unit}, {self.rate:,.0f}/s")
