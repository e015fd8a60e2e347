"""What `make test` installs before the suite: where it may, once, and never a reason to fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import preparation
from tests.node_packages import Missing


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a browser on which apt-get may be run; what it was told is in the file `told`."""
    lacking = {"chromium", "chromedriver"}
    monkeypatch.setattr(shutil, "which", lambda name: None if name in lacking else f"/usr/bin/{name}")
    monkeypatch.setattr(preparation, "_allowed", lambda by_hand: [])
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program, broken = tmp_path / "apt-get", tmp_path / "broken"
    program.write_text(f'#!/bin/sh\necho "$DEBIAN_FRONTEND $*" >> {tmp_path}/told\n{{ test ! -e {broken}; }}\n')
    program.chmod(0o755)
    return tmp_path


def test_a_browser_is_installed_where_it_may_be(apt: Path) -> None:
    """The two packages that are missing, without questions; nothing is left that would keep it from another time."""
    preparation.browser(True, apt / "stamp")

    update, install = (apt / "told").read_text().splitlines()
    assert update.startswith("noninteractive ")
    assert update.endswith(" update")
    assert install.endswith(" install --no-install-recommends chromium chromium-driver")
    assert not (apt / "stamp").exists()


def test_it_is_tried_once(apt: Path) -> None:
    """When apt-get does not work that is said, with what to do by hand, and it is not tried again."""
    (apt / "broken").touch()

    with pytest.raises(Missing, match="apt-get update did not work .*by hand: apt-get install chromium"):
        preparation.browser(True, apt / "stamp")
    with pytest.raises(Missing, match="could not be installed before"):
        preparation.browser(True, apt / "stamp")

    assert len((apt / "told").read_text().splitlines()) == 1


def test_it_can_be_refused(apt: Path) -> None:
    """`APT=no` leaves the machine as it is."""
    with pytest.raises(Missing, match="APT=no"):
        preparation.browser(False, apt / "stamp")

    assert not (apt / "told").exists()


def test_where_all_is_there_nothing_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a browser, its driver, Node and npm there is nothing to do."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing is to be run"))

    preparation.browser(True, tmp_path / "stamp")
