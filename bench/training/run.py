"""A student in training: its state, one step, and how both are written down and read again.

Everything that the next step depends on (weights, their average, both optimizers, the random generator, counts) is in
a run's state, so one that was interrupted ends with the same weights as one that was not.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.training import losses
from bench.training.feed import Batch
from bench.training.muon import Muon
from bench.training.network import MEAN, STD, Student
from bench.training.recipe import Recipe

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # uint8[B, S, S, 3] -> float32[B, D]

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
            Muon(matrices, lr=recipe.rate, weight_decay=recipe.decay, bfloat16=recipe.bfloat16),
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
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
            raw, features = self.student(normalized(batch.pixels))
        raw, features = raw.float(), features.float()
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
