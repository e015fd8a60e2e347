"""What a benchmark found: rows of figures, goals and verdicts; as a table for people and as JSON for programs.

A goal is about one number of its row: its ratio to a baseline that was measured in the same run, or one of its figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.reports.terminal import Terminal

Cell = str | float | int | None


@dataclass(frozen=True)
class Goal:
    """Bounds of a number, both inclusive."""

    at_least: float | None = None
    at_most: float | None = None
    column: str = ""
    """Whose figure it is about; empty: the row's ratio."""

    def __str__(self) -> str:
        parts = [(">=", self.at_least), ("<=", self.at_most)]
        unit = "" if self.column else "×"
        return " ".join(f"{sign} {figure(bound)}{unit}" for sign, bound in parts if bound is not None)

    def met(self, value: float) -> bool:
        """Whether a number lies within; one that is not a number does not."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True)
class Row:
    """One line: what was measured, its figures by column, and what one of them should be."""

    what: str
    figures: Mapping[str, Cell]
    ratio: float | None = None
    """To the baseline; None: this row is the baseline, or has none."""
    goal: Goal | None = None

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or nothing without a goal."""
        value = self.ratio if self.goal is None or not self.goal.column else self.figures.get(self.goal.column)
        if self.goal is None or not isinstance(value, int | float):
            return ""
        return "met" if self.goal.met(value) else "missed"


@dataclass
class Table:
    """What one benchmark found."""

    name: str
    title: str
    columns: Sequence[str]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """How it was measured, as far as a reader has to know it to believe the figures."""

    def add(
        self, what: str, figures: Mapping[str, Cell], *, ratio: float | None = None, goal: Goal | None = None
    ) -> None:
        """Add a row; ValueError for a figure that no column is for."""
        if unknown := figures.keys() - set(self.columns):
            raise ValueError(f"{self.name} has no column {', '.join(sorted(unknown))}")
        self.rows.append(Row(what, figures, ratio, goal))

    def show(self, terminal: Terminal) -> None:
        """Write it: rich on a terminal, cells between tabs on a pipe."""
        headings = ["", *self.columns, "ratio", "goal", "verdict"]
        rows = [
            [
                row.what,
                *(figure(row.figures.get(column)) for column in self.columns),
                "" if row.ratio is None else f"{figure(row.ratio)}×",
                str(row.goal or ""),
                row.verdict,
            ]
            for row in self.rows
        ]
        terminal.line(f"{self.name}: {self.title}", style="bold")
        terminal.table(headings, rows, numbers=[*self.columns, "ratio", "goal"])
        for note in self.notes:
            terminal.line(f"  {note}", style="dim")
        terminal.line()

    def json(self) -> dict[str, Any]:
        """The same for programs, unrounded."""
        return {
            "name": self.name,
            "title": self.title,
            "rows": [
                {
                    "what": row.what,
                    "figures": dict(row.figures),
                    "ratio": row.ratio,
                    "goal": str(row.goal) if row.goal else None,
                    "verdict": row.verdict or None,
                }
                for row in self.rows
            ],
            "notes": self.notes,
        }


def figure(value: Cell) -> str:
    """A number with three digits that count and commas between thousands; text as it is, None as nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    decimals = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{decimals}f}"
