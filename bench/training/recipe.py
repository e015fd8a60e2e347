"""What a training run is made of: one frozen value, kept in every checkpoint.

The defaults are the recipe of the first run that the shipped model comes from; `__main__.py` says what the others
change, and `results.md` which short runs they were chosen by.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

# Sources of `broad` that a short run may leave out to judge kinds of pictures that it never saw.
UNSEEN_SOURCES = ("HowToCook", "based.cooking", "flowers", "public-domain-recipes", "trashnet")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run's weights, but for the cache that it reads and the number of samples."""

    # What is aimed at: unit teacher features, centred, side by side with these weights, PCA to `dimension`,
    # variances taken to the power 1 - whitening.
    v2: float = 1.0
    edge: float = 0.7
    colour: float = 0.35
    dimension: int = 128
    whitening: float = 0.5
    views: int = 8  # teacher views a picture, at most; fewer while the cache lacks some

    # What is shown, by relative frequency of a pack's pictures.
    clothing: float = 3.0
    grocery: float = 2.0
    broad: float = 2.0
    tiny: float = 1.0
    held_out: bool = False  # leave UNSEEN_SOURCES out of training and judge by them

    # How it is changed on the way.
    shave: float = 0.08  # of a view's side, at most, off each edge
    light: float = 0.3  # brightness, contrast, saturation by a factor 1 +- light
    cut_out: float = 0.25  # of the pictures with a mask get another ground
    tighter: float = 0.15  # get a crop of 60 to 80 % a side inside their view and keep its target
    jpeg: float = 0.25  # are coded as JPEG, quality 30 to 90
    soft: float = 0.1  # have half of the detail

    # Loss: weights of its parts.
    mse: float = 1.0
    kl: float = 0.3
    contrast: float = 0.2
    labels: float = 0.1
    queue: int = 2048  # stored targets beside the batch
    temperature: float = 0.1

    # Network and descent.
    depths: tuple[int, ...] = (1, 2, 3, 1)  # residual blocks of the four stages
    batch: int = 128
    bfloat16: bool = True  # convolutions and Muon's iterations; weights, batch norms and losses stay float32
    rate: float = 6e-3
    decay: float = 0.03
    warm_up: int = 100  # steps
    cool_down: float = 0.3  # last share of the samples, over which the rate falls to a hundredth
    average: float = 0.999  # decay of the averaged weights, those that are judged and exported
    sizes: tuple[tuple[int, float], ...] = ((64, 0.35), (96, 0.85), (128, 1.0))  # side, until share
    seed: int = 0

    @property
    def teachers(self) -> dict[str, float]:
        """The parts of the target that have a weight, in the order in which they stand side by side."""
        return {name: weight for name in ("v2", "edge", "colour") if (weight := getattr(self, name))}

    @property
    def packs(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("clothing", "grocery", "broad", "tiny")}

    def size_at(self, share: float) -> int:
        """Side of the pictures when `share` of the samples have been seen."""
        return next((size for size, until in self.sizes if share < until), self.sizes[-1][0])

    def rate_at(self, step: int, share: float) -> float:
        """Constant after a short rise, then a straight fall: a run can be prolonged until its fall begins."""
        fall = min(1.0, max(0.0, (1 - share) / self.cool_down)) if self.cool_down else 1.0
        return self.rate * min(1.0, (step + 1) / self.warm_up) * (0.01 + 0.99 * fall)

    def changed(self, settings: list[str]) -> Recipe:
        """A copy with `name=value` applied; numbers as Python writes them, sizes as `64:0.2,96:0.8,128:1`."""
        return dataclasses.replace(self, **dict(self._read(setting) for setting in settings))

    def _read(self, setting: str) -> tuple[str, Any]:
        name, separator, text = setting.partition("=")
        if not separator or name not in {field.name for field in dataclasses.fields(self)}:
            raise ValueError(f"expected NAME=VALUE with a field of the recipe, got {setting!r}")
        old = getattr(self, name)
        if name == "sizes":
            return name, tuple((int(s), float(u)) for s, u in (part.split(":") for part in text.split(",")))
        if isinstance(old, tuple):
            return name, tuple(int(part) for part in text.split(","))
        if isinstance(old, bool):
            return name, bool(int(text))
        return name, type(old)(text)
