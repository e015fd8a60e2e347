"""Teacher features of several views of every picture, cached in blocks: dear (hours), so computed once.

    python -m bench.training.features --shared ../shared --cache CACHE [--views 8] [--part 0/2]

1. Every picture is decoded, squeezed to 224 x 224 and kept with its foreground mask: what the student is shown.
2. Views are drawn by view number, pack and place alone: the whole picture, crops, and one with white around.
3. Each teacher sees each view at its own size; colour is the histogram of `eval_quality.py`.
4. Blocks are written under another name and renamed.  A killed run goes on with the next block; two runs with
   `--part 0/2` and `--part 1/2` share the work.  Views are written one after the other over all packs, so that
   training can begin when the first two stand.

    CACHE/PACK/pictures.npy   uint8[N, 224, 224, 3]
    CACHE/PACK/index.npz      ids, categories, split (text[N]); masks uint8[N, 6272], cut bool[N]: has a mask
    CACHE/PACK/view-V/BLOCK.npz   boxes float32[n, 4] (left, top, right, bottom as shares of the picture); one array
                                  float16[n, d] for each of TEACHERS, and `colour` float16[n, 512]
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from bench.quality.definitions import definitions
from bench.training.cutouts import foreground, pack_mask
from bench.training.packs import PACKS, read_pack
from bench.training.progress import Progress

SIDE = 224  # of the cached pictures: most of their crops are still as sharp as what the shipped model sees
BLOCK = 1024  # pictures; under a minute of work, the most that a kill costs
BATCH = 8
TEACHERS = {
    "v2": "mobilenet_v2_1.0_224",
    "edge": "mobilenet_edgetpu_0.75_224",
}
TEACHER_SIDE = {"tiny": 128}  # its pictures are 64 x 64 and have no more detail; the others are seen at 224
VIEWS = ("whole", "crop", "crop", "wide", "crop", "crop", "crop", "crop")  # what view 0, 1, ... is


class Teacher:
    """A third party's network as a function from float32[B, S, S, 3] to float32[B, d], for any S."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(str(path))
        for axis in (2, 3):
            graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
        self._input = self._session.get_inputs()[0].name
        pre = json.loads(path.with_suffix(".json").read_text())
        self._mean, self._std = (np.array(pre[name], np.float32) for name in ("mean", "std"))

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        x = np.ascontiguousarray(((pixels - self._mean) / self._std).transpose(0, 3, 1, 2))
        features: NDArray[np.float32] = self._session.run(None, {self._input: x})[0].reshape(len(x), -1)
        return features


def draw_boxes(view: int, pack: str, count: int) -> NDArray[np.float32]:
    """The boxes of a view, float32[count, 4]; the same for the same arguments, whatever was drawn before."""
    rng = np.random.default_rng([view, PACKS.index(pack)])
    kind = VIEWS[view]
    if kind == "whole":
        return np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1))
    if kind == "crop":
        sides = rng.uniform(0.45, 0.95, (count, 2))
        corner = rng.uniform(0, 1, (count, 2)) * (1 - sides)
    else:  # wide: the picture somewhere on a larger white ground
        sides = rng.uniform(1.05, 1.6, (count, 2))
        corner = -rng.uniform(0, 1, (count, 2)) * (sides - 1)
    return np.concatenate([corner, corner + sides], 1).astype(np.float32)


def look(picture: Image.Image, box: NDArray[np.float32]) -> Image.Image:
    """What a view shows: the box cut out of the picture, white where it reaches beyond."""
    w, h = picture.size
    left, top, right, bottom = (round(float(share) * side) for share, side in zip(box, (w, h, w, h), strict=True))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    if left >= 0 and top >= 0 and right <= w and bottom <= h:
        return picture.crop((left, top, right, bottom))
    ground = Image.new("RGB", (right - left, bottom - top), (255, 255, 255))
    ground.paste(picture, (-left, -top))
    return ground


