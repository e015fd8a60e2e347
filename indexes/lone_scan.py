"""A search for one query alone, where all rows lie in deltas: what a shop's requests are when they do not queue up.

It finds what `search.py` finds, to the last bit, in less than half of the time beside the product.  Between two
requests alone the processor's caches are lost, and what costs then is how much different code runs, not how much it
computes.  So what depends on the rows and their weights is laid out once and kept, and a few candidates are ordered as
Python's tuples, not as arrays.  Whatever it is not made for it leaves to `search.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from indexes.delta import BLOCK
from indexes.field import Field, Weights
from indexes.query_plan import Way, delta_way
from indexes.question import Row
from indexes.rows import DELTA
from indexes.selection import adjusted

Floats = NDArray[np.float32]
Scored = tuple[float, tuple[str, int, int, int], float]
"""The score, negative; item id, image, field and ordinal; the similarity that is told.  They sort as they are told."""


class LoneScan:
    """Searches fields for one query after the other; good until one of their shards changes."""

    def __init__(self, fields: Sequence[Field], weights: Sequence[Weights]) -> None:
        """`weights`: what all queries ask of each of the fields; see `suits`."""
        self._fields = fields
        by_field = [
            of.of_delta(field.rows.delta)[0][: field.rows.delta.size] for field, of in zip(fields, weights, strict=True)
        ]
        self._starts = [0, *accumulate(map(len, by_field))]
        joined: Floats = np.concatenate(by_field)
        self._most = joined.max(initial=0)
        self._weights = None if joined.min(initial=1) == self._most == 1 else joined
        """float32[width] by column; None: all are 1."""
        self._even = not any(of.uneven for of in weights)
        self._scores = np.empty((1, len(joined)), np.float32)
        self._products: dict[int, list[tuple[Floats, Floats]]] = {}
        self._rows = sum([field.rows.rows_shown for field in fields])
        self._uneven_rows = self._rows > sum([field.items for field in fields])

    @staticmethod
    def suits(fields: Sequence[Field], weights: Sequence[Weights]) -> bool:
        """Whether a scan of all deltas finds everything, and is the way to it."""
        if not fields or any(list(field.rows.parts) != [DELTA] for field in fields):
            return False
        asked = [of.of_delta(field.rows.delta) for field, of in zip(fields, weights, strict=True)]
        return all(delta_way(matching, len(by_position)) is Way.SCAN for by_position, matching in asked)

    def rows(self, query: Floats, length: Floats | None, count: int) -> list[Row] | None:
        """The best `count` items for a unit query float32[1, D], best first; None: it is not sure of them.

        `length` float32[1] where colour counts: what the similarities that are told are multiplied by.
        """
        wanted = 2 * count if self._uneven_rows else count
        numbers = query.shape[1]
        if length is None:  # no colour is asked for
            numbers -= self._fields[0].settings.colour
        columns = self._candidates(query, numbers, wanted)
        if columns is None:
            return None
        order = self._scored(query, columns, length)
        order.sort()
        if self._uneven_rows:
            first: dict[tuple[int, int], Scored] = {}
            for one in order:
                first.setdefault(one[1][2:], one)
            if len(first) < count and wanted < self._rows:
                return None
            order = list(first.values())
        return [(number, ordinal, image, told) for _, (_, image, number, ordinal), told in order[:count]]

    def _candidates(self, query: Floats, numbers: int, wanted: int) -> NDArray[np.intp] | None:
        """Where the best `wanted` rows are, by the columns of all deltas together, and a few more.

        Of the query only the first `numbers` are not 0.
        `selection.select` for a query whose `wanted` best rows are all similar to it; None: this one's are not.
        """
        width = self._starts[-1]
        block = 4 * BLOCK
        while width // block < 4 * wanted and block > 1:
            block //= 2
        across = width // block
        if across < wanted:
            return None
        products = self._products.get(numbers)
        if products is None:
            products = self._products[numbers] = self._laid_out(numbers)
        looked = query[:, :numbers]
        for rows, into in products:
            np.matmul(looked, rows, out=into)
        line = self._scores[0]
        if self._weights is not None:
            line *= self._weights
        best = line[: across * block].reshape(block, across).max(axis=0)
        best.partition(across - wanted)
        bound = best[across - wanted]
        slack = 2 * (query.shape[1] * 2.0**-23 + 1e-9) * self._most
        if not bound > slack:
            return None
        found: NDArray[np.intp] = (line >= np.float32(bound - slack)).nonzero()[0]
        return found

    def _laid_out(self, numbers: int) -> list[tuple[Floats, Floats]]:
        """By field its vectors' first `numbers` numbers as columns, and where its scores belong."""
        return [
            (field.rows.delta.across[:numbers, : stop - start], self._scores[:, start:stop])
            for field, start, stop in zip(self._fields, self._starts, self._starts[1:], strict=False)
        ]

    def _scored(self, query: Floats, columns: NDArray[np.intp], length: Floats | None) -> list[Scored]:
        """The rows in these columns with their scores, as they are to be ordered."""
        places = columns.tolist()
        cuts = [bisect_left(places, start) for start in self._starts]
        vectors, found = [], []
        for number, field in enumerate(self._fields):
            begin, end = cuts[number], cuts[number + 1]
            if begin < end:
                delta, start = field.rows.delta, self._starts[number]
                ids, owner, image = field.item_ids, delta.owner.item, delta.image.item
                vectors.append(delta.fetch(columns[begin:end] - start))
                for column in places[begin:end]:
                    at = owner(column - start)
                    found.append((ids[at], image(column - start), number, at))
        rows = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
        similarity = np.einsum("kd,d->k", rows, query[0])  # the same additions as for many queries
        score = similarity
        if self._weights is not None and not self._even:
            score = adjusted(similarity, self._weights.take(columns))
        told = similarity if length is None else similarity * length
        return list(zip((-score).tolist(), found, told.tolist(), strict=True))
