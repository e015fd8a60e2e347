"""Single queries: how well each came out, the best and the worst of them, and sheets on which people can see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.quality.packs import Judged
from models.image import Pixels, shrunk
from streams.reports.contact_sheet import Badge, Card, Row, contact_sheet

SHOWN = 8
"""Queries of a sheet, and hits of each."""
BESIDE = 4
RELEVANT_MIN = 10
"""Pictures of a category that there must be to find: else a query is bad for want of them."""
SIDE_MAX = 336

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """What one model found for every picture of a split, each of the others ranked."""

    model: str
    judged: Judged
    similarity: Float
    """float32[N, N]; -inf where a neighbour does not count."""
    precision: NDArray[np.float64]
    """float64[N]: AP@10 by query; NaN where no picture could have been found."""

    def nearest(self, query: int, count: int = SHOWN) -> list[int]:
        """The pictures found first."""
        return [int(place) for place in np.argsort(-self.similarity[query], kind="stable")[:count]]


def found_by(model: str, judged: Judged, similarity: Float) -> Found:
    """Each query's AP@10, by the definition of `map10`; of `x_map10` where the pack tells contributors apart."""
    similarity = similarity.copy()
    ignored = np.eye(len(similarity), dtype=bool)
    if judged.senders is not None:
        ignored |= judged.senders[:, None] == judged.senders
    similarity[ignored] = -np.inf
    order = np.argsort(-similarity, axis=1, kind="stable")
    relevant = (judged.categories[order] == judged.categories[:, None]) & ~np.take_along_axis(ignored, order, 1)
    there = relevant.sum(1)
    first = relevant[:, :10]
    sums = (first * np.cumsum(first, 1) / np.arange(1, 11)).sum(1)
    precision = np.full(len(similarity), np.nan)
    precision[there > 0] = sums[there > 0] / np.minimum(10, there[there > 0])
    return Found(model, judged, similarity, precision)


def ranked(found: Found) -> list[int]:
    """Queries of categories with pictures enough, best first; of equal ones the more confident first."""
    names, counts = np.unique(found.judged.categories, return_counts=True)
    size = dict(zip(names.tolist(), counts.tolist(), strict=True))
    asked = [
        number
        for number, category in enumerate(found.judged.categories.tolist())
        if size[category] > RELEVANT_MIN and not np.isnan(found.precision[number])
    ]
    top = found.similarity.max(axis=1)
    return sorted(asked, key=lambda number: (-found.precision[number], -top[number]))


def apart(found: Found, queries: Sequence[int], count: int) -> list[int]:
    """The first of the queries, one of a category before a second one."""
    seen: dict[str, int] = {}
    rounds: list[tuple[int, int, int]] = []
    for number in queries:
        category = str(found.judged.categories[number])
        seen[category] = seen.get(category, 0) + 1
        rounds.append((seen[category], len(rounds), number))
    return [number for _, _, number in sorted(rounds)[:count]]


def sheet(found: Found, title: str, queries: Sequence[int]) -> Pixels:
    """uint8[H, W, 3]: queries with what was found; green: of the query's category."""
    rows = [Row([_query(found, number)], _hits(found, number)) for number in queries]
    return contact_sheet(title, f"{found.model} on {found.judged.split}; green: the same category, red: another", rows)


def beside(all_found: Sequence[Found], queries: Sequence[int]) -> Pixels:
    """The same queries, asked of several models one below the other."""
    rows = [
        Row([_query(found, number, found.model)], _hits(found, number)) for number in queries for found in all_found
    ]
    return contact_sheet(
        f"The same pictures, asked of {len(all_found)} models",
        f"{all_found[0].judged.split}; green: the same category",
        rows,
    )


def in_words(found: Found, queries: Sequence[int]) -> list[tuple[str, str, float, str]]:
    """Each query's id, category, AP@10 and the categories of what was found first."""
    told = []
    for number in queries:
        names: Mapping[str, int] = _counted([str(found.judged.categories[hit]) for hit in found.nearest(number, 10)])
        what = ", ".join(f"{count} {name}" for name, count in names.items())
        told.append(
            (found.judged.names[number], str(found.judged.categories[number]), float(found.precision[number]), what)
        )
    return told


def _counted(names: Sequence[str]) -> dict[str, int]:
    """How often each comes, the most frequent first."""
    counts = {name: names.count(name) for name in names}
    return dict(sorted(counts.items(), key=lambda each: -each[1]))


def _query(found: Found, number: int, model: str = "") -> Card:
    category, precision = str(found.judged.categories[number]), f"AP@10 {found.precision[number]:.2f}"
    below = f"{precision} · {category}" if model else precision
    return Card(_picture(found, number), model or category, below, tone="query")


def _hits(found: Found, number: int) -> list[Card]:
    cards = []
    for hit in found.nearest(number):
        category = str(found.judged.categories[hit])
        tone = "good" if category == found.judged.categories[number] else "bad"
        badge = Badge(f"{100 * found.similarity[number, hit]:.1f}", tone)
        cards.append(Card(_picture(found, hit), category, "", (badge,), tone=tone))
    return cards


def _picture(found: Found, number: int) -> Pixels:
    return shrunk(found.judged.whole[number], SIDE_MAX)
