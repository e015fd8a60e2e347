"""From a run's weights to the files that ship: ONNX in float32 and in int8, each with its preprocessing beside it.

    python -m bench.training.export --shared ../shared --cache CACHE --run RUN --out FOLDER [--size 128]
        [--strengths 0,0.2,0.4] [--strength 0.2] [--judge]

1. The averaged weights are taken; features of all training pictures are computed, whole, at the size that ships.
2. For each of --strengths the embedding softened towards the labels (`projection.py`) is judged on val and printed.
3. With --strength it is written: OUT/kindred-float.onnx and OUT/kindred.onnx (int8, `quantize.py`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from bench.quality.definitions import definitions
from bench.training.augment import resized
from bench.training.data import Pictures, load_pictures
from bench.training.graph import student_graph
from bench.training.judge import HEADER, from_onnx, judge, table
from bench.training.network import Student
from bench.training.progress import Progress
from bench.training.projection import softened
from bench.training.quantize import quantize
from bench.training.run import Embed, load_run, normalized

FITTED = 4_096
"""Training pictures that an int8 file is made with."""
BATCH = 64
WHOLE = np.array([0, 0, 1, 1], np.float32)
SHRINKAGE = 1.0


def whole_pictures(pictures: Pictures, places: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    return np.stack([resized(pictures.picture(int(k)), WHOLE, size) for k in places])


def features_of(student: Student, pictures: Pictures, places: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """float32[N, 768]."""
    progress = Progress("features", len(places), "pictures")
    out = []
    with torch.no_grad():
        for k in range(0, len(places), BATCH):
            out.append(student.features(normalized(whole_pictures(pictures, places[k : k + BATCH], size))).numpy())
            progress.advance(len(out[-1]))
    return np.concatenate(out)


def embedder(student: Student, matrix: NDArray[Any], bias: NDArray[Any]) -> Embed:
    """The student with another last map."""

    def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            return (student.features(normalized(pixels)).numpy() @ matrix + bias).astype(np.float32)

    return embed


def write(model: onnx.ModelProto, pixels: NDArray[np.uint8], folder: Path, size: int) -> list[Path]:
    """Both files and their .json; returns their paths.  `pixels`: of training pictures, in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    plain, quantized = (folder / f"kindred{name}.onnx" for name in ("-float", ""))
    onnx.save(model, str(plain))
    quantize(plain, quantized, pixels)
    preprocessing = {
        "size": size, "mean": [0, 0, 0], "std": [1, 1, 1], "layout": "NCHW", "channels": "RGB", "resize": "squash",
    }  # fmt: skip
    for path in (plain, quantized):
        path.with_suffix(".json").write_text(json.dumps(preprocessing) + "\n")
    return [plain, quantized]


def main() -> None:
    parser = argparse.ArgumentParser(description="Choose the last map on val and write the files that ship.")
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="a run's folder: final or newest weights")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--size", type=int, help="side of the pictures; by default the run's last")
    parser.add_argument("--strengths", default="", help="of the labels, to judge on val, separated by commas")
    parser.add_argument("--strength", type=float, help="write the files with this one")
    parser.add_argument("--shrinkage", type=float, default=SHRINKAGE)
    parser.add_argument("--judge", action="store_true", help="judge the written files too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = load_run(options.run)
    size, student = options.size or run.recipe.sizes[-1][0], run.averaged.eval()
    pictures = load_pictures(options.shared, options.cache, run.recipe.held_out)
    places = pictures.train
    own = (student.embedding.weight.detach().numpy().T, student.embedding.bias.detach().numpy())
    strengths = [float(text) for text in options.strengths.split(",") if text]
    labelled = any(strengths) or bool(options.strength)
    features = features_of(student, pictures, places, size) if labelled else None

    def last_map(strength: float) -> tuple[NDArray[Any], NDArray[Any]]:
        if not strength or features is None:
            return own
        return softened(features, pictures.label[places], own, strength, options.shrinkage)

    rows: list[str] = []
    for strength in strengths:
        figures = judge(embedder(student, *last_map(strength)), options.shared, options.cache, size)
        rows += table(figures, f"strength {strength}, shrinkage {options.shrinkage}")
    if options.strength is not None:
        some = np.random.default_rng(5).permutation(places)[:FITTED]
        graph = student_graph(student, *last_map(options.strength), size)
        for path in write(graph, whole_pictures(pictures, some, size), options.out, size):
            print(f"{path}: {path.stat().st_size:,} bytes", flush=True)
            if options.judge:
                embed, _ = from_onnx(path, path.with_suffix(".json"), definitions(options.shared))
                rows += table(judge(embed, options.shared, options.cache, size), path.name)
    if rows:
        print("\n".join([*HEADER, *rows]))


if __name__ == "__main__":
    main()
