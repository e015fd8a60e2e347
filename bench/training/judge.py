"""Figures of an embedding on the val splits, with `eval_quality.py`'s own definitions.

    python -m bench.training.judge --shared ../shared --cache CACHE (--run RUN | --model M.onnx --pre M.json)

Two ways of comparing are judged: `plain`, the embedding as it comes, and `default`, as the product does it: the mean of
the judged pictures subtracted, unit length again, and the colour histogram at its side with weight COLOUR.
`unseen` are sources of `broad` that a run with `held_out` never saw; for other runs its figures mean little.
Judge int8 files on a processor with VNNI: `eval_quality.py` does not ask for exact sums, as the product does.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality.definitions import changed, definitions, figures_of
from bench.training.data import unit
from bench.training.features import save
from bench.training.packs import PACKS, read_pack
from bench.training.recipe import UNSEEN_SOURCES
from bench.training.run import Embed, embedder, load_run

COLOUR = 0.35
BATCH = 50
MODES = ("plain", "default")
# Mode, pack and figure of each column, as the goals name them.
COLUMNS = (
    ("clothing", "x_map10"),
    ("grocery", "rprec"),
    ("broad", "map10"),
    ("tiny", "map10"),
    ("unseen", "map10"),
    ("clothing", "mrr_hard"),
    ("grocery", "mrr_hard"),
    ("broad", "mrr_hard"),
    ("unseen", "mrr_hard"),
)

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Judged:
    """One pack's judged pictures, whole and after the hard change, at one size."""

    whole: NDArray[np.uint8]  # [n, S, S, 3]
    hard: NDArray[np.uint8]  # [m, S, S, 3]
    picked: NDArray[np.int64]  # [m]: which of the whole each hard one was
    colour: Float  # [n, 512], unit length
    hard_colour: Float  # [m, 512]
    categories: NDArray[np.str_]  # [n]
    senders: NDArray[np.str_] | None  # [n]

    def figures(self, embed: Embed, quality: Any) -> dict[str, dict[str, float]]:
        """Figures by mode."""
        whole, hard = (
            unit(np.concatenate([embed(x[k : k + BATCH]) for k in range(0, len(x), BATCH)]))
            for x in (self.whole, self.hard)
        )
        return {mode: self._compared(mode, whole, hard, quality) for mode in MODES}

    def _compared(self, mode: str, whole: Float, hard: Float, quality: Any) -> dict[str, float]:
        if mode == "default":
            mean, colour_mean = whole.mean(0), self.colour.mean(0)
            whole, hard = (
                unit(np.concatenate([unit(x - mean), COLOUR * unit(colour - colour_mean)], 1))
                for x, colour in ((whole, self.colour), (hard, self.hard_colour))
            )
        again = {quality.HARD: hard @ whole.T}
        return figures_of(quality, whole @ whole.T, self.categories, self.senders, again, self.picked)


def rows_of(shared: Path, pack: str) -> list[dict[str, Any]]:
    if pack != "unseen":
        return read_pack(shared, pack, ("val",))
    return [row for row in read_pack(shared, "broad") if row["source"] in UNSEEN_SOURCES]


def load_judged(shared: Path, cache: Path, size: int) -> dict[str, Judged]:
    """The judged packs at one size; decoded once, then read from `cache/judged-SIZE/`."""
    quality = definitions(shared)
    out = {}
    for pack in (*PACKS, "unseen"):
        path = cache / f"judged-{size}" / f"{pack}.npz"
        if not path.exists():
            save(path, **prepare(rows_of(shared, pack), size, quality))
        with np.load(path) as stored:
            arrays = dict(stored)
        senders = arrays.pop("senders")
        out[pack] = Judged(**arrays, senders=senders if len(senders) else None)
    return out


def prepare(rows: list[dict[str, Any]], size: int, quality: Any) -> dict[str, Any]:
    pictures = [quality.decode(row["data"]) for row in rows]
    by_kind, picked = changed(quality, pictures)
    hard = by_kind[quality.HARD]
    return {
        "whole": np.stack([np.asarray(quality.fit(x, size)) for x in pictures]),
        "hard": np.stack([np.asarray(quality.fit(x, size)) for x in hard]),
        "picked": np.array(picked),
        "colour": unit(quality.hist888(pictures)),
        "hard_colour": unit(quality.hist888(hard)),
        "categories": np.array([row["category"] for row in rows]),
        "senders": np.array(quality.senders(rows) or []),
    }


def judge(embed: Embed, shared: Path, cache: Path, size: int) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by pack and mode."""
    quality = definitions(shared)
    return {pack: judged.figures(embed, quality) for pack, judged in load_judged(shared, cache, size).items()}


def table(figures: dict[str, dict[str, dict[str, float]]], name: str) -> list[str]:
    """One Markdown row a mode, in the order of COLUMNS."""
    return [
        f"| {name} | {mode} | " + " | ".join(f"{figures[pack][mode][figure]:.3f}" for pack, figure in COLUMNS) + " |"
        for mode in MODES
    ]


HEADER = [
    "| what | compared | " + " | ".join(f"{p} {f}" for p, f in COLUMNS) + " |",
    "| --- " * (2 + len(COLUMNS)) + "|",
]


def from_onnx(model: Path, pre: Path, quality: Any) -> tuple[Embed, int]:
    network = quality.Onnx(str(model), json.loads(pre.read_text()))

    def embed(pixels: NDArray[np.uint8]) -> Float:
        from PIL import Image

        out: Float = network([Image.fromarray(x) for x in pixels])
        return out

    return embed, network.p["size"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Figures on the val splits.")
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="a run's folder: its averaged weights are judged")
    parser.add_argument("--model", type=Path, help="an ONNX model")
    parser.add_argument("--pre", type=Path, help="the model's preprocessing; by default the .json beside it")
    parser.add_argument("--size", type=int, help="side of the pictures; by default the run's last")
    options = parser.parse_args()
    if options.model:
        pre = options.pre or options.model.with_suffix(".json")
        embed, size = from_onnx(options.model, pre, definitions(options.shared))
    elif options.run:
        run = load_run(options.run)
        embed, size = embedder(run.averaged), options.size or run.recipe.sizes[-1][0]
    else:
        parser.error("expected --run or --model")
    figures = judge(embed, options.shared, options.cache, size)
    print("\n".join([*HEADER, *table(figures, str(options.run or options.model))]))


if __name__ == "__main__":
    main()
