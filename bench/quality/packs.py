"""The judged packs: pictures as a shop would send them, whole and after each change, with their categories.

Val splits are for choosing, test splits for telling; they are never mixed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.quality.definitions import changed

ROOT = Path(__file__).parents[2]


class Split(NamedTuple):
    """A part of a pack."""

    pack: str
    split: str

    def __str__(self) -> str:
        return f"{self.pack} {self.split}"


TEST = (Split("clothing", "test"), Split("grocery", "test"))
VAL = (Split("clothing", "val"), Split("grocery", "val"), Split("broad", "val"), Split("tiny", "val"))


@dataclass(frozen=True)
class Judged:
    """One split's pictures, as bytes of files."""

    split: Split
    names: Sequence[str]
    whole: Sequence[bytes]
    categories: NDArray[np.str_]
    senders: NDArray[np.str_] | None
    """Who took each picture, where the pack says so."""
    again: Mapping[str, Sequence[bytes]]
    """By kind of change some of the pictures, changed; PNG, so that nothing else happens to them."""
    picked: Sequence[int]
    """Which those are."""


def shared_folder() -> Path | None:
    """Where data, models and tools lie: KINDRED_SHARED, else `../shared` beside the checkout; None: nowhere."""
    folder = Path(os.environ.get("KINDRED_SHARED") or ROOT.parent / "shared")
    return folder if (folder / "tools" / "eval_quality.py").is_file() and (folder / "data").is_dir() else None


def load_split(shared: Path, split: Split, quality: Any, kinds: Iterable[str] | None = None) -> Judged:
    """A split with the changes of `kinds`; None: of every kind."""
    rows = quality.load_pack(str(shared / "data" / split.pack), split.split)
    pictures = [quality.decode(row["data"]) for row in rows]
    by_kind, picked = changed(quality, pictures)
    wanted = by_kind.keys() if kinds is None else kinds
    senders = quality.senders(rows)
    return Judged(
        split,
        [row["id"] for row in rows],
        [row["data"] for row in rows],
        np.array([row["category"] for row in rows]),
        np.array(senders) if senders else None,
        {kind: [png(picture) for picture in by_kind[kind]] for kind in wanted},
        picked,
    )


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG file, so that nothing happens to its pixels."""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()
