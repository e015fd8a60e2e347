"""The programs of docs/clients.md: taken out of the page, put beside their packages, and run.

A block of code that begins with a comment of one file name is that file.  What tests/clients says is installed once:
the packages of Node beside it, as those of tests/algolia, the jars of Spring in the user's cache, as those of Kafka.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from streams.brokers.jars import KafkaUnavailable, cache_folder, copy_jars, java
from tests.node_packages import Missing

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "clients.md"
PACKAGES = Path(__file__).parent / "clients"
NODE_MIN = 20
"""As NestJS 12 has it."""
BLOCK = re.compile(r"^```\w+\n((?://|#) ([\w.-]+\.\w+)\n.*?)^```$", re.MULTILINE | re.DOTALL)
RUN_S_MAX = 240
PATIENT = {
    "timeout_s: float = 5.0": "timeout_s: float = 40.0",
    "timeout_s=5.0": "timeout_s=40.0",
    "timeoutMs = 5000": "timeoutMs = 15_000",
    "Duration.ofSeconds(5)": "Duration.ofSeconds(40)",
    "Duration.ofSeconds(10)": "Duration.ofSeconds(40)",
}
"""Timeouts of the page, and those of the tests: a busy machine is no failure."""


def programs() -> dict[str, str]:
    """File name → source of each program of the page."""
    return {name: source for source, name in BLOCK.findall(PAGE.read_text())}


def written(names: Sequence[str], folder: Path, broker: str, prefix: str) -> None:
    """Write programs into a folder, as they are but for the broker's address, the topics' prefix and the timeouts."""
    sources = programs()
    for name in names:
        source = sources[name].replace("127.0.0.1:9092", broker)
        source = re.sub(r"\bsimilar-(?=requests\b|responses\b)", f"{prefix}similar-", source)
        for brief, patient in PATIENT.items():
            source = source.replace(brief, patient)
        (folder / name).write_text(source)


def spring_jars() -> Path:
    """The folder with Spring's jars as tests/clients/pom.xml has them.  Raises Missing."""
    recipe = PACKAGES / "pom.xml"
    version = ElementTree.parse(recipe).findtext("{*}parent/{*}version")
    if shutil.which("javac") is None:
        raise Missing("Spring's program is compiled, and there is no `javac` on the PATH; on Debian: default-jdk")
    try:
        java()
        return copy_jars(recipe, cache_folder() / f"spring-boot-{version}", "spring-kafka-*.jar", "Spring Boot")
    except KafkaUnavailable as error:
        raise Missing(str(error)) from error


class Program:
    """A program that runs; its lines are those that it printed once it has ended by itself."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"NO_COLOR": "1"} | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self) -> list[str]:
        """What it printed.  Fails unless it ends with status 0 in time; what it wrote to stderr is then shown."""
        try:
            printed, complaints = self.process.communicate(timeout=RUN_S_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            printed, complaints = self.process.communicate()
            raise AssertionError(f"it did not end within {RUN_S_MAX} s:\n{printed}{complaints}") from None
        assert self.process.returncode == 0, f"{printed}{complaints}"
        return printed.splitlines()


def python(name: str, folder: Path) -> Program:
    """A program in Python, with the packages of this environment."""
    return Program([sys.executable, name], folder, {"PYTHONPATH": str(ROOT)})


def node(name: str, folder: Path) -> Program:
    """A program in JavaScript."""
    return Program(["node", name], folder)


def compiled_typescript(folder: Path) -> None:
    """Check and compile all TypeScript of a folder that `node_modules` lies in."""
    shutil.copy(PACKAGES / "tsconfig.json", folder)
    shutil.copy(PACKAGES / "package.json", folder)
    compiler = folder / "node_modules" / ".bin" / "tsc"
    done = subprocess.run([compiler], cwd=folder, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
    assert done.returncode == 0, done.stdout


def compiled_java(name: str, folder: Path, jars: Path) -> None:
    """Compile a program in Java into `folder`."""
    command = ["javac", "-parameters", "-Xlint:all,-processing,-serial", "-Werror", "-cp", f"{jars}/*", "-d", ".", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
    assert done.returncode == 0, done.stderr


def spring(folder: Path, jars: Path, broker: str, *arguments: str) -> Program:
    """Spring's program, started as quickly as a JVM can and without a word of its own."""
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]
    quiet = ["--logging.level.root=warn", "--spring.main.banner-mode=off"]
    command = [java(), *quick, "-cp", f"{folder}:{jars}/*", "shop.Shop"]
    return Program([*command, f"--spring.kafka.bootstrap-servers={broker}", *quiet, *arguments], folder)
