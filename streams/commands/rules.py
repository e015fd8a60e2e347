"""`kindred rules`: the rules in force and what they do, and a trial of others before they are published."""
# ruff: noqa: D301  (the \b of click is a backspace: it keeps the lines of an example apart)

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec

from models.errors import BadEvent, BadRequest, Unavailable
from models.field_values import instant_ms
from models.rule import Rule
from models.rules import parse_rule
from streams.connection import Connection
from streams.kafka.command_session import with_broker
from streams.publishing.change_files import item_key, read_rules
from streams.reports.terminal import Terminal
from streams.settings import Settings
from streams.trials.client import TrialClient, TrialOutcome
from streams.trials.messages import TrialCall
from streams.trials.recorded_requests import Recorded, file_requests, recorded_requests
from streams.trials.report import TrialReport, source_of, window_of
from streams.trials.rule_list import ListedRules, show_rules
from streams.trials.table import show_trial

LIMIT = 1_000
FILE_LIMIT = 100_000
LIST_LIMIT = 200
REFUSED_SHOWN = 20
UNITS_MS = {"s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


class Window(click.ParamType):
    """`90s`, `30m`, `1h`, `2d` as ms."""

    name = "1h"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*(s|m|min|h|d)", str(value).strip())
        if found is None or not float(found[1]):
            self.fail(f"expected a time as 30m, 1h or 2d, got {value!r}", parameter, context)
        return int(float(found[1]) * UNITS_MS[found[2]])


class Moment(click.ParamType):
    """ISO 8601 or Unix ms, as Unix ms."""

    name = "2026-12-01T09:00Z"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        try:
            at_ms = instant_ms("--at", value)
        except BadEvent as error:
            self.fail(str(error), parameter, context)
        if at_ms is None or at_ms < 0:
            self.fail(f"expected a moment, got {value!r}", parameter, context)
        return at_ms


_web = click.option("--web", metavar="HOST:PORT", help="The worker to ask, instead of KINDRED_WEB.")


@click.group(short_help="Rules in force; try others.")
def rules() -> None:
    """What the rules in force do, and what others would.

    \b
    Example:  kindred rules list
              kindred rules try sale-first.json --last 1h
    """


@rules.command("list", short_help="Rules in force, what they did.")
@click.option(
    "--last",
    "window_ms",
    type=Window(),
    metavar="TIME",
    default="1h",
    show_default=True,
    help="Of which time requests are.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, FILE_LIMIT),
    default=LIST_LIMIT,
    show_default=True,
    help="The newest so many requests.",
)
@_web
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
def list_rules(window_ms: int, limit: int, web: str | None, as_json: bool) -> int:
    """The rules as a worker has them, first the one that goes first, and to how many requests they apply.

    The newest recorded requests are answered again, for nobody, to count which rules apply and which pins cannot be
    shown now.

    \b
    Example:  kindred rules list
              kindred rules list --last 1d --limit 1000 --json
    """
    settings = Settings.read(os.environ, web=web)

    async def work(connection: Connection) -> None:
        terminal = Terminal()
        recorded = await _recorded(connection, settings, window_ms, limit, terminal)
        async with TrialClient(settings) as client:
            stored = await client.stored_rules()
            outcome = await _replayed(client, TrialCall(), recorded, terminal)
        listed = ListedRules(stored, outcome, recorded.taken, window_ms)
        terminal.report(listed, show_rules, as_json)

    return with_broker(settings, work)


@rules.command("try", short_help="What rules would change.")
@click.argument("source", required=False, metavar="FILE.json|-")
@click.option("--delete", "deleted", multiple=True, metavar="RULE", help="As if it were deleted; may be repeated.")
@click.option("--only", is_flag=True, help="FILE's rules instead of all in force, not laid over them.")
@click.option(
    "--last", "window_ms", type=Window(), metavar="TIME", help="Replay the requests of the last time.  [default: 1h]"
)
@click.option("--requests", "requests", metavar="FILE.jsonl|-", help="Replay these: a request body a line.")
@click.option(
    "--limit", type=click.IntRange(1, FILE_LIMIT), help="At most so many: the newest 1000 of the topic, a file whole."
)
@click.option(
    "--at",
    "at_ms",
    type=Moment(),
    metavar="TIME",
    help="The time by which windows of rules are judged.  [default: now]",
)
@_web
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
def try_rules(
    source: str | None,
    deleted: tuple[str, ...],
    only: bool,
    window_ms: int | None,
    requests: str | None,
    limit: int | None,
    at_ms: int | None,
    web: str | None,
    as_json: bool,
) -> int:
    """Answer recorded requests with the rules in force, and with those of FILE laid over them; show what would change.

    FILE is as `kindred publish rules` takes it.  Nothing is published, and nobody gets these answers.  The requests are
    those on similar-requests, the newest first, or those of a file; catalog and stock are those of now, whenever the
    requests were asked.  Ends with 1 when a rule of FILE cannot be understood.

    \b
    Example:  kindred rules try sale-first.json
              kindred rules try christmas.json --at 2026-12-01T09:00Z --last 1d
              kindred rules try --delete sale-first --requests asked.jsonl --json
    """
    if source is None and not deleted and not only:
        raise click.UsageError("Nothing to try: give a FILE.json or --delete RULE.")
    if requests is not None and window_ms is not None:
        raise click.UsageError("--last and --requests exclude each other.")
    if source == "-" and requests == "-":
        raise click.UsageError("Only one of FILE and --requests can be standard input.")
    settings = Settings.read(os.environ, web=web)
    for each in deleted:
        try:
            item_key(each)
        except BadEvent as error:
            raise click.BadParameter(str(error), param_hint="--delete") from None
    changed, refused = _rules_of(source) if source is not None else ({}, [])
    terminal = Terminal()
    if refused and not changed and not deleted:
        more = [f"and {len(refused) - REFUSED_SHOWN:,} more"] if len(refused) > REFUSED_SHOWN else []
        raise BadRequest("\n".join([f"no rule of {source} can be understood:", *refused[:REFUSED_SHOWN], *more]))
    call = TrialCall([msgspec.Raw(rule.raw) for rule in changed.values()], list(deleted), only, at_ms)
    name = (
        source if source not in (None, "-") else "standard input" if source else "no rule" if only else "the deletion"
    )

    async def replay(recorded: Recorded, told_source: str) -> int:
        async with TrialClient(settings) as client:
            outcome = await _replayed(client, call, recorded, terminal)
        last = outcome.last
        from_worker = [each.message for each in last.refused] if last is not None else []
        report = TrialReport(
            str(name), changed, deleted, [*refused, *from_worker], recorded, told_source, outcome, only
        )
        terminal.report(report, show_trial, as_json)
        return 1 if report.refused else 0

    if requests is not None:
        recorded = _from_file(requests, limit or FILE_LIMIT)
        if not recorded.taken:
            raise BadRequest(f"there are no requests in {requests}: expected a body a line")
        return asyncio.run(replay(recorded, source_of(recorded, None)))
    window_ms = window_ms or UNITS_MS["h"]

    async def work(connection: Connection) -> int:
        recorded = await _recorded(connection, settings, window_ms, limit or LIMIT, terminal)
        if not recorded.taken:
            raise Unavailable(
                f"nobody asked on {settings.topic_prefix}similar-requests in the last {window_of(window_ms)}: "
                "take a longer time (--last 1d), or requests of a file (--requests FILE)"
            )
        return await replay(recorded, source_of(recorded, window_ms))

    return with_broker(settings, work)


def _rules_of(source: str) -> tuple[dict[str, Rule], list[str]]:
    """By id the rules of a file, the last of each id, and why others cannot be understood."""
    name = "standard input" if source == "-" else source
    try:
        text = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise BadRequest(f"{source} cannot be read: {error.strerror or error}") from None
    rules_of: dict[str, Rule] = {}
    refused: list[str] = []
    for change in read_rules(text, name):
        if isinstance(change, BadEvent):
            refused.append(str(change))
        else:
            rule_id = change.key.decode()
            rules_of[rule_id] = parse_rule(rule_id, change.value or b"")
    return rules_of, refused


def _from_file(source: str, limit: int) -> Recorded:
    if source == "-":
        return file_requests(sys.stdin.buffer, "standard input", limit)
    try:
        with Path(source).open("rb") as stream:
            return file_requests(stream, source, limit)
    except OSError as error:
        raise BadRequest(f"{source} cannot be read: {error.strerror or error}") from None


async def _recorded(
    connection: Connection, settings: Settings, window_ms: int, limit: int, terminal: Terminal
) -> Recorded:
    since_ms = int(time.time() * 1000) - window_ms
    with terminal.progress("read", "messages", None) as advance:
        return await recorded_requests(connection, settings, since_ms, limit, advance)


async def _replayed(client: TrialClient, call: TrialCall, recorded: Recorded, terminal: Terminal) -> TrialOutcome:
    with terminal.progress("replayed", "requests", Counter.total(recorded.bodies)) as advance:
        return await client.try_rules(call, recorded.bodies, advance)
