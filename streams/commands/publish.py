"""`kindred publish`: records, stock levels and rules onto the topics that others write."""
# ruff: noqa: D301  (the \b of click is a backspace: it keeps the lines of an example apart)

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import IO

import click
import orjson

from models.errors import BadEvent, BadRequest, KindredError
from streams.connection import Connection
from streams.kafka.command_session import with_broker
from streams.publishing.change_files import (
    Change,
    catalog_changes,
    item_key,
    rule_changes,
    stock_argument,
    stock_changes,
)
from streams.publishing.picture_folder import lies_under, picture_files, picture_record
from streams.publishing.send import publish as publish_changes
from streams.publishing.send import rounds_of, rounds_of_stream
from streams.reports.terminal import Terminal
from streams.settings import Settings
from streams.topics import CATALOG_CHANGES, RULE_CHANGES, STOCK_LEVELS

RATE_TOLD_FROM = 100
"""Changes: the rate of a few is that of connecting."""


@click.group(short_help="Write records, stock or rules.")
def publish() -> None:
    """Write records, stock levels or rules onto their topics.

    \b
    Example:  kindred publish catalog catalog.jsonl
              kindred publish stock shoe-1=3 shoe-2=0
    """


@publish.command(short_help="Records, or a folder of pictures.")
@click.argument("source", required=False, metavar="FILE.jsonl|DIR|-")
@click.option("--delete", "deleted", multiple=True, metavar="ITEM", help="Delete an item; may be repeated.")
def catalog(source: str | None, deleted: tuple[str, ...]) -> int:
    """Publish records, or a folder of pictures, onto catalog-changes.

    A file has one record a line, with its id as objectID; or {"key": ..., "value": ...} for any event, value null
    deletes.  "-" reads standard input, and publishes each line as it comes.  Of a folder every picture becomes an item
    named by its path, and sub-folders become categories; workers read the pictures below their KINDRED_IMAGE_ROOT, so
    set it to the folder or one above it, here too.

    \b
    Example:  kindred publish catalog catalog.jsonl
              KINDRED_IMAGE_ROOT=~/shop kindred publish catalog ~/shop/pictures
              kindred publish catalog --delete shoe-1
    """
    if source is None and not deleted:
        raise click.UsageError("Nothing to publish: give a FILE.jsonl, a DIR of pictures, - or --delete ITEM.")
    settings = Settings.read(os.environ)
    deletes = [Change(item_key(each), None) for each in deleted]
    if source is None:
        return _send(settings, CATALOG_CHANGES, rounds_of(deletes), "deletions", len(deletes))
    if Path(source).is_dir():
        files = list(picture_files(Path(source)))
        if not files:
            raise BadRequest(f"there are no pictures in {source}", 422)
        _hint_at_root(Path(source), settings)
        records = (picture_record(each, Path(source), settings.image_root) for each in files)
        changes = [Change(item_key(each["objectID"]), orjson.dumps(each)) for each in records]
        return _send(settings, CATALOG_CHANGES, rounds_of(changes + deletes), "records", len(changes + deletes))
    with _opened(source) as (stream, total):
        rounds = _chained(rounds_of_stream(stream, _name(source), catalog_changes), rounds_of(deletes))
        return _send(settings, CATALOG_CHANGES, rounds, "records", total)


@publish.command(short_help="Stock levels.")
@click.argument("sources", nargs=-1, required=True, metavar="FILE.jsonl|-|ITEM=QUANTITY...")
def stock(sources: tuple[str, ...]) -> int:
    """Publish stock levels onto stock-levels.

    Levels are absolute.  A file has one a line, {"objectID": "shoe-1", "quantity": 3}, and "at" (Unix ms) if it held
    at another time than now; the newest "at" wins.  "ITEM=" takes a level back: not known any more.

    \b
    Example:  kindred publish stock shoe-1=3 shoe-2=0
              kindred publish stock levels.jsonl
    """
    settings = Settings.read(os.environ)
    if len(sources) == 1 and (sources[0] == "-" or Path(sources[0]).is_file()):
        with _opened(sources[0]) as (stream, total):
            return _send(
                settings, STOCK_LEVELS, rounds_of_stream(stream, _name(sources[0]), stock_changes), "levels", total
            )
    try:
        changes = [stock_argument(each) for each in sources]
    except BadEvent as error:
        raise click.UsageError(str(error)) from error
    return _send(settings, STOCK_LEVELS, rounds_of(changes), "levels", len(changes))


