"""What training reads from the cache: pictures, their views and what the student should say of each view.

Target of a view: its teacher features, each kind made unit length, centred and weighted, side by side, then PCA,
half whitened: every axis divided by the fourth root of its variance.  Means, axes and scale are fitted on the training
pictures' first two views, so that views cached later change nothing that was there before.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.training.features import SIDE, save
from bench.training.packs import PACKS
from bench.training.recipe import UNSEEN_SOURCES, Recipe

FITTED_VIEWS = 2
FITTED_ROWS_MAX = 20_000

Float = NDArray[np.float32]


def unit(x: NDArray[Any]) -> Float:
    """Rows of unit length, float32; a zero row stays zero."""
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class Pictures:
    """N pictures of all packs, in the packs' order."""

    pack: NDArray[np.str_]  # [N]
    category: NDArray[np.str_]  # [N], `pack/category`
    label: NDArray[np.int64]  # [N], the category as a number
    split: NDArray[np.str_]  # [N]: train, val, iconic; "held" for what this run must not see
    has_mask: NDArray[np.bool_]  # [N]
    masks: NDArray[np.uint8]  # [N, SIDE * SIDE / 8]
    pixels: tuple[NDArray[np.uint8], ...]  # a pack's [n, SIDE, SIDE, 3], mapped from its file
    first: tuple[int, ...]  # where each pack begins

    def picture(self, place: int) -> NDArray[np.uint8]:
        """uint8[SIDE, SIDE, 3]."""
        number = PACKS.index(str(self.pack[place]))
        return self.pixels[number][place - self.first[number]]

    @property
    def train(self) -> NDArray[np.int64]:
        """Places of the pictures to train on."""
        return np.flatnonzero((self.split == "train") | (self.split == "iconic"))


@dataclass(frozen=True)
class Targets:
    """V views of N pictures: where they look and what the student should say."""

    boxes: Float  # [N, V, 4], shares: left, top, right, bottom
    values: Float  # [N, V, D], not unit length
    scale: float  # root mean square of the first views' values


def load_pictures(shared: Path, cache: Path, held_out: bool) -> Pictures:
    indexes = [np.load(cache / pack / "index.npz") for pack in PACKS]
    sizes = [len(index["ids"]) for index in indexes]
    pack = np.repeat(PACKS, sizes)
    category = np.char.add(np.char.add(pack, "/"), np.concatenate([index["categories"] for index in indexes]))
    split = np.concatenate([index["split"] for index in indexes])
    if held_out:
        with (shared / "data" / "broad" / "manifest.csv").open(newline="") as lines:
            hidden = [f"broad {row['id']}" for row in csv.DictReader(lines) if row["source"] in UNSEEN_SOURCES]
        names = np.char.add(np.char.add(pack, " "), np.concatenate([index["ids"] for index in indexes]))
        split = np.where(np.isin(names, hidden), "held", split)
    return Pictures(
        pack=pack,
        category=category,
        label=np.unique(category, return_inverse=True)[1].astype(np.int64),
        split=split,
        has_mask=np.concatenate([index["cut"] for index in indexes]),
        masks=np.concatenate([index["masks"] for index in indexes]),
        pixels=tuple(np.load(cache / name / "pictures.npy", mmap_mode="r") for name in PACKS),
        first=tuple(int(x) for x in np.cumsum([0, *sizes[:-1]])),
    )


