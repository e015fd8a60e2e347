"""The shared picture packs as training sees them, and the definitions of the quality figures.

Test splits cannot be read from here: `SPLITS` names what may be trained on and what may be chosen by, and
`read_pack` refuses the rest.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

PACKS = ("clothing", "grocery", "broad", "tiny")
SPLITS = {
    "clothing": ("train", "val"),
    "grocery": ("train", "val", "iconic"),
    "broad": ("train", "val"),
    "tiny": ("train", "val"),
}


def definitions(shared: Path) -> ModuleType:
    """`shared/tools/eval_quality.py` as a module: one place says what the figures mean."""
    path = shared / "tools" / "eval_quality.py"
    spec = importlib.util.spec_from_file_location("eval_quality", path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(f"expected the definitions of the quality figures at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_pack(shared: Path, pack: str, splits: tuple[str, ...] | None = None) -> list[dict[str, Any]]:
    """The manifest's rows of a pack, each with the JPEG's bytes under `data`; by default all that training may see."""
    splits = SPLITS[pack] if splits is None else splits
    if forbidden := set(splits) - set(SPLITS[pack]):
        raise ValueError(f"training may read {SPLITS[pack]} of {pack}, not {sorted(forbidden)}")
    rows: list[dict[str, Any]] = definitions(shared).load_pack(str(shared / "data" / pack), ",".join(splits))
    return rows
