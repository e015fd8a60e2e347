"""The search: queries in, the best rows of one or several shards out, each item once.

1. Queries with the same mask and factors (the same objects) are a group.  A group's weight of a row is its item's
   factor, or 0 where the row is not shown or not allowed.
2. For every group and part of a shard, `query_plan` says which way: scan all rows, gather the matching ones, or trees.
3. Scanning multiplies all queries by all rows at once.  The best of each block of rows gives a bound that at least
   `wanted` rows reach; whatever reaches it is a candidate.
4. Candidates are scored again in a fixed order of additions (`reached.py`), ordered by adjusted similarity, then item
   id, then image; the first `count` items are the answer.

Matrix products differ in their last bits with the shape of the batch and of the part.  They only choose candidates,
with some slack; what is told and ordered by comes from step 4 alone.  So the same rows give the same bytes in whatever
layout they lie (as long as no trees are asked, which may miss a neighbour).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from indexes.field import NOTHING, Candidates, Field, Found, Groups, Weights
from indexes.query_plan import Way, delta_way, segment_way, trees_count
from indexes.reached import Floats, Ints, Queries, Reached, Source, best, together
from indexes.rows import DELTA
from indexes.selection import select

__all__ = ["Candidates", "Field", "search"]

GATHER_ROWS_MAX = 65_536
"""Rows that are copied together at once: 32 MiB at 128 dimensions."""


def search(fields: Sequence[Field], queries: Queries, count: int) -> list[Candidates]:
    """For each of the centred unit queries float32[B, D] the best `count` items of all fields together."""
    return search_together(fields, queries, count).apart()


def search_together(fields: Sequence[Field], queries: Queries, count: int, kept: Groups | None = None) -> Found:
    """The same, those of all queries one after the other.

    `kept` is what another search of the same fields, none of which has changed, had there: whoever asks for the same
    masks and factors again has their weights.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if not fields or not len(queries):
        return Found(NOTHING, [0] * (len(queries) + 1))
    run = _Run(fields, queries, {} if kept is None else kept)
    wanted = 2 * count if run.uneven_rows else count
    found = run.best(run.collect(np.arange(len(queries)), wanted), count)
    while run.uneven_rows and wanted < run.rows:  # an item's further images may have taken the places of other items
        lacking = np.flatnonzero(np.diff(found.bounds) < count)
        if not len(lacking):
            break
        wanted *= 4
        found = found.replaced(lacking.tolist(), run.best(run.collect(lacking, wanted), count))
    return found