def views_cached(cache: Path, sizes: dict[str, int], block: int) -> int:
    """How many views are there whole, for every pack."""
    view = 0
    while all(len(list_blocks(cache, pack, view)) == -(-count // block) for pack, count in sizes.items()):
        view += 1
    return view


def list_blocks(cache: Path, pack: str, view: int) -> list[Path]:
    """In the pictures' order."""
    return sorted((cache / pack / f"view-{view}").glob("???.npz"))


def load_view(cache: Path, view: int, names: list[str]) -> dict[str, NDArray[Any]]:
    """The named arrays of one view, over all packs."""
    blocks = [np.load(path) for pack in PACKS for path in list_blocks(cache, pack, view)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in names}


@dataclass(frozen=True)
class Projection:
    """From teacher features side by side to targets."""

    means: dict[str, Float]  # [d] of each teacher
    weights: dict[str, float]
    centre: Float  # [sum of d]
    axes: Float  # [sum of d, D]

    def __call__(self, features: dict[str, NDArray[Any]]) -> Float:
        """The teachers' features, [n, d] each -> float32[n, D]."""
        return np.asarray((joined(features, self.means, self.weights) - self.centre) @ self.axes, np.float32)


def joined(features: dict[str, NDArray[Any]], means: dict[str, Float], weights: dict[str, float]) -> Float:
    parts = [weight * unit(unit(features[name]) - means[name]) for name, weight in weights.items()]
    return np.concatenate(parts, 1).astype(np.float32)


def fit_projection(views: list[dict[str, NDArray[Any]]], recipe: Recipe) -> Projection:
    """`views`: features of training pictures only; rows beyond FITTED_ROWS_MAX are left out at random."""
    weights = recipe.teachers
    means = {name: np.concatenate([unit(view[name]) for view in views]).mean(0) for name in weights}
    x = np.concatenate([joined(view, means, weights) for view in views])
    x = x[np.random.default_rng(0).permutation(len(x))[:FITTED_ROWS_MAX]]
    centre = np.asarray(x.mean(0), np.float32)
    covariance = np.asarray((x - centre).T @ (x - centre), np.float64) / (len(x) - 1)
    variances, axes = (x[..., ::-1][..., : recipe.dimension] for x in np.linalg.eigh(covariance))
    return Projection(means, weights, centre, (axes / variances ** (recipe.whitening / 2)).astype(np.float32))


def load_targets(cache: Path, pictures: Pictures, recipe: Recipe, views: int) -> Targets:
    """Computed once for each target and number of views, then read from `cache/targets-*.npz`."""
    kind = (recipe.teachers, recipe.dimension, recipe.whitening, recipe.held_out)
    path = cache / f"targets-{digest(*kind, views)}.npz"
    if not path.exists():
        project = load_projection(cache / f"projection-{digest(*kind)}.npz", cache, pictures, recipe)
        values, boxes = [], []
        for view in range(views):
            features = load_view(cache, view, [*recipe.teachers, "boxes"])
            values.append(project(features))
            boxes.append(features["boxes"])
        scale = float(np.sqrt(np.mean(np.stack(values[:FITTED_VIEWS])[:, pictures.train] ** 2)))
        save(path, values=np.stack(values, 1), boxes=np.stack(boxes, 1), scale=scale)
    with np.load(path) as stored:
        return Targets(stored["boxes"], stored["values"], float(stored["scale"]))


def load_projection(path: Path, cache: Path, pictures: Pictures, recipe: Recipe) -> Projection:
    """Fitted once and kept: another machine's eigenvectors may point the other way and turn a run's targets."""
    if not path.exists():
        views = [load_view(cache, view, list(recipe.teachers)) for view in range(FITTED_VIEWS)]
        fitted = fit_projection([{name: x[pictures.train] for name, x in view.items()} for view in views], recipe)
        means = {f"mean_{name}": mean for name, mean in fitted.means.items()}
        save(path, centre=fitted.centre, axes=fitted.axes, **means)
    with np.load(path) as stored:
        means = {name: stored[f"mean_{name}"] for name in recipe.teachers}
        return Projection(means, recipe.teachers, stored["centre"], stored["axes"])


def digest(*what: object) -> str:
    """A short name of some values, for a file."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]


def sampling(pictures: Pictures, recipe: Recipe) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places to draw from and the cumulated chance of each."""
    train = pictures.train
    weights = np.array([recipe.packs[str(pack)] for pack in pictures.pack[train]])
    return train, np.cumsum(weights) / weights.sum()


assert SIDE % 8 == 0, "masks are packed by bits"
