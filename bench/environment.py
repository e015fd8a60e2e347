"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from streams.brokers.jars import kafka_version

PACKAGES = ("numpy", "onnxruntime", "aiokafka", "faust-streaming", "annoy", "pillow")


def environment() -> dict[str, Any]:
    """Cores, load, processor and versions, as they are now."""
    return {
        "at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(each, 2) for each in os.getloadavg()],
        "processor": _processor(),
        "python": platform.python_version(),
        "kafka": kafka_version(),
        **{name: version(name) for name in PACKAGES},
    }


def environment_line(found: dict[str, Any]) -> str:
    """The same on one line."""
    load = " ".join(f"{each:.1f}" for each in found["load_average"])
    versions = ", ".join(f"{name} {found[name]}" for name in ("python", "kafka", *PACKAGES))
    busy = "" if found["load_average"][0] < 0.5 * found["cores"] else " (busy: compare ratios and CPU, not seconds)"
    return f"{found['cores']} cores of {found['processor']}, load {load}{busy}; {versions}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
