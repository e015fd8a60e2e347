"""A folder of shards has one worker: two that wrote the same checkpoints would break each other's."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from models.errors import KindredError
from streams.settings import BadSetting


class DataInUse(KindredError):
    """Another worker uses the same folder of shards."""


def make_data_folder(folder: Path) -> None:
    """Make a worker's folder, if it is not there.  BadSetting where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error


@contextlib.contextmanager
def data_lock(folder: Path) -> Iterator[None]:
    """Hold a folder until the process ends or the block does.

    Raises DataInUse, or BadSetting where nothing can be written there.
    """
    try:
        file = (folder / "lock").open("w")
    except OSError as error:
        raise _unusable(folder, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataInUse(
                f"KINDRED_DATA {folder} is in use by another worker; give each worker a folder of its own"
            ) from error
        yield


def _unusable(folder: Path, error: OSError) -> BadSetting:
    return BadSetting(f"KINDRED_DATA: expected a folder that can be written to, got {folder}: {error.strerror}")
