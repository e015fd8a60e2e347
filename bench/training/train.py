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
import copy
import dataclasses
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.training import losses
from bench.training.data import FITTED_VIEWS, Targets, load_pictures, load_targets, views_cached
from bench.training.features import BLOCK
from bench.training.feed import Batch, Feed
from bench.training.judge import HEADER, Embed, judge, table
from bench.training.muon import Muon
from bench.training.network import MEAN, STD, Student
from bench.training.packs import PACKS
from bench.training.progress import Progress
from bench.training.recipe import Recipe

GRADIENT_NORM_MAX = 5.0


def normalized(pixels: np.ndarray[Any, Any]) -> Tensor:
    """[B, S, S, 3], 0..255 -> the network's input; channels stay last in memory, where convolutions are fastest."""
    return (torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2) - MEAN) / STD


def embedder(network: Student) -> Embed:
    """The network as the judge wants it, from uint8 pixels on."""

    def embed(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        network.eval()
        with torch.no_grad():
            out: np.ndarray[Any, Any] = network(normalized(pixels))[0].numpy()
        return out

    return embed


class Run:
    """A student in training: `step` by `step`, and `state` from which another process goes on."""

    def __init__(self, recipe: Recipe, labels: int) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.labels = recipe, labels
        self.student = Student(recipe.dimension, labels, recipe.depths).to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.student).eval()
        self.rng = np.random.default_rng(recipe.seed)
        self.steps, self.samples = 0, 0
        self.smoothed: dict[str, float] = {}
        matrices = self.student.matrices()
        taken = {id(p) for p in matrices}
        others = [p for p in self.student.parameters() if id(p) not in taken]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": recipe.decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=recipe.rate, fused=True),
            Muon(matrices, lr=recipe.rate, weight_decay=recipe.decay),
        ]

    def step(self, batch: Batch, scale: float, share: float) -> None:
        """One step on one batch; `share` of the samples were seen before it."""
        rate = self.recipe.rate_at(self.steps, share)
        self.student.train()
        parts = self._losses(batch, scale)
        loss = torch.stack([getattr(self.recipe, name) * part for name, part in parts.items()]).sum()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), GRADIENT_NORM_MAX)
        for optimizer in self.optimizers:
            optimizer.step()
        self.steps += 1
        self.samples += len(batch.pixels)
        self._average()
        for name, part in parts.items():
            self.smoothed[name] = 0.98 * self.smoothed.get(name, part.item()) + 0.02 * part.item()

    def _losses(self, batch: Batch, scale: float) -> dict[str, Tensor]:
        recipe = self.recipe
        target, other, queue = (torch.from_numpy(x) for x in (batch.target, batch.other, batch.queue))
        raw, features = self.student(normalized(batch.pixels))
        e, u = (nn.functional.normalize(x, dim=1) for x in (raw, target))
        out = {}
        if recipe.mse:
            out["mse"] = losses.squared_error(raw, target, scale)
        if recipe.kl:
            out["kl"] = losses.neighbourhood(e, u, queue, recipe.temperature)
        if recipe.contrast:
            out["contrast"] = losses.target_contrast(e, other, queue, torch.from_numpy(batch.same), recipe.temperature)
        if recipe.labels:
            out["labels"] = losses.labels(self.student.labels(features), torch.from_numpy(batch.label))
        return out

    @torch.no_grad()
    def _average(self) -> None:
        """Early weights are soon forgotten; from some thousand steps on the average is as long as the recipe says."""
        keep = min(self.recipe.average, (1 + self.steps) / (10 + self.steps))
        now, mean = self.student.state_dict(), self.averaged.state_dict()
        floating = [name for name, x in now.items() if x.is_floating_point()]
        torch._foreach_lerp_([mean[name] for name in floating], [now[name] for name in floating], 1 - keep)

    def state(self) -> dict[str, Any]:
        return {
            "recipe": dataclasses.asdict(self.recipe),
            "labels": self.labels,
            "student": self.student.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
            "samples": self.samples,
            "smoothed": self.smoothed,
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Run:
        run = cls(Recipe(**state["recipe"]), state["labels"])
        run.student.load_state_dict(state["student"])
        run.averaged.load_state_dict(state["averaged"])
        for optimizer, stored in zip(run.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        run.rng.bit_generator.state = state["rng"]
        run.steps, run.samples, run.smoothed = state["steps"], state["samples"], state["smoothed"]
        return run


def save_run(run: Run, path: Path) -> None:
    """There whole or not at all, also when the machine stops meanwhile."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as out:
        torch.save(run.state(), out)
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)


def load_run(folder: Path) -> Run:
    """The end of a run where it stands, else its newest checkpoint."""
    final = folder / "final.pt"
    return Run.restored(torch.load(final if final.exists() else folder / "checkpoint.pt", weights_only=True))


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
    watch = Watch(options, run)
    signal.signal(signal.SIGTERM, watch.stop)
    signal.signal(signal.SIGINT, watch.stop)
    watch.progress.say(f"{recipe}\n{views} views a picture; {run.samples:,} pictures seen before")
    if train(run, Feed(pictures, targets, run.recipe, run.rng), targets, options.samples, watch):
        watch.judge()
        save_run(run, options.run / "final.pt")


if __name__ == "__main__":
    main()
