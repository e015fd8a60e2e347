"""The jars of Apache Kafka: which version, where they are kept, fetched by Maven once.

`kafka.pom.xml` is the recipe; Maven's own settings say from where.  They are kept in the user's
cache, for all checkouts.
A folder of jars that is there is whole: it is filled under another name, by one process at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import click

RECIPE = Path(__file__).with_name("kafka.pom.xml")
JAVA_MIN = 17


class KafkaUnavailable(Exception):
    """Apache Kafka cannot be fetched or does not start here; the message says why and what to do."""


def kafka_version() -> str:
    """The version that the recipe names, as `4.3.1`."""
    version = ElementTree.parse(RECIPE).findtext("properties/kafka.version")  # noqa: S314 - our own file
    assert version is not None, f"{RECIPE.name} names no kafka.version"
    return version


def java() -> str:
    """The JVM's path.  Raises KafkaUnavailable when there is none, or one that is too old for Kafka 4."""
    home = os.environ.get("JAVA_HOME")
    path = shutil.which("java", path=f"{home}/bin") if home else None
    path = path or shutil.which("java")
    if path is None:
        raise KafkaUnavailable(f"Apache Kafka needs Java {JAVA_MIN} or later, and there is no `java` on the PATH")
    said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < JAVA_MIN:
        raise KafkaUnavailable(f"Apache Kafka needs Java {JAVA_MIN} or later, and {path} says: {said.strip()[:100]}")
    return path


def cache_folder() -> Path:
    """Where jars are kept for all checkouts: `$XDG_CACHE_HOME/kindred`, by default `~/.cache/kindred`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kindred"


def jars_folder() -> Path:
    """Where the jars of this version are, once they have been fetched."""
    return cache_folder() / f"kafka-{kafka_version()}"


def why_not() -> str | None:
    """Why Apache Kafka cannot be run here, or None if it can (fetching it first, if need be)."""
    try:
        java()
    except KafkaUnavailable as reason:
        return str(reason)
    if not jars_folder().is_dir() and shutil.which("mvn") is None:
        return "Apache Kafka is fetched by Maven, and there is no `mvn` on the PATH"
    return None


def fetch_jars() -> Path:
    """The folder of Kafka's jars, fetched by Maven if they are not there yet.  Safe for several processes at once.

    Raises KafkaUnavailable with the end of Maven's output when they cannot be fetched.
    """
    return copy_jars(RECIPE, jars_folder(), "kafka_*.jar", "Apache Kafka")


def copy_jars(recipe: Path, folder: Path, proof: str, what: str) -> Path:
    """`folder` with all jars that a recipe (pom.xml) names, copied by Maven unless it is there already.

    `proof` is a pattern that one of them matches, `what` names them in messages.  Safe for several processes at once.
    Raises KafkaUnavailable with the end of Maven's output when they cannot be fetched.
    """
    if folder.is_dir():
        return folder
    if shutil.which("mvn") is None:
        raise KafkaUnavailable(f"{what} is fetched by Maven, and there is no `mvn` on the PATH")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f"{folder.name}.lock")):
        if folder.is_dir():
            return folder
        partial = folder.with_name(f"{folder.name}.partial")  # renamed when whole: a folder that is there is complete
        shutil.rmtree(partial, ignore_errors=True)
        copied = subprocess.run(
            ["mvn", "--batch-mode", "-f", str(recipe), "dependency:copy-dependencies", f"-DoutputDirectory={partial}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder.parent,
        )
        if copied.returncode or not list(partial.glob(proof)):
            raise KafkaUnavailable(f"Maven could not fetch {what}:\n{copied.stdout[-2000:]}{copied.stderr[-500:]}")
        partial.rename(folder)
    return folder


def fetch_for_tests() -> int:
    """Fetch what the tests will run on, if they will; status 1 when they cannot have it."""
    if os.environ.get("KINDRED_TEST_BROKER") or why_not() is not None or jars_folder().is_dir():
        return 0
    click.echo(f"Fetching Apache Kafka {kafka_version()} by Maven (54 MB, once) ...", err=True)
    try:
        fetch_jars()
    except KafkaUnavailable as error:
        click.echo(f"{error}\nThe tests go on with the embedded broker.", err=True)
        return 1
    return 0


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock among processes; the kernel lets go of it however a process ends."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
