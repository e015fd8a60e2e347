"""What this processor can, as far as it decides how the network is run."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
EXACT_SUMS = frozenset({"avx512_vnni", "avx_vnni"})
"""Linux' names of the instructions that add 8-bit products in 32 bits."""


def adds_exactly(cpuinfo: Path = CPUINFO) -> bool:
    """Whether 8-bit products are added in 32 bits, so that no sum can be clipped; False also where nothing tells."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = [line.partition(":")[2].split() for line in lines if line.startswith("flags")]
    return bool(flags) and all(not EXACT_SUMS.isdisjoint(each) for each in flags)
