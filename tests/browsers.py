"""A real browser for tests: headless Chromium, as Debian's packages chromium and chromium-driver have it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome


@contextmanager
def chromium() -> Iterator[Chrome]:
    """Headless Chromium, ended at the end; the test is skipped with a line that says what is missing."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    for name, path in programs.items():
        if not path:
            pytest.skip(f"{name} is not installed; on Debian: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = programs["chromium"]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1300,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(programs["chromedriver"]))
    try:
        yield driver
    finally:
        driver.quit()
