"""`python -m bench [TABLE ...]`: run benchmarks on a real broker and print what they found."""

from __future__ import annotations

import os

# Before NumPy is imported, as the workers have it: more threads make small products slower, and figures noisy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import asyncio
import contextlib
import importlib
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from bench.environment import environment, environment_line
from bench.ground import Ground
from bench.report import Table
from streams.brokers.apache_kafka import KafkaBroker
from streams.brokers.jars import KafkaUnavailable
from streams.reports.terminal import Terminal

TABLES = {
    "stock": "stock levels through the track stage",
    "freshness": "catalog and stock events until answers know of them",
    "requests": "round trips, and requests a core, with and without stock events waiting",
    "gateway": "HTTP calls, and what a flood of them leaves to the stages",
    "embed": "pictures from links to vectors",
    "index": "search, upkeep and memory of a shard",
    "watch": "watched lists under a stock feed",
    "rules": "requests with 0, 100 and 10,000 rules, and with reasons",
}
ON_BROKER = ("stock", "freshness", "requests", "gateway", "watch")
RESULTS = Path(__file__).with_name("results")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    names = "\n".join(f"  {name:10s} {what}" for name, what in TABLES.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Benchmarks, each beside a baseline measured in the same run.",
        epilog=f"tables:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="which to run (all)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: two minutes instead of ten")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results there as well")
    parser.add_argument("--broker", metavar="HOST:PORT", help="use this broker instead of starting one")
    return parser


def chosen(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for; ends the process with status 2 for a table that there is not."""
    command = parser()
    options = command.parse_args(arguments)
    if unknown := [name for name in options.tables if name not in TABLES]:
        command.error(f"there is no table {unknown[0]!r}; choose from {', '.join(TABLES)}")
    options.tables = [name for name in TABLES if not options.tables or name in options.tables]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tables that were asked for; 1 if one could not be measured.  A missed goal is a finding, no failure."""
    options, terminal = chosen(arguments), Terminal()
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader for a moment
    found: list[dict[str, object]] = []
    failed = 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kindred-bench-")))
        broker = options.broker or ""
        if not broker and set(options.tables) & set(ON_BROKER):
            try:
                terminal.note("starting Apache Kafka ...")
                broker = stack.enter_context(KafkaBroker(folder / "kafka")).bootstrap
            except KafkaUnavailable as error:
                terminal.note(str(error), style="red")
                return 1
        RESULTS.mkdir(exist_ok=True)
        for name in options.tables:
            about, started = environment(), time.monotonic()
            terminal.note(f"{name}: {TABLES[name]} ...")
            try:
                tables = run(name, Ground(options.quick, folder, terminal, broker))
            except Exception:
                logging.exception("%s could not be measured", name)
                failed = 1
                continue
            terminal.line(environment_line(about))
            for table in tables:
                table.show(terminal)
            result = {"environment": about, "quick": options.quick, "took_s": round(time.monotonic() - started, 1)}
            found.append(result | {"name": name, "tables": [table.json() for table in tables]})
            write(RESULTS / f"{name}.json", found[-1])
    if options.json:
        write(options.json, found)
    return failed


def run(name: str, ground: Ground) -> list[Table]:
    """What one benchmark found."""
    return asyncio.run(importlib.import_module(f"bench.{name}").measure(ground))


def write(file: Path, value: object) -> None:
    """A value as JSON; what is not a number becomes null."""
    file.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")


if __name__ == "__main__":
    # By the system's default no block would be left in order, and baselines and folders would outlive this process.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
