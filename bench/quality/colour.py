"""`python -m bench.quality.colour`: what colour beside the model's vectors gives on the val splits, by its weight.

`make quality` tells it, too, and writes it into the card.
`--fit` fits the components of `models/colour.npy` instead: on pictures of the training splits, and on made-up cut-outs
of one or two colours out of all, on plain grounds and on those pictures.
"""

from __future__ import annotations

import os

# Before NumPy is imported, as the workers have it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.quality.definitions import definitions, figures_of
from bench.quality.packs import VAL, Judged, Split, load_split, shared_folder
from bench.quality.pipeline import BATCH
from models.colour import BOXES, FILE, NUMBERS, colours, shares, spread
from models.embedder import SHIPPED, Embedder
from models.image import decode
from models.parts import rows_of, weighing
from models.vectors import Vectors
from streams.reports.terminal import Terminal
from streams.settings import Settings

PACKS = ("broad", "clothing", "grocery")
PICTURES = 1_500
"""Of each pack."""
SIZE = 128
CUTOUTS_SHARE = 0.3
"""Of the covariance that the components are those of."""
GROUNDS = (0xFFFFFF, 0xFFFFFF, 0x000000, 0x808080, 0xC0C0C0)
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
ByWeight = dict[float, dict[str, float]]
FIGURES = ("x_map10", "map10", "rprec", "mrr_hard")


class Rows(NamedTuple):
    """Raw rows of a pack: of its pictures float32[N, D], and of the changed ones by kind of change."""

    whole: Vectors
    again: Mapping[str, Vectors]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality.colour", description=__doc__.split("\n\n")[0])
    parser.add_argument("--fit", action="store_true", help=f"fit the components anew and write {FILE.name}")
    parser.add_argument("--model", type=Path, default=SHIPPED, help="another model in the shipped one's place")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell the figures by weight, or fit; 1 where the shared packs are not here."""
    options, terminal = parser().parse_args(arguments), Terminal()
    shared = shared_folder()
    if shared is None:
        terminal.note("the shared packs are not here: expected ../shared, or KINDRED_SHARED to name the folder", "red")
        return 1
    quality = definitions(shared)
    if options.fit:
        np.save(FILE, fitted(histograms(shared, quality)))
        terminal.line(f"written: {FILE}")
        return 0
    embedder = Embedder(options.model)
    judged = {split: load_split(shared, split, quality, [quality.HARD]) for split in VAL}
    rows = {split: rows_of_pack(each, embedder) for split, each in judged.items()}
    show(terminal, by_weight(quality, judged, rows), embedder.model)
    return 0


def rows_of_pack(judged: Judged, embedder: Embedder) -> Rows:
    """Raw rows of a pack's pictures."""
    return Rows(
        raw_rows(embedder, judged.whole), {kind: raw_rows(embedder, files) for kind, files in judged.again.items()}
    )


def by_weight(quality: Any, judged: Mapping[Split, Judged], rows: Mapping[Split, Rows]) -> ByWeight:
    """The figures of each of `WEIGHTS`, by pack and name; last their mean, without those of duplicates."""
    found = {}
    for weight in WEIGHTS:
        figures: dict[str, float] = {}
        for split, each in judged.items():
            told = weighed(quality, each, rows[split], weight)
            figures |= {f"{split.pack} {name}": told[name] for name in names(each)}
        of_labels = [figure for name, figure in figures.items() if not name.endswith("mrr_hard")]
        found[weight] = figures | {"mean": float(np.mean(of_labels))}
    return found


def by_default(quality: Any, judged: Judged, rows: Rows) -> dict[str, float]:
    """All figures of a pack as the product compares where nothing is set."""
    return weighed(quality, judged, rows, Settings().colour)