def save(path: Path, **arrays: Any) -> None:
    """An .npz that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part.npz")
    np.savez(part, **arrays)
    part.replace(path)


def cache_pictures(rows: list[dict[str, Any]], folder: Path, quality: ModuleType) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.empty((len(rows), SIDE, SIDE, 3), np.uint8)
    masks = np.zeros((len(rows), SIDE * SIDE // 8), np.uint8)
    cut = np.zeros(len(rows), bool)
    progress = Progress(f"pictures of {folder.name}", len(rows), "pictures")
    for k, row in enumerate(rows):
        pixels[k] = np.asarray(quality.fit(quality.decode(row["data"]), SIDE))
        mask = foreground(pixels[k])
        masks[k], cut[k] = pack_mask(mask, SIDE), mask is not None
        progress.advance(1)
    part = folder / f"pictures.{os.getpid()}.part.npy"
    np.save(part, pixels)
    part.replace(folder / "pictures.npy")
    columns = {"ids": "id", "categories": "category", "split": "split"}
    save(folder / "index.npz", masks=masks, cut=cut, **{k: [r[v] for r in rows] for k, v in columns.items()})


def cache_block(
    rows: list[dict[str, Any]], boxes: NDArray[np.float32], path: Path, side: int, teachers: dict[str, Teacher],
    quality: ModuleType,
) -> None:  # fmt: skip
    out: dict[str, list[NDArray[np.float16]]] = {name: [] for name in (*teachers, "colour")}
    for k in range(0, len(rows), BATCH):
        views = [
            look(quality.decode(row["data"]), box)
            for row, box in zip(rows[k : k + BATCH], boxes[k : k + BATCH], strict=True)
        ]
        x = np.stack([np.asarray(quality.fit(view, side), np.float32) for view in views])
        for name, teacher in teachers.items():
            out[name].append(teacher(x).astype(np.float16))
        out["colour"].append(quality.hist888(views).astype(np.float16))
    save(path, boxes=boxes, **{name: np.concatenate(parts) for name, parts in out.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description="Cache pictures and teacher features.")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/, models/ and tools/")
    parser.add_argument("--cache", type=Path, required=True, help="folder to write to; 4.8 GB and .2 GB a view")
    parser.add_argument("--views", type=int, default=len(VIEWS), help=f"how many, at most {len(VIEWS)}")
    parser.add_argument("--part", default="0/1", help="K/N: every Nth block, from the Kth on")
    options = parser.parse_args()
    part, parts = (int(x) for x in options.part.split("/"))
    quality = definitions(options.shared)
    teachers = {name: Teacher(options.shared / "models" / f"{file}.onnx") for name, file in TEACHERS.items()}
    rows = {pack: read_pack(options.shared, pack) for pack in PACKS}
    for number, pack in enumerate(PACKS):
        if number % parts == part and not (options.cache / pack / "index.npz").exists():
            cache_pictures(rows[pack], options.cache / pack, quality)
    blocks = [
        (view, pack, start)
        for view in range(options.views)
        for pack in PACKS
        for start in range(0, len(rows[pack]), BLOCK)
    ]
    mine = [block for number, block in enumerate(blocks) if number % parts == part]
    missing = [block for block in mine if not path_of(options.cache, *block).exists()]
    progress = Progress("teacher views", sum(min(BLOCK, len(rows[p]) - start) for _, p, start in missing), "views")
    for view, pack, start in missing:
        some = rows[pack][start : start + BLOCK]
        boxes = draw_boxes(view, pack, len(rows[pack]))[start : start + BLOCK]
        path = path_of(options.cache, view, pack, start)
        cache_block(some, boxes, path, TEACHER_SIDE.get(pack, 224), teachers, quality)
        progress.advance(len(some), f"view {view}, {pack}")


def path_of(cache: Path, view: int, pack: str, start: int) -> Path:
    """Where the block of pictures from `start` on lies."""
    return cache / pack / f"view-{view}" / f"{start // BLOCK:03}.npz"


if __name__ == "__main__":
    main()
