"""Batches: which pictures, which of their views, changed how, and what the student should say of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.training.augment import augment
from bench.training.cutouts import unpack_mask
from bench.training.data import Pictures, Targets, sampling, unit
from bench.training.features import SIDE
from bench.training.recipe import Recipe

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """B views, Q stored targets, D dimensions."""

    pixels: Float  # [B, S, S, 3], 0..255
    target: Float  # [B, D], as it comes
    other: Float  # [B, D], unit target of another view of the same picture
    queue: Float  # [Q, D], unit targets of anything
    same: NDArray[np.bool_]  # [B, B + Q]: `other` and `queue` that show the row's picture, but for the row's own answer
    label: NDArray[np.int64]  # [B]


class Feed:
    """An endless stream of batches, decided by the generator alone."""

    def __init__(self, pictures: Pictures, targets: Targets, recipe: Recipe, rng: np.random.Generator) -> None:
        self._pictures, self._targets, self._recipe, self.rng = pictures, targets, recipe, rng
        self._places, self._chances = sampling(pictures, recipe)
        self._unit = unit(targets.values)

    def batch(self, size: int) -> Batch:
        recipe, rng, views = self._recipe, self.rng, self._targets.values.shape[1]
        place = self._draw(recipe.batch)
        view = rng.integers(views, size=recipe.batch)
        other = (view + rng.integers(1, views, size=recipe.batch)) % views
        queued = rng.choice(self._places, recipe.queue)
        pixels = augment(
            [self._pictures.picture(k) for k in place],
            [self._mask(k) for k in place],
            self._targets.boxes[place, view],
            size,
            recipe,
            lambda: self._pictures.picture(int(rng.choice(self._places))),
            rng,
        )
        same = place[:, None] == np.concatenate([place, queued])
        same[np.arange(len(place)), np.arange(len(place))] = False
        return Batch(
            pixels=pixels,
            target=self._targets.values[place, view],
            other=self._unit[place, other],
            queue=self._unit[queued, rng.integers(views, size=recipe.queue)],
            same=same,
            label=self._pictures.label[place],
        )

    def _draw(self, count: int) -> NDArray[np.int64]:
        found = np.searchsorted(self._chances, self.rng.random(count), side="right")
        return self._places[found.clip(max=len(self._places) - 1)]

    def _mask(self, place: int) -> NDArray[np.bool_] | None:
        return unpack_mask(self._pictures.masks[place], SIDE) if self._pictures.has_mask[place] else None