class _Run:
    def __init__(self, fields: Sequence[Field], queries: Queries, kept: Groups) -> None:
        self.fields = fields
        self.queries = queries
        self.rows = sum([field.rows.rows_shown for field in fields])
        self.uneven_rows = self.rows > sum([field.items for field in fields])
        self.sources = [
            Source(number, slot, part) for number, field in enumerate(fields) for slot, part in field.rows.parts.items()
        ]
        self.scratch = fields[0].rows.scratch
        colour = fields[0].settings.colour
        self.numbers = queries.shape[1]
        """Of each row that a scan multiplies: where no query asks for colour, not its."""
        if colour and not np.count_nonzero(queries[:, -colour:]):
            self.numbers -= colour
        self.error = queries.shape[1] * 2.0**-23 + 1e-9
        groups: dict[tuple[int, ...], int] = {}
        self.group_of = np.zeros(len(queries), np.intp)
        self.weights: list[list[Weights]] = []
        asked = [map(id, by_query) for field in fields for by_query in (field.allowed, field.factors)]
        for number, key in enumerate(zip(*asked, strict=True)):
            group = groups.setdefault(key, len(groups))
            if group == len(self.weights):
                if key not in kept:
                    kept[key] = [Weights(field.allowed[number], field.factors[number]) for field in fields]
                self.weights.append(kept[key])
            self.group_of[number] = group

    # Candidates

    def collect(self, numbers: Ints, wanted: int) -> Reached:
        """Candidates of these queries: at least the best `wanted` rows of each that has so many."""
        found: list[Reached] = []
        scans: list[tuple[int, list[tuple[int, Floats]]]] = []
        for group, mine in self._by_group(numbers):
            scanned: list[tuple[int, Floats]] = []
            gathered: list[tuple[int, Ints, Floats]] = []
            for number, source in enumerate(self.sources):
                if source.slot != DELTA:
                    self._segment(number, group, mine, wanted, gathered, found)
                    continue
                weights, matching = self.weights[group][source.field].of_delta(self.fields[source.field].rows.delta)
                way = delta_way(matching, len(weights))
                if way is Way.SCAN:
                    scanned.append((number, weights))
                elif way is Way.GATHER:
                    positions = np.flatnonzero(weights)
                    gathered.append((number, positions, weights[positions]))
            if scanned and sum(len(weights) for _, weights in scanned) < 4 * wanted:
                gathered += [(number, at := np.flatnonzero(weights), weights[at]) for number, weights in scanned]
                scanned = []
            if gathered:
                found += self._gather(gathered, mine, wanted)
            if scanned:
                scans.append((group, scanned))
        if scans:
            found.append(self._scan(numbers, scans, wanted))
        return together(found)

    def _by_group(self, numbers: Ints) -> list[tuple[int, Ints]]:
        """These queries by group."""
        if len(self.weights) == 1:
            return [(0, numbers)]
        groups = self.group_of[numbers]
        return [(group, numbers[groups == group]) for group in np.unique(groups).tolist()]

    def _scan(self, numbers: Ints, scans: list[tuple[int, list[tuple[int, Floats]]]], wanted: int) -> Reached:
        """Multiply all queries of some groups by all rows of some deltas."""
        widths = {number: len(weights) for _, scanned in scans for number, weights in scanned}
        sources = sorted(widths)
        starts = [0, *accumulate([widths[number] for number in sources])]
        start_of = dict(zip(sources, starts, strict=False))
        width = starts[-1]
        weights = np.zeros((len(scans), width), np.float32)
        line_of = [-1] * len(self.weights)
        for line, (group, scanned) in enumerate(scans):
            line_of[group] = line
            for number, by_position in scanned:
                weights[line, start_of[number] : start_of[number] + len(by_position)] = by_position
        lines = np.array(line_of)[self.group_of[numbers]]
        mine = numbers
        if len(scans) < len(self.weights):
            mine, lines = numbers[lines >= 0], lines[lines >= 0]
        queries = self.queries if len(mine) == len(self.queries) else self.queries[mine]
        scores = self.scratch.scores(len(mine), width)
        for number, start, stop in zip(sources, starts, starts[1:], strict=False):
            part, by_position = scores[:, start:stop], weights[:, start:stop]
            across = self.fields[self.sources[number].field].rows.delta.across
            np.matmul(queries[:, : self.numbers], across[: self.numbers, : stop - start], out=part)
            part *= by_position if len(scans) == 1 else by_position[lines]  # while it is still in the cache
        asker, column = select(scores, weights, lines, wanted, self.error, self.scratch)
        bounds = np.array(starts)
        which = np.searchsorted(bounds, column, side="right") - 1
        return Reached(mine[asker], np.array(sources)[which], column - bounds[which], weights[lines[asker], column])

    def _gather(self, gathered: list[tuple[int, Ints, Floats]], mine: Ints, wanted: int) -> list[Reached]:
        """Copy matching rows together and score them exactly, some ten thousand at a time."""
        found = []
        queries = self.queries[mine]
        for chunk in _chunks(gathered):
            source = np.concatenate([np.full(len(positions), number) for number, positions, _ in chunk])
            position = np.concatenate([positions for _, positions, _ in chunk])
            weight = np.concatenate([weights for _, _, weights in chunk])
            if len(position) <= wanted:
                line = np.repeat(np.arange(len(mine)), len(position))
                column = np.tile(np.arange(len(position)), len(mine))
            else:
                rows = [self.sources[number].part.fetch(positions) for number, positions, _ in chunk]
                scores = self.scratch.scores(len(mine), len(position))
                np.matmul(queries, (rows[0] if len(rows) == 1 else np.concatenate(rows)).T, out=scores)
                scores *= weight
                line, column = select(
                    scores, weight[None], np.zeros(len(mine), np.intp), wanted, self.error, self.scratch
                )
            found.append(Reached(mine[line], source[column], position[column], weight[column]))
        return found

    def _segment(
        self,
        number: int,
        group: int,
        mine: Ints,
        wanted: int,
        gathered: list[tuple[int, Ints, Floats]],
        found: list[Reached],
    ) -> None:
        """A segment's part: its matching rows to be gathered, or what its trees know."""
        source = self.sources[number]
        field, weights = self.fields[source.field], self.weights[group][source.field]
        if weights.matching is None:
            weights.matching = weights.items(field.items)
        rows = source.part.live
        matching = -(-weights.matching * rows // max(field.items, 1))
        way = segment_way(matching, rows, wanted, len(mine), field.settings)
        left = mine
        if way is Way.TREES:
            asked = trees_count(matching, source.part.size, wanted, field.settings, uneven=weights.uneven)
            failed = []
            for query in mine.tolist():
                positions = source.part.near(self.queries[query], asked)  # type: ignore[attr-defined]
                by_position = weights.at(source.part, positions)
                keep = np.flatnonzero(by_position)
                if len(keep) < min(wanted, matching):
                    failed.append(query)
                    continue
                sources, queries = np.full(len(keep), number), np.full(len(keep), query)
                found.append(Reached(queries, sources, positions[keep], by_position[keep]))
            left = np.array(failed, np.intp)
        if way is not Way.NOTHING and len(left):
            by_position = weights.of(source.part, source.part.size)
            positions = np.flatnonzero(by_position)
            if len(left) == len(mine):
                gathered.append((number, positions, by_position[positions]))
            else:
                found += self._gather([(number, positions, by_position[positions])], left, wanted)

    def best(self, reached: Reached, count: int) -> Found:
        """Of the candidates the best `count` items of each query."""
        return best(reached, self.fields, self.sources, self.queries, count, uneven_rows=self.uneven_rows)


def _chunks(gathered: list[tuple[int, Ints, Floats]]) -> list[list[tuple[int, Ints, Floats]]]:
    """The rows in lots of at most `GATHER_ROWS_MAX`."""
    chunks: list[list[tuple[int, Ints, Floats]]] = []
    room = 0
    for number, positions, weights in gathered:
        at = 0
        while at < len(positions):
            if room == 0:
                chunks.append([])
                room = GATHER_ROWS_MAX
            lot = slice(at, min(len(positions), at + room))
            chunks[-1].append((number, positions[lot], weights[lot]))
            room -= lot.stop - lot.start
            at = lot.stop
    return chunks
