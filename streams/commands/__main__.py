"""The command line: `kindred`, its errors and exit codes, and the commands that run something.

Exit codes: 0 done, 1 failed, 2 wrong use or settings.  Each command reads the settings, does one thing with what
another module offers, and writes through `reports/terminal.py`.  Imports that take long wait for the command that
needs them.  Those that publish are in `publish.py`, those that ask and look in `questions.py`, those that try rules in
`rules.py`, those that try a model in `model.py`, those that watch lists in `watch.py`.
"""
# ruff: noqa: D301  (the \b of click is a backspace: it keeps the lines of an example apart)

from __future__ import annotations

import os
import signal
import sys

if sys.argv[1:2] == ["worker"]:
    # Whoever stops a worker while it is being loaded, which takes a second or two, stops nothing that has begun.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

import logging
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from models.errors import BadRequest, KindredError
from streams.commands.model import model
from streams.commands.publish import publish
from streams.commands.questions import dead_letters, item, similar, status
from streams.commands.rules import rules
from streams.commands.watch import watch, watches
from streams.connection import Connection, cluster_id
from streams.kafka.command_session import required_broker, with_broker
from streams.kafka.log_reader import partition_counts
from streams.reports.terminal import Terminal, printable
from streams.settings import PREFIX, BadSetting, Settings
from streams.stages import STAGES
from streams.topic_configs import POLICY, differences, topic_configs
from streams.topics import ensure_topics, topic_table

SECRETS = ("search_key", "admin_key")


class Failed(click.ClickException):
    """Ends a command with one line on standard error and the exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: Any = None) -> None:
        """Write the line; what it quotes of others' texts is made harmless."""
        click.echo("error: " + "\n".join(map(printable, self.format_message().split("\n"))), err=True, file=file)


