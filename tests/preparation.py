"""What `make test` fetches before the suite, so that no test waits for it: a browser, packages of Node, Spring's jars.

Nothing here fails the suite: what cannot be had is said in a line, and its tests are skipped with their own.
The browser comes by apt-get, on Debian only, and only for root or where sudo asks for no password; `make test APT=no`
leaves the machine's packages alone.  It is tried once: a stamp in .cache remembers that it did not work.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from tests.client_programs import NODE_MIN, PACKAGES, spring_jars
from tests.node_packages import Missing, node_packages

ROOT = Path(__file__).parents[1]
STAMP = ROOT / ".cache" / "apt-tried"
APT_S_MAX = 240
DEBIAN_PACKAGES: Mapping[str, str] = {
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "node": "nodejs",
    "npm": "npm",
}
"""Program → the package of Debian that has it."""
BROWSER_TESTS = "the tests of widgets in a browser are skipped"


def browser(wanted: bool, stamp: Path = STAMP) -> None:
    """Install what the tests of widgets run in, where that is allowed and was not tried before.  Raises Missing."""
    lacking = [package for program, package in DEBIAN_PACKAGES.items() if not shutil.which(program)]
    if not lacking:
        return
    by_hand = f"by hand: apt-get install {' '.join(lacking)}"
    if not wanted:
        raise Missing(f"{', '.join(lacking)}: not installed, as APT=no asks; {BROWSER_TESTS}")
    if stamp.exists():
        raise Missing(f"{', '.join(lacking)}: could not be installed before ({stamp}); {by_hand}; {BROWSER_TESTS}")
    apt = [*_allowed(by_hand), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--quiet", "--yes"]
    apt += ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "DPkg::Lock::Timeout=60"]
    click.echo(f"Installing {', '.join(lacking)} by apt-get, once, for the tests of widgets in a browser ...")
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.touch()
    for command in (["update"], ["install", "--no-install-recommends", *lacking]):
        try:
            subprocess.run([*apt, *command], check=True, capture_output=True, text=True, timeout=APT_S_MAX)
        except (subprocess.SubprocessError, OSError) as error:
            told = ((getattr(error, "stderr", None) or "").strip() or str(error)).splitlines()[-1]
            raise Missing(f"apt-get {command[0]} did not work ({told}); {by_hand}; {BROWSER_TESTS}") from error
    stamp.unlink()


def _allowed(by_hand: str) -> list[str]:
    """The prefix of a command that may install packages.  Raises Missing where none may."""
    release = Path("/etc/os-release")
    if "ID=debian" not in (release.read_text().splitlines() if release.is_file() else []):
        raise Missing(f"no browser is installed here, as this is not Debian; {BROWSER_TESTS}")
    if not shutil.which("apt-get"):
        raise Missing(f"there is no apt-get; {BROWSER_TESTS}")
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "--non-interactive"]
    if shutil.which("sudo") and not subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode:
        return sudo
    raise Missing(f"neither root nor sudo without a password; {by_hand}; {BROWSER_TESTS}")


def main() -> None:
    """Fetch all, and say what could not be had."""
    apt = "APT=no" not in sys.argv[1:]
    for fetch in (
        lambda: browser(apt),
        lambda: node_packages(ROOT / "tests" / "algolia"),
        lambda: node_packages(PACKAGES, NODE_MIN),
        spring_jars,
    ):
        try:
            fetch()
        except Missing as reason:
            click.echo(f"test set-up: {reason}", err=True)


if __name__ == "__main__":
    main()
