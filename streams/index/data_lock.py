"""A folder of shards has one worker: two that wrote the same checkpoints would break each other's."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from models.errors import KindredError


class DataInUse(KindredError):
    """Another worker uses the same folder of shards."""


@contextlib.contextmanager
def data_lock(folder: Path) -> Iterator[None]:
    """Hold the folder, made if it is not there, until the process ends or the block does.  Raises DataInUse."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataInUse(
                f"KINDRED_DATA {folder} is in use by another worker; give each worker a folder of its own"
            ) from error
        yield