class Commands(click.Group):
    """Turns our errors into exit codes, and a command's returned number into its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            code = super().invoke(ctx)
        except BadSetting as error:
            raise Failed(str(error), 2) from error
        except KindredError as error:
            # A status is what an answer has; a file or an argument that cannot be used has none.
            status = None if isinstance(error, BadRequest) else getattr(error, "status", None)
            raise Failed(f"{status}: {error}" if status else str(error), 1) from error
        ctx.exit(code if isinstance(code, int) else 0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="kindred")
def main() -> None:
    """Kindred recommends items that look alike, from a live catalog on Kafka.

    Start with `kindred demo`: it needs no broker and shows the whole system.  All other commands read the environment,
    KINDRED_BROKER first; `kindred worker --settings` lists every variable.
    """
    # Before NumPy is imported: more threads make a request's small products ten times slower.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


for command in (publish, rules, similar, watch, watches, item, status, dead_letters, model):
    main.add_command(command)


@main.command(short_help="See the whole system on a tour.")
@click.option(
    "--items", type=click.IntRange(10, 100_000), help="How many items the catalog has (300), or pictures are taken."
)
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of pictures to use instead of drawn ones; its sub-folders become categories.",
)
@click.option("--exit", "exit_at_end", is_flag=True, help="End after the tour, also on a terminal.")
def demo(items: int | None, images: Path | None, exit_at_end: bool) -> int:
    """The whole system, started for you, and a tour of what it does.

    Starts a worker, streams a catalog of pictures onto the topics, asks for look-alikes while items go on sale, run
    low, sell out, are deleted and come in, and writes demo.html.  On a terminal it then stays up for your own questions
    until Ctrl-C.  Without KINDRED_BROKER it runs on an embedded broker, in memory; with it, on topics of its own that
    are deleted at the end.  Ends with 1 when a step did not come out.

    \b
    Example:  kindred demo --items 500
              kindred demo --images ~/Pictures/shop --exit
    """
    from streams.demo.tour import run

    settings = Settings.read(os.environ)
    return int(run(settings, items=items, images=images, exit_at_end=exit_at_end))


def _shards(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """`0-3`, `2`, `0,2-3` as numbers, each once, in order."""
    if text is None:
        return None
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,4})(?:-([0-9]{1,4}))?\s*", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if high < low:
            raise click.BadParameter(f"expected numbers and ranges as 0-3 or 0,2, got {text!r}", context, parameter)
        numbers |= set(range(low, high + 1))
    return tuple(sorted(numbers))


@main.command(short_help="Run the stages of Kindred.")
@click.option("--stage", "stages", multiple=True, type=click.Choice(STAGES), help="May be repeated; none = all stages.")
@click.option("--shards", callback=_shards, metavar="0-3", help="The shards that this worker holds; none = all.")
@click.option("--broker", metavar="HOST:PORT", help="Instead of KINDRED_BROKER.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Instead of KINDRED_DATA.")
@click.option("--model", type=click.Path(dir_okay=False, path_type=Path), help="Instead of KINDRED_MODEL.")
@click.option("--web", metavar="HOST:PORT", help="Instead of KINDRED_WEB.")
@click.option("--settings", "show_settings", is_flag=True, help="Print every setting with its value, and end.")
def worker(stages: tuple[str, ...], shards: tuple[int, ...] | None, show_settings: bool, **overrides: Any) -> int:
    """Run the stages: track the catalog, embed images, index vectors, serve requests.

    Start as many as you like; they share the work.  It waits for a broker that is away, stops within seconds of SIGTERM
    with nothing lost, and ends with a status other than 0 when a stage crashed.

    \b
    Example:  kindred worker
              kindred worker --stage embed          (only embeds; needs no index)
              kindred worker --stage index --shards 0-1
    """
    settings = Settings.read(os.environ, **overrides)
    if show_settings:
        return _show_settings(settings)
    required_broker(settings)
    if shards and shards[-1] >= settings.shards:
        raise BadSetting(
            f"--shards names shard {shards[-1]}, but KINDRED_SHARDS is {settings.shards}: 0 to {settings.shards - 1}"
        )
    from streams.worker import run_worker

    if shards is not None and len(shards) < settings.shards and "serve" in (stages or STAGES):
        raise click.UsageError(
            "--shards: a worker that answers requests (--stage serve, or no --stage) must hold all shards, "
            "or it would not know the items of the others"
        )
    return int(run_worker(settings, frozenset(stages or STAGES), shards))


def _show_settings(settings: Settings) -> int:
    rows = []
    for each in fields(Settings):
        value = getattr(settings, each.name)
        shown = ",".join(value) if isinstance(value, tuple) else value
        source = "default" if value == each.default else "set"
        hidden = each.name in SECRETS and value is not None
        rows.append((PREFIX + each.name.upper(), "***" if hidden else shown, source, each.metadata["meaning"]))
    Terminal().table(("variable", "value", "from", "meaning"), rows)
    return 0


@main.command(short_help="Run the embedded broker alone.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port on 127.0.0.1; none = a free one.")
def broker(port: int | None) -> int:
    """Run the embedded broker alone, in the foreground, with all topics made.

    It lives in memory on this machine: 5 MiB a partition, nothing compacted, one worker a stage, all forgotten when it
    ends.  For trying things out; `make kafka` starts a real broker.

    \b
    Example:  kindred broker --port 9092 &
              export KINDRED_BROKER=127.0.0.1:9092
    """
    import threading

    from streams.brokers.embedded import EmbeddedBroker

    settings = Settings.read(os.environ)
    terminal = Terminal()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with EmbeddedBroker(port or 0) as running:
        address = running.start({topic.name: topic.partitions for topic in topic_table(settings)})
        terminal.line(
            f"The embedded broker listens on {address}; it keeps 5 MiB a partition and forgets all when it ends."
        )
        terminal.line(f"export KINDRED_BROKER={address}", style="bold")
        terminal.out.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            terminal.note("stopped")
    return 0


@main.command(short_help="Create or check the topics.")
def topics() -> int:
    """Create the topics that are missing and check the others.

    Topics of ours must have KINDRED_SHARDS partitions: another number is an error that names both.  What else is wrong
    with a topic is told with the command that mends it, and ends with 1.  A worker does the same when it starts, but
    goes on.

    \b
    Example:  KINDRED_SHARDS=8 kindred topics
    """
    settings = Settings.read(os.environ)
    table = topic_table(settings)

    async def work(connection: Connection) -> int:
        created = await ensure_topics(connection, table, settings.replication)
        names = [topic.name for topic in table]
        counts = await partition_counts(connection, names)
        configs = await topic_configs(connection.on(await cluster_id(connection)), names)
        wrong = differences(table, configs)
        rows = [
            (
                each.name,
                counts.get(each.name),
                configs.get(each.name, {}).get(POLICY, "not told"),
                "created" if each.name in created else "wrong, see below" if each.name in wrong else "there",
            )
            for each in table
        ]
        Terminal().table(("topic", "partitions", "policy", "state"), rows, numbers=("partitions",))
        for name, (words, mend) in wrong.items():
            click.echo(f"{name}: {words}\n  {mend}", err=True)
        return 1 if wrong else 0

    return with_broker(settings, work)


if __name__ == "__main__":
    main()
