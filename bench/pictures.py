"""Pictures to measure with: real product pictures where they lie, else ones that the demo draws."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from streams.demo.catalog import drawn_items

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "bench"
DRAWN_MAX = 600
"""A drawn picture costs some 20 ms; they are kept."""


def clothing_folder() -> Path | None:
    """The pack of clothing pictures (KINDRED_SHARED, else `../shared` beside the checkout); None: not here."""
    folder = Path(os.environ.get("KINDRED_SHARED") or ROOT.parent / "shared") / "data" / "clothing"
    return folder if (folder / "test.tar").is_file() else None


def pictures(count: int) -> tuple[str, list[bytes]]:
    """Where they come from, and up to `count` different JPEG files."""
    folder = clothing_folder()
    if folder is not None:
        return "clothing", _packed(folder, count)
    return "drawn", _drawn(min(count, DRAWN_MAX))


def _packed(folder: Path, count: int) -> list[bytes]:
    found: dict[bytes, None] = {}
    for pack in ("test", "val", "train"):
        with tarfile.open(folder / f"{pack}.tar") as tar:
            for member in tar:
                if len(found) >= count:
                    return list(found)
                content = tar.extractfile(member) if member.isfile() and member.name.endswith(".jpg") else None
                if content is not None:
                    found[content.read()] = None
    return list(found)


def _drawn(count: int) -> list[bytes]:
    CACHE.mkdir(parents=True, exist_ok=True)
    for number, item in enumerate(drawn_items(count, seed=1) if _missing(count) else ()):
        _drawn_file(number).write_bytes(item.picture)
    return [_drawn_file(number).read_bytes() for number in range(count)]


def _missing(count: int) -> bool:
    return not all(_drawn_file(number).is_file() for number in range(count))


def _drawn_file(number: int) -> Path:
    return CACHE / f"drawn-{number:04d}.jpg"
