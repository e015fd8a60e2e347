"""Packages of Node for tests: installed beside their package.json, once, and kept between runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

INSTALL_S_MAX = 150


class Missing(Exception):
    """What a test needs is not here; the message says what, and how to get it."""


def node_packages(folder: Path, node_min: int = 18) -> Path:
    """`folder` with the packages of its package-lock.json in it.

    Raises Missing without Node `node_min`, without npm, and where npm cannot install them.
    """
    for program in ("node", "npm"):
        if not shutil.which(program):
            raise Missing(f"{program} is not installed; on Debian: apt-get install nodejs npm")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < node_min:
        raise Missing(f"tests/{folder.name} needs Node {node_min} or later, and this is {version}")
    installed = folder / "node_modules" / ".package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_S_MAX)
        except (subprocess.SubprocessError, OSError) as error:
            told = getattr(error, "stderr", None) or error
            raise Missing(f"npm cannot install the packages of tests/{folder.name}: {told}") from error
        installed.touch()
    return folder
