"""`python -m bench.quality.centring`: what the catalog's mean gives, of how many vectors, and when it has grown old.

The tables of docs/decisions/0008-centring-by-the-catalogs-mean.md, for any model: by the plain cosines of unit vectors
and by those less a mean, on the val splits.  Catalogs are drawn at random, by seeds that stay.
"""

from __future__ import annotations

import os

# Before NumPy is imported, as the workers have it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality.definitions import definitions
from bench.quality.packs import VAL, load_split, png, shared_folder
from bench.quality.pipeline import Embed, embedding
from models.embedder import SHIPPED, Embedder
from models.vectors import Vectors, centre
from streams.reports.terminal import Terminal

PACKS = VAL[:3]
"""Clothing, groceries, and things of many kinds."""
COUNTS = (4, 8, 16, 32, 64, 128, 256)
GROWTH_DRAWS, SMALL_DRAWS, DRIFT_DRAWS = 20, 60, 8
SMALL = ((8, 2), (16, 4), (32, 6), (48, 8), (64, 8), (128, 12))
"""Items and kinds of a small catalog."""
PARTITIONS = 4
"""Of which one is what the mean is fitted on."""
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
DRIFTING = 250
"""Pictures of a catalog that turns into another."""
NEAREST = 10
FIRST_MEAN = 16
ONE_KIND = (("clothing", 3), ("broad", 1))
"""How many of a pack's largest categories are catalogs of their own."""


@dataclass(frozen=True)
class Looks:
    """A pack's pictures as a model sees them."""

    vectors: Vectors
    """float32[N, D] of unit length."""
    kinds: NDArray[np.str_]

    def of(self, places: Sequence[int] | NDArray[np.intp]) -> Looks:
        """Some of them."""
        return Looks(self.vectors[places], self.kinds[places])


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the tables; 1 where the shared packs are not here."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality.centring", description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=Path, default=SHIPPED, help="another model in the shipped one's place")
    options, terminal = parser.parse_args(arguments), Terminal()
    shared = shared_folder()
    if shared is None:
        terminal.note("the shared packs are not here: expected ../shared, or KINDRED_SHARED to name the folder", "red")
        return 1
    quality, embedder = definitions(shared), Embedder(options.model)
    embed = embedding(embedder)
    judged = {split.pack: load_split(shared, split, quality, ()) for split in PACKS}
    packs = {name: Looks(embed(each.whole), each.categories) for name, each in judged.items()}
    terminal.line(f"val splits, {embedder.model}")
    grown = [(name, *row) for name, looks in packs.items() for row in by_count(looks)]
    terminal.table(("pack", "mean of", "map10", "scores off by"), grown)
    small = [(name, *row) for name, looks in packs.items() for row in small_catalogs(looks)]
    terminal.table(("pack", "items", "kinds", "plain", "quarter's mean", "all's mean"), small)
    turned = [(*names, *row) for names in combinations(packs, 2) for row in drifting(*(packs[each] for each in names))]
    terminal.table(("from", "to", "share", "distance", "stale", "fresh"), turned)
    alone: list[tuple[str, ...]] = []
    for name, count in ONE_KIND:
        for kind in largest(packs[name].kinds, count):
            files = [judged[name].whole[place] for place in np.flatnonzero(packs[name].kinds == kind).tolist()]
            alone += ((kind, *row) for row in one_kind(embed(files), changed_hard(quality, files, embed)))
    terminal.table(("kind", "items", "compared", "mrr_hard", "random", "nearest"), alone)
    return 0


def map10(looks: Looks, mean: Vectors | None) -> float:
    """AP@10 in the mean, compared plainly or less a mean: the definition's, also of catalogs of ten and fewer."""
    rows = compared(looks.vectors, mean)
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :-1]
    alike = looks.kinds[order] == looks.kinds[:, None]
    alike = alike[alike.any(axis=1)]  # who is alone of its kind is no query
    first = alike[:, :NEAREST]
    precision = np.cumsum(first, axis=1) / np.arange(1, first.shape[1] + 1)
    return float(((first * precision).sum(axis=1) / np.minimum(NEAREST, alike.sum(axis=1))).mean())


def compared(vectors: Vectors, mean: Vectors | None) -> Vectors:
    """float32[N, D] of which products are similarities."""
    return vectors if mean is None else centre(vectors, mean)


def by_count(looks: Looks) -> Iterator[tuple[str, str, str]]:
    """By the number of vectors that the mean is of: map10, and by how much the nearest's scores differ from all's."""
    everything = looks.vectors.mean(axis=0)
    yield "none: plain", _figure(map10(looks, None), 4), ""
    for count in (each for each in COUNTS if each < len(looks.vectors)):
        drawn = np.random.default_rng(count)
        means = [looks.vectors[drawn.permutation(len(looks.vectors))[:count]].mean(axis=0) for _ in range(GROWTH_DRAWS)]
        found = float(np.mean([map10(looks, mean) for mean in means]))
        apart = float(np.mean([scores_apart(looks.vectors, mean, everything) for mean in means]))
        yield str(count), _figure(found, 4), f"{apart:.1f}"
    yield "all", _figure(map10(looks, everything), 4), "0"