@publish.command(short_help="Merchandising rules.")
@click.argument("source", required=False, metavar="FILE.json|-")
@click.option("--delete", "deleted", multiple=True, metavar="RULE", help="Delete a rule by its id; may be repeated.")
def rules(source: str | None, deleted: tuple[str, ...]) -> int:
    """Publish merchandising rules onto rule-changes.

    A file has one rule or a list of them, in Algolia's form.  All are checked before any is
    published.  A rule is in force for the next request, in less than a second.

    \b
    Example:  kindred publish rules sale-first.json
              kindred publish rules --delete sale-first
    """
    if source is None and not deleted:
        raise click.UsageError("Nothing to publish: give a FILE.json or --delete RULE.")
    settings = Settings.read(os.environ)
    changes = [Change(item_key(each), None) for each in deleted]
    if source is None:
        return _send(settings, RULE_CHANGES, rounds_of(changes), "deletions", len(changes))
    with _opened(source) as (stream, _):
        changes = rule_changes(stream.read(), _name(source)) + changes
    return _send(settings, RULE_CHANGES, rounds_of(changes), "rules", len(changes))


def _send(settings: Settings, topic: str, rounds: AsyncIterable[Sequence[Change]], unit: str, total: int | None) -> int:
    """Publish with progress; an account of it at the end, also when an error ends it early."""
    terminal = Terminal()
    name = settings.topic_prefix + topic

    async def work(connection: Connection) -> None:
        with terminal.progress("published", unit, total) as advance:
            try:
                await publish_changes(connection, name, rounds, advance)
            except KindredError:
                terminal.note(f"published {_counted(advance.done, unit)} to {name}, then this came:")
                raise
        rate = f" in {advance.seconds:.1f} s, {advance.rate:,.0f}/s" if advance.done >= RATE_TOLD_FROM else ""
        terminal.line(f"published {_counted(advance.done, unit)} to {name}{rate}")

    return with_broker(settings, work)


def _counted(count: int, unit: str) -> str:
    """`3 rules`, `1 rule`."""
    return f"{count:,} {unit.removesuffix('s') if count == 1 else unit}"


def _hint_at_root(folder: Path, settings: Settings) -> None:
    if not lies_under(folder, settings.image_root):
        root = (
            f"KINDRED_IMAGE_ROOT is {settings.image_root}" if settings.image_root else "KINDRED_IMAGE_ROOT is not set"
        )
        Terminal().note(
            f"hint: {root}, so the links are absolute: workers read them only on this machine and "
            f"with KINDRED_IMAGE_ROOT={folder.resolve()} or a folder above it",
            style="yellow",
        )


def _name(source: str) -> str:
    return "standard input" if source == "-" else source


@contextlib.contextmanager
def _opened(source: str) -> Iterator[tuple[IO[bytes], int | None]]:
    """A file, or standard input, and how many lines it has (None: not known)."""
    if source == "-":
        yield sys.stdin.buffer, None
        return
    try:
        with Path(source).open("rb") as stream:
            total = sum(1 for line in stream if line.strip())
            stream.seek(0)
            yield stream, total
    except OSError as error:
        raise BadRequest(f"{source} cannot be read: {error.strerror or error}", 400) from None


async def _chained(*parts: AsyncIterable[Sequence[Change]]) -> AsyncIterator[Sequence[Change]]:
    for part in parts:
        async for changes in part:
            yield changes
