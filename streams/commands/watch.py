"""`kindred watch` and `kindred watches`: have lists pushed, and see which are."""
# ruff: noqa: D301  (the \b of click is a backspace: it keeps the lines of an example apart)

from __future__ import annotations

import os
import time
from typing import Any

import click
import orjson

from streams.connection import Connection
from streams.kafka.command_session import with_broker
from streams.publishing.change_files import Change, item_key
from streams.publishing.send import publish, rounds_of
from streams.reports.terminal import Terminal
from streams.reports.watches import read_watches, show_watches
from streams.settings import Settings
from streams.topics import WATCH
from streams.watch.standing import WatchReader


@click.command(short_help="Have an item's list pushed when it changes.")
@click.argument("items", nargs=-1, required=True, metavar="ITEM...")
@click.option("-n", "hits", type=click.IntRange(1, 1_000), default=10, show_default=True, help="How many at most.")
@click.option("--filters", metavar="TEXT", help="For example 'category:shoes AND price < 100'.")
@click.option("--attributes", metavar="A,B", help="Of the records; none = all.")
@click.option("--stop", is_flag=True, help="Watch no more; the list is taken from the topic.")
def watch(items: tuple[str, ...], hits: int, filters: str | None, attributes: str | None, stop: bool) -> int:
    """Have the list of what looks like ITEM on similar-changes, and a new one whenever it has changed.

    A watch holds until it is stopped or replaced by another; an item that is not there yet is waited for.

    \b
    Example:  kindred watch shoe-1 shoe-2 -n 8 --attributes title,price
              kindred watch shoe-1 --stop
    """
    settings = Settings.read(os.environ)
    value: bytes | None = None
    if not stop:
        parameters: dict[str, Any] = {"filters": filters} if filters else {}
        if attributes:
            parameters["attributesToRetrieve"] = [name.strip() for name in attributes.split(",") if name.strip()]
        value = orjson.dumps({"maxRecommendations": hits} | ({"queryParameters": parameters} if parameters else {}))
    changes = [Change(item_key(item_id), value) for item_id in items]
    reader = WatchReader(settings)
    for item_id in items:
        reader.watch(item_id, value)  # what is not understood is not published

    async def work(connection: Connection) -> None:
        topic = settings.topic_prefix + WATCH
        count = await publish(connection, topic, rounds_of(changes))
        items_of = "1 item" if count == 1 else f"{count} items"
        Terminal().line(
            f"{items_of} watched no more" if stop else f"{items_of} watched; `kindred watches` shows the lists"
        )

    return with_broker(settings, work)


@click.command(short_help="Show what is watched.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the whole list.")
def watches(as_json: bool) -> int:
    """What is watched, the list that was pushed last, how long ago and why.

    Reads both topics from the beginning, so it works without a worker.

    \b
    Example:  kindred watches
              kindred watches --json | jq .list.reasons
    """
    settings = Settings.read(os.environ)

    async def work(connection: Connection) -> None:
        watched = await read_watches(connection, settings)
        terminal = Terminal()
        if as_json:
            for one in watched:
                terminal.json(one.as_json(), one_line=True)
        else:
            show_watches(terminal, watched, int(time.time() * 1000))

    return with_broker(settings, work)
