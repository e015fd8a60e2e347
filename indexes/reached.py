"""The last step of a search: of the rows that were reached, the best of each item, in their order.

Rows are scored here in a fixed order of additions, whatever chose them: what is told and ordered by comes from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.field import NOTHING, Candidates, Field, Found
from indexes.rows import Part
from indexes.selection import adjusted

Floats = NDArray[np.float32]
Queries = NDArray[np.float32]
Ints = NDArray[np.intp]


class Reached(NamedTuple):
    """Rows that may be among the best: of which query, source and position, and the row's weight."""

    query: Ints
    source: Ints
    position: Ints
    weight: Floats


class Source(NamedTuple):
    """A part of a shard: which field it is of, and its slot there."""

    field: int
    slot: int
    part: Part


def together(found: list[Reached]) -> Reached:
    """Those of all, one after the other."""
    if len(found) == 1:
        return found[0]
    if not found:
        none = np.zeros(0, np.intp)
        return Reached(none, none, none, np.zeros(0, np.float32))
    return Reached(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def best(
    reached: Reached,
    fields: Sequence[Field],
    sources: Sequence[Source],
    queries: Queries,
    count: int,
    *,
    uneven_rows: bool,
) -> Found:
    """Score the candidates exactly, order them, keep each item's best row and the first `count` items.

    `uneven_rows`: an item may have several rows.
    """
    if not len(reached.query):
        return Found(NOTHING, [0] * (len(queries) + 1))
    reached = _by_source(reached)
    query, weight = reached.query, reached.weight
    ends = np.searchsorted(reached.source, np.arange(len(sources)), side="right").tolist()
    spans = [(one, start, end) for one, (start, end) in zip(sources, pairwise([0, *ends]), strict=True) if end > start]
    places = [reached.position[start:end] for _, start, end in spans]
    vectors = _joined([one.part.fetch(at) for (one, _, _), at in zip(spans, places, strict=True)])
    owner = _joined([one.part.owner.take(at) for (one, _, _), at in zip(spans, places, strict=True)])
    image = _joined([one.part.image.take(at) for (one, _, _), at in zip(spans, places, strict=True)])
    field = np.repeat(np.array([one.field for one, _, _ in spans], np.int16), [end - start for _, start, end in spans])
    similarity = np.einsum("kd,kd->k", vectors, queries.take(query, axis=0))
    score = adjusted(similarity, weight)
    order = np.lexsort((-score, query))
    ordered, asker = score[order], query[order]
    tied = np.flatnonzero((ordered[1:] == ordered[:-1]) & (asker[1:] == asker[:-1]))
    if len(tied):
        order = order[_untie(fields, tied, len(order), field[order], owner[order], image[order])]
        asker = query[order]
    if uneven_rows:
        items = (asker * len(fields) + field[order]) * (np.int64(1) << 32) + owner[order]
        first = np.sort(np.unique(items, return_index=True)[1])
        order, asker = order[first], asker[first]
    if len(queries) == 1:
        order = order[:count]
        bounds = [0, len(order)]
    else:
        starts = np.searchsorted(asker, np.arange(len(queries) + 1))
        first = np.flatnonzero(np.arange(len(asker)) - starts[asker] < count)
        order = order[first]
        bounds = np.searchsorted(first, starts).tolist()
    return Found(Candidates(owner[order], similarity[order], image[order], field[order], weight[order]), bounds)


def _by_source(reached: Reached) -> Reached:
    """The same rows, those of a source together."""
    if not np.count_nonzero(reached.source[1:] < reached.source[:-1]):
        return reached
    order = np.argsort(reached.source, kind="stable")
    return Reached(reached.query[order], reached.source[order], reached.position[order], reached.weight[order])


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _untie(
    fields: Sequence[Field],
    tied: Ints,
    rows: int,
    field: NDArray[np.int16],
    owner: NDArray[np.int32],
    image: NDArray[np.int16],
) -> Ints:
    """An order in which rows of equal score follow each other by item id, then image."""
    order = np.arange(rows)
    begin = 0
    ends = [*np.flatnonzero(np.diff(tied) > 1).tolist(), len(tied) - 1]
    for end in ends:
        run = np.arange(tied[begin], tied[end] + 2)
        ids = [(fields[field[at]].item_ids[owner[at]], image[at], at) for at in run.tolist()]
        order[run] = [at for _, _, at in sorted(ids)]
        begin = end + 1
    return order
