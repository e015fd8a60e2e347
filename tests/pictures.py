"""Pictures for tests: the clothing pack where it lies, else the demo's drawn ones; and a folder to serve them from."""

from __future__ import annotations

import csv
import tarfile
from collections import Counter
from pathlib import Path

from streams.demo.catalog import drawn_items
from tests.conftest import shared_path

CATEGORIES = 5
"""So few that each has enough members to be found."""


def write_pictures(folder: Path, shared: Path | None, count: int) -> dict[str, str]:
    """Write `count` pictures into `folder`; their link (relative to it) → category."""
    pack = shared / "clothing" / "manifest.csv" if shared else None
    if pack is not None and pack.exists():
        return _clothing(folder, pack.parent, count)
    links = {}
    for item in drawn_items(count, seed=1):
        link = f"{item.item_id}.jpg"
        (folder / link).write_bytes(item.picture)
        links[link] = item.record["category"]
    return links


def pictures_at_hand(folder: Path, count: int) -> dict[str, str]:
    """`write_pictures` of the clothing pack where the shared folder has it."""
    shared = shared_path() / "data"
    return write_pictures(folder, shared if shared.is_dir() else None, count)


def _clothing(folder: Path, pack: Path, count: int) -> dict[str, str]:
    with (pack / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    largest = [name for name, _ in Counter(row["category"] for row in rows).most_common(CATEGORIES)]
    chosen: dict[str, str] = {}
    for category in largest:
        of_it = [row["file"] for row in rows if row["category"] == category]
        chosen |= dict.fromkeys(of_it[: count // CATEGORIES], category)
    links = {}
    with tarfile.open(pack / "test.tar") as tar:
        for member in tar:
            if member.name in chosen and (content := tar.extractfile(member)):
                link = member.name.replace("/", "-")
                (folder / link).write_bytes(content.read())
                links[link] = chosen[member.name]
    return links
