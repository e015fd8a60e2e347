"""The model's card, `docs/model.md`: its tables of figures, written by `make quality` and read by the floor's test.

A part that is written stands between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.quality.packs import ROOT, TEST, VAL, Split

CARD = ROOT / "docs" / "model.md"
MODES = ("plain", "centred")
"""How vectors are compared: as they come, or less the catalog's mean."""
DEFAULT = "default"
"""How the product compares where nothing is set: centred, and colour counts as `KINDRED_COLOUR` says by default."""
SHIPPED_ROW = "**Kindred**"
LABELS = {"clothing": ("p10", "x_map10", "rprec"), "grocery": ("p10", "map10", "rprec")}
COLUMNS: dict[str, tuple[tuple[Split, str], ...]] = {
    "test": tuple((split, figure) for split in TEST for figure in (*LABELS[split.pack], "mrr", "mrr_hard")),
    "val": tuple(
        (split, figure) for split in VAL for figure in (*LABELS.get(split.pack, ("p10", "map10")), "mrr_hard")
    ),
}
"""Of each table, which figure of which split."""

Figures = Mapping[tuple[str, str], Mapping[Split, Mapping[str, float]]]
"""By row (what, how compared), then by split, then by name."""


def headings(table: str) -> list[str]:
    """Of a table's columns."""
    return ["model", "compared", *(f"{split.pack} {figure}" for split, figure in COLUMNS[table])]


def rows(table: str, figures: Figures) -> list[list[str]]:
    """A table's cells; nothing where a figure was not computed."""
    out = []
    for (what, mode), by_split in figures.items():
        cells = [by_split.get(split, {}).get(figure) for split, figure in COLUMNS[table]]
        out.append([what, mode, *("" if cell is None else f"{cell:.3f}".lstrip("0") for cell in cells)])
    return out


def markdown(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [heads, ["---"] * len(heads), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def part(name: str, text: str) -> str:
    """What stands in a part of a card; ValueError where it has none of that name."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"expected a part between <!-- {name} --> and <!-- /{name} -->")
    return found[1]


def with_part(name: str, content: str, text: str) -> str:
    """The card with a part replaced."""
    part(name, text)
    return re.sub(
        rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
        lambda found: f"{found[1]}{content}\n{found[2]}",
        text,
        flags=re.DOTALL,
    )


def read_figures(table: str, path: Path = CARD) -> dict[tuple[str, str], dict[tuple[Split, str], float]]:
    """The figures that the card tells, by row and column."""
    lines = [line.strip("| \n").split(" | ") for line in part(table, path.read_text()).splitlines()]
    if lines[0] != headings(table):
        raise ValueError(f"{path}: expected the columns {headings(table)}, got {lines[0]}")
    return {
        (line[0], line[1]): {column: float(cell) for column, cell in zip(COLUMNS[table], line[2:], strict=True) if cell}
        for line in lines[2:]
    }