def scores_apart(vectors: Vectors, mean: Vectors, right: Vectors) -> float:
    """By how many points of 100 the scores of each picture's nearest are off in the mean, for this mean's fault."""
    found, expected = (rows @ rows.T for rows in (centre(vectors, mean), centre(vectors, right)))
    np.fill_diagonal(expected, -np.inf)
    nearest = np.argsort(-expected, axis=1, kind="stable")[:, :NEAREST]
    off = np.take_along_axis(found, nearest, 1) - np.take_along_axis(expected, nearest, 1)
    return 100 * float(np.abs(off).mean())


def small_catalogs(looks: Looks) -> Iterator[tuple[str, ...]]:
    """Items, kinds, and map10: plain, by the mean of one partition of four, by the mean of all."""
    kinds, counts = np.unique(looks.kinds, return_counts=True)
    for items, of_kinds in SMALL:
        enough = kinds[counts >= -(-items // of_kinds)]
        if len(enough) < of_kinds:
            continue
        drawn, found = np.random.default_rng(items), []
        for _ in range(SMALL_DRAWS):
            catalog = looks.of(_spread(looks, drawn.permutation(enough)[:of_kinds], items, drawn))
            quarter = catalog.vectors[: max(1, items // PARTITIONS)].mean(axis=0)
            means = (None, quarter, catalog.vectors.mean(axis=0))
            found.append([map10(catalog, mean) for mean in means])
        yield str(items), str(of_kinds), *(_figure(each) for each in np.mean(found, axis=0))


def _spread(looks: Looks, kinds: NDArray[np.str_], items: int, drawn: np.random.Generator) -> NDArray[np.intp]:
    """So many pictures in any order, of each of the kinds as many as of the others, or one more."""
    share = [items // len(kinds) + (number < items % len(kinds)) for number in range(len(kinds))]
    chosen = [drawn.permutation(np.flatnonzero(looks.kinds == k))[:n] for k, n in zip(kinds, share, strict=True)]
    return drawn.permutation(np.concatenate(chosen))


def drifting(one: Looks, other: Looks) -> Iterator[tuple[str, ...]]:
    """By the share of another pack's pictures: distance of the means, map10 by the mean of before and by today's."""
    count = min(DRIFTING, len(one.vectors), len(other.vectors))
    for share in SHARES:
        drawn, found = np.random.default_rng(round(100 * share)), []
        for _ in range(DRIFT_DRAWS):
            before = one.of(drawn.permutation(len(one.vectors))[:count])
            come = other.of(drawn.permutation(len(other.vectors))[: round(share * count)])
            left = before.of(np.arange(count - len(come.vectors)))
            now = Looks(np.concatenate((left.vectors, come.vectors)), np.concatenate((left.kinds, come.kinds)))
            stale, fresh = before.vectors.mean(axis=0), now.vectors.mean(axis=0)
            apart = float(np.linalg.norm(stale - fresh))
            found.append([apart, map10(now, stale), map10(now, fresh)])
        apart, old, new = np.mean(found, axis=0).tolist()
        yield f"{share:g}", _figure(apart, 2), _figure(old, 4), _figure(new, 4)


def largest(kinds: NDArray[np.str_], count: int) -> list[str]:
    """The categories with most pictures."""
    names, counts = np.unique(kinds, return_counts=True)
    return [str(names[place]) for place in np.argsort(-counts, kind="stable")[:count]]


def changed_hard(quality: Any, files: Sequence[bytes], embed: Embed) -> Vectors:
    """float32[N, D] of each picture after hard changes."""
    rng = random.Random(7)
    return embed([png(quality.change(quality.decode(file), quality.HARD, rng)) for file in files])


def one_kind(vectors: Vectors, again: Vectors) -> Iterator[tuple[str, ...]]:
    """A catalog of one kind: how high the original comes after hard changes, two random items' score, the nearest's."""
    means = {"plain": None, "centred": vectors.mean(axis=0), f"by {FIRST_MEAN}": vectors[:FIRST_MEAN].mean(axis=0)}
    for what, mean in means.items():
        rows = compared(vectors, mean)
        asked = compared(again, mean) @ rows.T
        rank = (asked >= asked.diagonal()[:, None]).sum(axis=1)
        similarity = rows @ rows.T
        others = similarity[~np.eye(len(rows), dtype=bool)]
        np.fill_diagonal(similarity, -np.inf)
        scores = (others.mean(), similarity.max(axis=1).mean())
        yield str(len(rows)), what, _figure(float((1 / rank).mean())), *(f"{100 * score:.0f}" for score in scores)


def _figure(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


if __name__ == "__main__":
    sys.exit(main())
