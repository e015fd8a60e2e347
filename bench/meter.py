"""Clocks and statistics: CPU seconds of processes beside wall clock, percentiles, medians over rounds."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Spent(NamedTuple):
    """What something took."""

    wall_s: float
    cpu_s: float


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, all its threads together, ended ones too; in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def memory_bytes(pid: int | str = "self") -> int:
    """Resident memory of a process, mapped files that it has touched included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Meter:
    """Wall clock and CPU of a process from now on."""

    def __init__(self, pid: int | None = None) -> None:
        self.pid = pid
        self._wall_s, self._cpu_s = time.perf_counter(), self._cpu()

    def _cpu(self) -> float:
        return time.process_time() if self.pid is None else cpu_s(self.pid)

    def spent(self) -> Spent:
        """Since it was made."""
        return Spent(time.perf_counter() - self._wall_s, self._cpu() - self._cpu_s)


def p50(values: Sequence[float]) -> float:
    """The median; not a number when there is none."""
    return float(np.percentile(values, 50)) if len(values) else float("nan")


def p99(values: Sequence[float]) -> float:
    """The 99th percentile; not a number when there is none."""
    return float(np.percentile(values, 99)) if len(values) else float("nan")


def median(values: Iterable[float]) -> float:
    """The median over rounds."""
    return statistics.median(values)


def ratio(ours: Sequence[float], baseline: Sequence[float]) -> float:
    """The median of the rounds' ratios: what disturbed a round disturbed both of its parts."""
    return median(mine / its for mine, its in zip(ours, baseline, strict=True))
