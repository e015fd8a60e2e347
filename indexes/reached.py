"""The last step of a search: of the rows that were reached, the best of each item, in their order.

Rows are scored here in a fixed order of additions, whatever chose them: what is told and ordered by comes from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.field import Candidates, Field, Found
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
    query, source, weight = reached.query, reached.source, reached.weight
    similarity = np.empty(len(query), np.float32)
    owner = np.empty(len(query), np.int32)
    image = np.empty(len(query), np.int16)
    field = np.empty(len(query), np.int16)
    for number, one in enumerate(sources):
        at = np.flatnonzero(source == number)
        if len(at):
            positions = reached.position[at]
            vectors, askers = one.part.fetch(positions), queries.take(query[at], axis=0)
            similarity[at] = np.einsum("kd,kd->k", vectors, askers)
            owner[at] = one.part.owner[positions]
            image[at] = one.part.image[positions]
            field[at] = one.field
    score = adjusted(similarity, weight)
    order = np.lexsort((-score, query))
    score, query, field, owner, image = score[order], query[order], field[order], owner[order], image[order]
    tied = np.flatnonzero((score[1:] == score[:-1]) & (query[1:] == query[:-1]))
    if len(tied):
        again = _untie(fields, tied, score, field, owner, image)
        order, query, field, owner, image = order[again], query[again], field[again], owner[again], image[again]
    if uneven_rows:
        items = (query * len(fields) + field) * (np.int64(1) << 32) + owner
        first = np.sort(np.unique(items, return_index=True)[1])
        order, query, field, owner, image = order[first], query[first], field[first], owner[first], image[first]
    starts = np.searchsorted(query, np.arange(len(queries) + 1))
    first = np.flatnonzero(np.arange(len(query)) - starts[query] < count)
    order = order[first]
    candidates = Candidates(owner[first], similarity[order], image[first], field[first], weight[order])
    return Found(candidates, np.searchsorted(first, starts).tolist())


def _untie(
    fields: Sequence[Field],
    tied: Ints,
    score: Floats,
    field: NDArray[np.int16],
    owner: NDArray[np.int32],
    image: NDArray[np.int16],
) -> Ints:
    """An order in which rows of equal score follow each other by item id, then image."""
    order = np.arange(len(score))
    begin = 0
    ends = [*np.flatnonzero(np.diff(tied) > 1).tolist(), len(tied) - 1]
    for end in ends:
        run = np.arange(tied[begin], tied[end] + 2)
        ids = [(fields[field[at]].item_ids[owner[at]], image[at], at) for at in run.tolist()]
        order[run] = [at for _, _, at in sorted(ids)]
        begin = end + 1
    return order
