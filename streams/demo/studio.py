"""Drawing a catalog's pictures on all cores: each process draws every n-th item into one folder.

    python -m streams.demo.studio FOLDER SEED FIRST COUNT STEP

draws the items FIRST, FIRST + STEP, ... below COUNT and writes a line for each that is done.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from models.image import encode_jpeg
from streams.demo.catalog import CatalogItem, file_links
from streams.demo.child import start_module, stop
from streams.demo.drawing import draw
from streams.demo.products import product

PROCESSES_MAX = 8
ITEMS_MIN = 16
"""Of a process: for fewer its start takes longer than its work."""
STOP_GRACE_S = 1.0


def draw_catalog(count: int, seed: int, folder: Path, told: Callable[[int], None]) -> list[CatalogItem]:
    """Return the items of `catalog.drawn_items` with their pictures in `folder`; `told` hears of each drawn one.

    The items' `picture` is left empty: it is in the folder.
    """
    processes = min(os.cpu_count() or 1, PROCESSES_MAX, -(-count // ITEMS_MIN))
    folder.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    children = []
    with tempfile.TemporaryFile() as errors, os.fdopen(reading, "rb") as lines:
        try:
            with os.fdopen(writing, "wb") as done:
                for first in range(processes):
                    numbers = (seed, first, count, processes)
                    arguments = ["streams.demo.studio", str(folder), *map(str, numbers)]
                    children.append(start_module(arguments, stdout=done, stderr=errors))
            for _ in lines:
                told(1)
            statuses = [child.wait() for child in children]
            if any(statuses):
                errors.seek(0)
                raise RuntimeError(f"a picture could not be drawn:\n{errors.read().decode(errors='replace')}")
        finally:
            for child in children:
                stop(child, STOP_GRACE_S)
    records = [product(number, seed) for number in range(count)]
    return [CatalogItem(item_id, {**record, "image": f"{item_id}.jpg"}, b"") for item_id, _, record in records]


def main(arguments: Sequence[str]) -> None:
    """Draw the items that the arguments name.

    The folder must be there: a process whose demo was stopped while it started finds it gone, and brings nothing back.
    """
    folder, (seed, first, count, step) = Path(arguments[0]), map(int, arguments[1:])
    link = file_links(folder)
    for number in range(first, count, step):
        item_id, style, _ = product(number, seed)
        link(item_id, encode_jpeg(draw(style)))
        sys.stdout.write(f"{item_id}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
