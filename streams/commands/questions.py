"""`kindred similar`, `item`, `status`, `dead-letters`: ask on the topics, and look at what is on them."""
# ruff: noqa: D301  (the \b of click is a backspace: it keeps the lines of an example apart)

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import click

from streams.client import SimilarClient
from streams.connection import Connection
from streams.kafka.command_session import with_broker
from streams.publishing.change_files import item_key
from streams.reports.answer_table import show_answer, typed_request
from streams.reports.dead_letters import newest_dead_letters, retry_dead_letters, show_dead_letters, show_retry
from streams.reports.item import read_item, show_item
from streams.reports.status import read_status, show_status
from streams.reports.terminal import Terminal
from streams.settings import Settings


class Within(click.FloatRange):
    """A number within bounds; click's own lets "nan" pass, which is within none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or an error of click's."""
        number = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is not a number.", param, ctx) if math.isnan(number) else number


@click.command(short_help="Ask for items that look alike.")
@click.argument("items", nargs=-1, metavar="[ITEM...]")
@click.option("--image", metavar="FILE|LINK", help="A picture to look like, with or without items.")
@click.option("-n", "hits", type=click.IntRange(1, 1_000), default=10, show_default=True, help="How many at most.")
@click.option("--filters", metavar="TEXT", help="For example 'category:shoes AND price < 100'.")
@click.option("--threshold", type=Within(0, 100), help="Leave out what scores less.")
@click.option("--out-of-stock", is_flag=True, help="Also what is out of stock.")
@click.option("--colour", type=Within(0, 1), help="How much colour alone counts beside the look.")
@click.option("--explain", is_flag=True, help="Why each hit is where it is, and what was removed by what.")
@click.option(
    "--sheet",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE.png",
    help="Also draw what was asked for and its hits, with scores and flags.",
)
@click.option("--timeout", "timeout_s", type=Within(0.01, 600), default=5.0, show_default=True, help="Seconds.")
@click.option("--json", "as_json", is_flag=True, help="The result as it came.")
def similar(
    items: tuple[str, ...], image: str | None, sheet: Path | None, timeout_s: float, as_json: bool, **typed: Any
) -> int:
    """Ask for items that look like ITEM, on the topic similar-requests, and print the reply.

    With several items, or an item and a picture, it looks for what is like all of them together.

    \b
    Example:  kindred similar shoe-1 -n 5 --filters 'on_sale:true' --explain
              kindred similar shoe-1 --sheet alike.png
              kindred similar --image photo.jpg --json | jq '.hits[].objectID'
    """
    if not items and not image:
        raise click.UsageError("Nothing to look like: give an ITEM or --image FILE.")
    settings = Settings.read(os.environ)
    request = typed_request(items, image, **typed)

    async def work(connection: Connection) -> None:
        async with SimilarClient(connection, settings) as client:
            result = await client.ask(request, timeout_s)
        terminal = Terminal()
        if as_json:
            terminal.json(result)
        else:
            show_answer(terminal, result, int(time.time() * 1000))
        if sheet is not None:
            from streams.reports.answer_sheet import answer_sheet

            drawn = await answer_sheet(connection, settings, items, image, result)
            terminal.file(sheet, drawn.png)
            terminal.note(f"drawn in {sheet}")
            if drawn.missing:
                terminal.note(f"{len(drawn.missing)} without a picture, as {drawn.missing[0]}", style="yellow")

    return with_broker(settings, work)


@click.command(short_help="Show what is known of one item.")
@click.argument("item_id", metavar="ITEM")
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
def item(item_id: str, as_json: bool) -> int:
    """What is known of one item: record, stock, flags, images and their errors.

    Reads the item's partition of the truths from the beginning, so it works without a worker and takes some seconds for
    a large catalog.  Ends with 1 when nothing is known.

    \b
    Example:  kindred item shoe-1
              kindred item shoe-1 --json | jq .obstacles
    """
    item_key(item_id)
    settings = Settings.read(os.environ)

    async def work(connection: Connection) -> int:
        terminal = Terminal()
        with terminal.progress("read", "messages", None) as advance:
            report = await read_item(connection, settings, item_id, int(time.time() * 1000), advance)
        terminal.report(report, show_item, as_json)
        return 0 if report.known else 1

    return with_broker(settings, work)


@click.command(short_help="Show lag, dead letters, the worker.")
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
def status(as_json: bool) -> int:
    """How far each stage has come, how many dead letters there are, and what the worker says of itself.

    Offsets and lag are read from the broker; shards and watermark from the worker's page at KINDRED_WEB.

    \b
    Example:  kindred status
              kindred status --json | jq '.progress[].lag'
    """
    settings = Settings.read(os.environ)

    async def work(connection: Connection) -> None:
        report = await read_status(connection, settings)
        Terminal().report(report, show_status, as_json)

    return with_broker(settings, work)


@click.command("dead-letters", short_help="List unusable events, send them again.")
@click.option("--retry", is_flag=True, help="Send them back to the topics they came from, each once.")
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=20, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with keys, values and headers.")
def dead_letters(retry: bool, count: int, as_json: bool) -> int:
    """Events that could not be used: why, in which stage, from where.

    --retry sends all that were not sent again yet, with key, value, headers and time as they were, when what was wrong
    has been mended.  One that a later event of the same key has overtaken is left out, because it would bring the past
    back.

    \b
    Example:  kindred dead-letters -n 5
              kindred dead-letters --retry
    """
    settings = Settings.read(os.environ)

    async def work(connection: Connection) -> int:
        terminal = Terminal()
        if retry:
            return show_retry(terminal, await retry_dead_letters(connection, settings), as_json)
        letters, total = await newest_dead_letters(connection, settings, count)
        if as_json:
            for letter in letters:
                terminal.json(letter.as_json(), one_line=True)
        else:
            show_dead_letters(terminal, letters, total)
        return 0

    return with_broker(settings, work)
