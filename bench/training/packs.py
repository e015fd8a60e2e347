"""The shared picture packs as training sees them.

Test splits cannot be read from here: `SPLITS` names what may be trained on and what may be chosen by, and
`read_pack` refuses the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.quality.definitions import definitions

PACKS = ("clothing", "grocery", "broad", "tiny")
SPLITS = {
    "clothing": ("train", "val"),
    "grocery": ("train", "val", "iconic"),
    "broad": ("train", "val"),
    "tiny": ("train", "val"),
}


def read_pack(shared: Path, pack: str, splits: tuple[str, ...] | None = None) -> list[dict[str, Any]]:
    """The manifest's rows of a pack, each with the JPEG's bytes under `data`; by default all that training may see."""
    splits = SPLITS[pack] if splits is None else splits
    if forbidden := set(splits) - set(SPLITS[pack]):
        raise ValueError(f"training may read {SPLITS[pack]} of {pack}, not {sorted(forbidden)}")
    rows: list[dict[str, Any]] = definitions(shared).load_pack(str(shared / "data" / pack), ",".join(splits))
    return rows
