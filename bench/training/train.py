"""Train a student, or go on where it was: one command, one core, hours.

    python -m bench.training.train --shared ../shared --cache CACHE --run RUN --samples 9000000 [--set kl=0 ...]

Everything that the next step depends on (weights, their average, both optimizers, the random generator, counts) is in
RUN/checkpoint.pt, written every few minutes under another name and renamed.  The same command goes on from it, also
after `kill -9`; a run that was interrupted ends with the same weights as one that was not.  `--samples` may be raised
until the rate begins to fall; the rest of the recipe stays as it began.

RUN/figures.jsonl gets the figures on the val splits from time to time, RUN/final.pt the weights at the end.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from pathlib import Path

import onnx
import torch

from bench.training.data import FITTED_VIEWS, Targets, load_pictures, load_targets, views_cached
from bench.training.features import BLOCK
from bench.training.feed import Feed
from bench.training.judge import HEADER, judge, table
from bench.training.packs import PACKS
from bench.training.progress import Progress
from bench.training.recipe import Recipe
from bench.training.run import Run, embedder, save_run
from bench.training.warm import warm

WARMING = 32
"""Batches that what a file has lost is put back from."""


class Watch:
    """When to write a checkpoint, when to judge, and what to say; nothing of it has an effect on the weights."""

    def __init__(self, options: argparse.Namespace, run: Run) -> None:
        self.folder: Path = options.run
        self.options, self.run = options, run
        self.progress = Progress(options.run.name, options.samples, "pictures", run.samples)
        self._saved_s = time.monotonic()
        self._judged = run.samples // options.judge_every
        self.stopping = False

    def stop(self, *_: object) -> None:
        self.stopping = True

    def after_step(self, size: int) -> None:
        parts = " ".join(f"{name} {value:.4f}" for name, value in self.run.smoothed.items())
        self.progress.advance(self.run.samples - self.progress.done, f"{size} px {parts}")
        if self.stopping or time.monotonic() - self._saved_s > self.options.checkpoint_every_s:
            save_run(self.run, self.folder / "checkpoint.pt")
            self._saved_s = time.monotonic()
        if self.run.samples // self.options.judge_every != self._judged:
            self._judged = self.run.samples // self.options.judge_every
            self.judge()

    def judge(self) -> None:
        size = self.run.recipe.sizes[-1][0]
        figures = judge(embedder(self.run.averaged), self.options.shared, self.options.cache, size)
        with (self.folder / "figures.jsonl").open("a") as out:
            out.write(json.dumps({"samples": self.run.samples, "size": size, "figures": figures}) + "\n")
        for line in [*HEADER, *table(figures, f"{self.folder.name} at {self.run.samples:,}")]:
            self.progress.say(line)


def train(run: Run, feed: Feed, targets: Targets, samples: int, watch: Watch) -> bool:
    """True when all `samples` were seen, false when asked to stop before."""
    while run.samples < samples:
        share = run.samples / samples
        size = run.recipe.size_at(share)
        run.step(feed.batch(size), targets.scale, share)
        watch.after_step(size)
        if watch.stopping:
            return False
    return True


def start(folder: Path, recipe: Recipe, labels: int) -> Run:
    """The run that the checkpoint holds, else a new one."""
    checkpoint = folder / "checkpoint.pt"
    if not checkpoint.exists():
        return Run(recipe, labels)
    run = Run.restored(torch.load(checkpoint, weights_only=True))
    if run.recipe != recipe:
        raise SystemExit(f"{checkpoint} began with another recipe:\n{run.recipe}\nexpected now:\n{recipe}")
    return run


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a student by distillation, or go on with it.")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/, models/ and tools/")
    parser.add_argument("--cache", type=Path, required=True, help="folder that bench.training.features filled")
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of this run: checkpoint, figures, final weights"
    )
    parser.add_argument("--samples", type=int, required=True, help="pictures to show in all")
    parser.add_argument("--start", type=Path, help="an ONNX model of this network, to begin with its weights")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change the recipe")
    parser.add_argument("--checkpoint-every-s", type=float, default=240.0)
    parser.add_argument("--judge-every", type=int, default=500_000, help="samples between judgements on val")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    options.run.mkdir(parents=True, exist_ok=True)
    if (options.run / "final.pt").exists():
        raise SystemExit(f"{options.run} is done; name another folder for another run")
    recipe = Recipe().changed(options.set)
    pictures = load_pictures(options.shared, options.cache, recipe.held_out)
    sizes = {pack: int((pictures.pack == pack).sum()) for pack in PACKS}
    views = min(recipe.views, views_cached(options.cache, sizes, BLOCK))
    if views < FITTED_VIEWS:
        raise SystemExit(f"expected at least {FITTED_VIEWS} whole views in {options.cache}, found {views}")
    run = start(options.run, recipe, int(pictures.label.max()) + 1)
    targets = load_targets(options.cache, pictures, recipe, views)
    feed = Feed(pictures, targets, run.recipe, run.rng)
    if options.start and not run.samples:
        warm(
            run, onnx.load(str(options.start)), [feed.batch(recipe.sizes[-1][0]) for _ in range(WARMING)], targets.scale
        )
    watch = Watch(options, run)
    signal.signal(signal.SIGTERM, watch.stop)
    signal.signal(signal.SIGINT, watch.stop)
    watch.progress.say(f"{recipe}\n{views} views a picture; {run.samples:,} pictures seen before")
    if not train(run, feed, targets, options.samples, watch):
        raise SystemExit(f"stopped after {run.samples:,} pictures; the same command goes on")
    watch.judge()
    save_run(run, options.run / "final.pt")


if __name__ == "__main__":
    main()