def cells(found: ByWeight) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table."""
    rows = [
        [f"{weight:g}", *(f"{figure:.3f}".lstrip("0") for figure in figures.values())]
        for weight, figures in found.items()
    ]
    return ["weight", *next(iter(found.values()))], rows


def show(terminal: Terminal, found: ByWeight, model: str) -> None:
    """The table for people."""
    heads, rows = cells(found)
    terminal.line(f"val splits by the weight of colour: {model}, both parts centred; mean: of the label figures")
    terminal.table(heads, rows, numbers=heads)


def names(judged: Judged) -> list[str]:
    """The figures of a pack."""
    return [FIGURES[0] if judged.senders is not None else FIGURES[1], *FIGURES[2:]]


def raw_rows(embedder: Embedder, files: Sequence[bytes]) -> Vectors:
    """float32[N, D] raw rows of files of pictures: what the model makes of each, then its colour."""
    parts = []
    for start in range(0, len(files), BATCH):
        pixels = np.stack([decode(file, embedder.size) for file in files[start : start + BATCH]])
        parts.append(np.hstack((embedder.embed(pixels), colours(pixels))))
    return np.concatenate(parts)


def weighed(quality: Any, judged: Judged, rows: Rows, weight: float) -> dict[str, float]:
    """The figures of a pack when colour counts `weight`."""
    mean = rows.whole.mean(axis=0)
    whole = rows_of(rows.whole, mean, NUMBERS)
    factors = weighing(whole.shape[1], NUMBERS, weight)
    assert factors is not None

    def compared(queries: Vectors) -> NDArray[np.float32]:
        return np.asarray((queries * factors) @ whole.T, np.float32)

    again = {kind: compared(rows_of(each, mean, NUMBERS)) for kind, each in rows.again.items()}
    return figures_of(quality, compared(whole), judged.categories, judged.senders, again, judged.picked)


def histograms(shared: Path, quality: Any) -> Vectors:
    """float32[N, 512] shares of some pictures of the training splits."""
    found = []
    for pack in PACKS:
        rows = quality.load_pack(str(shared / "data" / pack), "train")
        for number in np.random.default_rng(0).permutation(len(rows))[:PICTURES].tolist():
            found.append(shares(decode(rows[number]["data"], SIZE)[None])[0])
    return np.array(found)


def cutouts(found: Vectors) -> Vectors:
    """float32[N, 512] shares of as many made-up pictures: things of one or two colours before plain or real grounds."""
    numbers = np.random.default_rng(0)
    plain = [np.array([[[ground >> 16, ground >> 8 & 255, ground & 255]]], np.uint8) for ground in GROUNDS]
    grounds = np.concatenate([shares(each[None]) for each in plain])
    made = []
    for _ in range(len(found)):
        ground = (
            found[numbers.integers(len(found))] if numbers.random() < 0.5 else grounds[numbers.integers(len(grounds))]
        )
        thing = np.zeros(BOXES)
        for _ in range(numbers.integers(1, 3)):
            alone = np.zeros(BOXES, np.float32)
            alone[numbers.integers(BOXES)] = 1
            thing += numbers.uniform(0.3, 1) * spread(alone) ** 2
        share = numbers.uniform(0.15, 0.9)
        made.append((1 - share) * ground + share * thing / thing.sum())
    return np.array(made, np.float32)


def fitted(found: Vectors) -> Vectors:
    """float32[513, 16] of shares float32[N, 512]: whitened principal components, and the offset."""
    real, made = (spread(each).astype(np.float64) for each in (found, cutouts(found)))
    mean = real.mean(axis=0)
    covariances = [(each - mean).T @ (each - mean) / len(each) for each in (real, made)]
    variances, directions = np.linalg.eigh((1 - CUTOUTS_SHARE) * covariances[0] + CUTOUTS_SHARE * covariances[1])
    best = np.argsort(-variances)[:NUMBERS]
    matrix = directions[:, best]
    matrix = matrix * np.sign(matrix[np.abs(matrix).argmax(axis=0), np.arange(NUMBERS)])
    matrix = matrix / np.sqrt(variances[best])
    return np.vstack((matrix, mean @ matrix)).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
