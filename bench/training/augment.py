"""A picture's view as the student sees it: another crop, another light, another ground, never the same twice.

Sizes are changed by the filter of the product's own preprocessing (Pillow, bilinear, squash).  Every choice comes from
the generator that is handed in, so that a run that goes on from a checkpoint sees what it would have seen.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bench.training.recipe import Recipe

Pixels = NDArray[np.uint8]
Float = NDArray[np.float32]

PLAIN_SHARE = 0.45  # of new grounds have one colour, most of them white; the others are busy
WHITE_SHARE = 0.7
BRIGHTER_SHARE = 0.1  # get a light far outside the usual


def inner_boxes(boxes: Float, recipe: Recipe, rng: np.random.Generator) -> Float:
    """Boxes inside `boxes` [B, 4]: shaved a little, some of them a good deal tighter."""
    count = len(boxes)
    inset = rng.random((count, 4)) * recipe.shave
    tight = rng.random(count) < recipe.tighter
    lost = rng.uniform(0.2, 0.4, (count, 2))
    before = lost * rng.random((count, 2))
    inset = np.where(tight[:, None], np.concatenate([before, lost - before], 1), inset)
    side = np.concatenate([boxes[:, 2:] - boxes[:, :2]] * 2, 1)
    return (boxes + inset * side * np.array([1, 1, -1, -1])).astype(np.float32)


def resized(picture: Pixels, box: Float, size: int) -> Pixels:
    """uint8[H, W, 3] -> uint8[size, size, 3]: the box (shares; white beyond the edges) squeezed to a square."""
    h, w = picture.shape[:2]
    left, top, right, bottom = (float(x) for x in box * np.array([w, h, w, h], np.float32))
    out = [max(0, int(np.ceil(x))) for x in (-left, -top, right - w, bottom - h)]
    if any(out):
        ground = np.full((h + out[1] + out[3], w + out[0] + out[2], 3), 255, np.uint8)
        ground[out[1] : out[1] + h, out[0] : out[0] + w] = picture
        picture = ground
        left, right, top, bottom = left + out[0], right + out[0], top + out[1], bottom + out[1]
    h, w = picture.shape[:2]
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(w)), min(bottom, float(h)))
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box=inside))


def other_ground(picture: Pixels, mask: NDArray[np.bool_], ground: Pixels) -> Pixels:
    """The thing under `mask` before another ground, with a soft edge; all of one size."""
    edge = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.8))
    return np.asarray(Image.composite(Image.fromarray(picture), Image.fromarray(ground), edge))


def draw_ground(side: int, busy: Callable[[], Pixels], rng: np.random.Generator) -> Pixels:
    """uint8[side, side, 3]: white, a plain colour, or a part of the picture that `busy` gives."""
    if rng.random() < PLAIN_SHARE:
        lowest, channels = (244, 1) if rng.random() < WHITE_SHARE else (40, 3)
        colour = rng.integers(lowest, 256, channels)
        return np.full((side, side, 3), colour, np.uint8)
    corner = rng.uniform(0, 0.5, 2)
    box = np.concatenate([corner, corner + rng.uniform(0.3, 0.5, 2)]).astype(np.float32)
    ground = resized(busy(), box, side)
    if rng.random() < 0.3:
        ground = np.asarray(Image.fromarray(ground).filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 4)))))
    return ground[:, ::-1] if rng.random() < 0.5 else ground


def relight(pixels: Pixels, amount: float, rng: np.random.Generator) -> Float:
    """uint8[B, S, S, 3] -> float32 of the same shape, 0..255: brightness, contrast and saturation of each picture."""
    count = len(pixels)
    spread = np.where(rng.random(count) < BRIGHTER_SHARE, 1.6 * amount, amount)[:, None]
    bright, contrast, saturation = (1 + rng.uniform(-1, 1, (count, 3)) * spread).T
    x = pixels.reshape(count, -1, 3).astype(np.float32)
    mean = bright * x.reshape(count, -1).mean(1)
    # All three are linear in a pixel's channels, so that one small matrix and one shift a picture do them at once.
    mix = saturation[:, None, None] * np.eye(3) + (1 - saturation)[:, None, None] / 3
    x = x @ ((bright * contrast)[:, None, None] * mix).astype(np.float32)
    x += (mean * (1 - contrast)).astype(np.float32)[:, None, None]
    return np.clip(x, 0, 255, out=x).reshape(pixels.shape)


def through_jpeg(pixels: Float, quality: int) -> Float:
    """float32[S, S, 3] as it comes back from a JPEG."""
    stored = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(stored, "JPEG", quality=quality)
    return np.asarray(Image.open(stored).convert("RGB"), np.float32)


def augment(
    pictures: list[Pixels],
    masks: list[NDArray[np.bool_] | None],
    boxes: Float,
    size: int,
    recipe: Recipe,
    busy: Callable[[], Pixels],
    rng: np.random.Generator,
) -> Float:
    """B pictures, their masks and boxes [B, 4] -> float32[B, size, size, 3], 0..255.

    `busy` gives some training picture to cut a ground from.
    """
    boxes = inner_boxes(boxes, recipe, rng)
    mirrored = rng.random(len(pictures)) < 0.5
    soft = rng.random(len(pictures)) < recipe.soft
    views = np.empty((len(pictures), size, size, 3), np.uint8)
    for k, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
        if mask is not None and rng.random() < recipe.cut_out:
            picture = other_ground(picture, mask, draw_ground(len(picture), busy, rng))
        view = resized(picture, boxes[k], size // 2 if soft[k] else size)
        if soft[k]:
            view = resized(view, np.array([0, 0, 1, 1], np.float32), size)
        views[k] = view[:, ::-1] if mirrored[k] else view
    x = relight(views, recipe.light, rng)
    for coded in np.flatnonzero(rng.random(len(x)) < recipe.jpeg):
        x[coded] = through_jpeg(x[coded], int(rng.integers(30, 91)))
    return x
