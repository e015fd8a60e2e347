"""The shipped model from the packs: one command, hours, from which every step goes on after a stop.

    python -m bench.training --shared ../shared --folder FOLDER [--cores 2] [--share 1]

1. What the teachers say of every view, by as many processes as there are cores.
2. The runs of `RUNS`, each of one core: the first from random weights, the next from the file that the last one gave.
3. The files, in FOLDER/model, judged on val.

With `--share .01` every run sees a hundredth of its samples: whether all steps work, in minutes once 1 is done.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Step(NamedTuple):
    """A run of training, and how strongly its last map leans on labels (chosen on val)."""

    name: str
    samples: int
    strength: float
    changes: str = ""
    """To the recipe's defaults, with blanks between them."""


VIEWS = 6
LATER = "depths=1,2,3,2 contrast=0.3 tighter=0.25 jpeg=0.3 rate=3e-3 cool_down=1"
"""What all runs but the first change."""
RUNS = (
    Step("first", 2_000_000, 0.7),
    Step("second", 680_000, 0.7, f"{LATER} sizes=96:0.8,128:1 bfloat16=0"),
    Step("third", 1_400_000, 0.7, f"{LATER} sizes=96:0.55,128:0.8,160:1"),
)
"""Those that the shipped model comes from, one after the other."""

Command = list[str]

KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
"""For glibc: what a step of training has freed is kept for the next one.

Given back and taken anew, it comes as thousands of page faults a step, and in a virtual machine each of them can take
20 us: a third of the whole time.
"""


def steps(shared: Path, folder: Path, cores: int, share: float) -> list[list[Command]]:
    """What is run one after the other; the commands of a step beside each other."""
    places = ["--shared", str(shared), "--cache", str(folder / "cache")]

    def module(name: str, *arguments: str) -> Command:
        return [sys.executable, "-m", f"bench.training.{name}", *places, *arguments]

    done = [[module("features", "--views", str(VIEWS), "--part", f"{k}/{cores}") for k in range(cores)]]
    start: list[str] = []
    for run in RUNS:
        at, out = ["--run", str(folder / run.name)], folder / run.name / "model"
        changes = [text for change in run.changes.split() for text in ("--set", change)]
        if not (folder / run.name / "final.pt").exists():
            samples = str(max(1, round(run.samples * share)))
            done.append([module("train", *at, "--samples", samples, *start, *changes)])
        out = folder / "model" if run is RUNS[-1] else out
        done.append([module("export", *at, "--out", str(out), "--strength", str(run.strength), "--judge")])
        start = ["--start", str(out / "kindred.onnx")]
    return done


def run_beside(commands: Sequence[Command]) -> None:
    """Run them beside each other, one thread each; SystemExit with the first status that is not 0."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | KEPT_MEMORY
    running = [subprocess.Popen(command, env=environment) for command in commands]
    try:
        statuses = [each.wait() for each in running]
    except BaseException:
        for each in running:
            each.terminate()  # training writes a checkpoint
        for each in running:
            each.wait()
        raise
    if failed := next(filter(None, statuses), 0):
        raise SystemExit(failed)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.training", description="Train the shipped model.")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/, models/ and tools/")
    parser.add_argument("--folder", type=Path, required=True, help="what is computed on the way, some 6 GB; goes on")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="for the teachers")
    parser.add_argument("--share", type=float, default=1.0, help="of the samples, to try the way")
    options = parser.parse_args(arguments)
    for commands in steps(options.shared, options.folder, options.cores, options.share):
        print(" & ".join(" ".join(command[1:]) for command in commands), flush=True)
        run_beside(commands)
    print(f"The model is in {options.folder / 'model'}: kindred.onnx and kindred.json.")


if __name__ == "__main__":
    main()
