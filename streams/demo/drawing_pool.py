"""Drawing a catalog's pictures on all cores, in processes of their own that never outlive the demo."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import Any

from models.image import encode_jpeg
from streams.demo.catalog import CatalogItem, Link
from streams.demo.drawing import draw
from streams.demo.products import product

PROCESSES_MAX = 8
_PR_SET_PDEATHSIG = 1


def drawn_in_parallel(count: int, seed: int, link: Link) -> Iterator[CatalogItem]:
    """Yield the items of `catalog.drawn_items`, in their order, drawn by several processes."""
    processes = min(os.cpu_count() or 1, PROCESSES_MAX)
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the broker's threads in mid-work
    pool = ProcessPoolExecutor(processes, mp_context=spawn, initializer=_deaf_and_mortal, initargs=(os.getpid(),))
    try:
        for item_id, record, picture in pool.map(_drawn, range(count), repeat(seed), chunksize=4):
            yield CatalogItem(item_id, {**record, "image": link(item_id, picture)}, picture)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _drawn(number: int, seed: int) -> tuple[str, dict[str, Any], bytes]:
    item_id, style, record = product(number, seed)
    return item_id, record, encode_jpeg(draw(style))


def _deaf_and_mortal(parent: int) -> None:
    """A Ctrl-C is for the parent, which ends the pool; and when the parent is killed the kernel ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
