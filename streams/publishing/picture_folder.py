"""A folder of pictures as a catalog: every picture an item, every sub-folder a category.

`shoes/red runner.jpg` becomes the item `shoes/red runner.jpg` with the title "red runner" and the category `shoes`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".bmp", ".tif", ".tiff"})


def picture_files(folder: Path) -> Iterator[Path]:
    """The pictures in a folder and below, in the order of their names; hidden ones are left out."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in SUFFIXES and path.is_file() and _named_in_unicode(path):
            yield path


def picture_record(path: Path, folder: Path, image_root: Path | None) -> dict[str, Any]:
    """The record of a picture in `folder`.

    Its link is relative where `path` lies under `image_root`, so that it holds wherever a worker has mounted that
    folder; else it is an absolute `file:` link, which a worker reads only below its own image root.
    """
    relative = path.relative_to(folder)
    record: dict[str, Any] = {"objectID": relative.as_posix(), "title": _title(path), "image": _link(path, image_root)}
    categories = relative.parent.parts
    if categories:
        record["category"] = categories[0] if len(categories) == 1 else list(categories)
    return record


def lies_under(path: Path, image_root: Path | None) -> bool:
    """Whether links to what is in `path` can be relative to the image root."""
    return image_root is not None and path.resolve().is_relative_to(image_root.resolve())


def _link(path: Path, image_root: Path | None) -> str:
    if image_root is not None and lies_under(path, image_root):
        relative = path.resolve().relative_to(image_root.resolve()).as_posix()
        return "./" + relative if ":" in relative else relative  # `data:1.jpg` would be a link of another kind
    return path.resolve().as_uri()


def _title(path: Path) -> str:
    return " ".join(path.stem.replace("_", " ").replace("-", " ").split()) or path.stem


def _named_in_unicode(path: Path) -> bool:
    """A record is JSON in UTF-8, so a name that is not cannot stand in it."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True
